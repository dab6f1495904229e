//! `/v1.0/user/auth`: log in, check, log out.

mod check;
mod foreign_hashes;
mod forms;
mod input;
mod log_in;
mod throttle;
