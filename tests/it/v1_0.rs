//! The API, version 1.0.

mod forward_auth;
mod token;
mod user;
mod user_auth;
mod user_password;
mod user_sessions;
mod users;
