//! The API, version 1.0.

mod forward_auth;
mod token;
mod user_auth;
