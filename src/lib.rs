//! Claviger: a username and a password in, an opaque token out.

pub mod cli;
pub mod config;
pub mod store;
