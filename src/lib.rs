//! Claviger: a username and a password in, an opaque token out.
//!
//! The path of a login, from the outside in; each room knows those to its right only:
//!
//! ```text
//! main -> cli -> {app, server} -> api -> auth -> store
//! ```
//!
//! - [`server`] takes a connection and hands its requests to [`api`], whose layers give each an id, a span and a time-out;
//! - `api::v1_0` reads the credentials and asks [`auth::Authenticator::log_in`];
//! - which finds the user in [`store::users`], verifies the password in the hash gate, [`auth::hash_pool`], and puts a new
//!   [`auth::token::Token`] into [`store::tokens`].
//!
//! [`app::App::build`] is the factory that wires all this from a [`config::Config`], for the service and for every test.

pub mod api;
pub mod app;
pub mod auth;
pub mod cli;
pub mod config;
pub mod metrics;
pub mod server;
pub mod store;
pub mod telemetry;
