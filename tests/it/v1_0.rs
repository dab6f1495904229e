//! The API, version 1.0.

mod user_auth;
