//! The API, version 1.0.

mod token;
mod user_auth;
