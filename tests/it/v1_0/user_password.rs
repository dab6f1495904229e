//! `/v1.0/user/password`: change the own password.

mod change;
mod input;
mod outage;

/// What the tests change the password to.
const NEW: &str = "another long password";
