//! Claviger: a username and a password in, an opaque token out.

pub mod auth;
pub mod cli;
pub mod config;
pub mod store;
