//! What the tests stand on: the service through its own factory, servers, a proxy that breaks, the built program.
//!
//! Nothing here sleeps, but for the proxy that is there to delay, or sends again what failed: a test looks until it sees what
//! it waits for, or panics after far more looks, or a far longer silence of the log, than that takes.

mod app;
mod certificates;
mod cluster;
mod connection;
mod database;
mod delays;
mod dns;
mod nginx;
mod program;
mod proxy;
mod redis;
mod sentinel;

pub(crate) use self::app::{Answer, PASSWORD, TestApp, login};
pub(crate) use self::certificates::Certificates;
pub(crate) use self::cluster::RedisCluster;
pub(crate) use self::connection::{
    Connection, credentials, get, head_of_login, post, post_login, with_token,
};
pub(crate) use self::database::{
    TestDatabase, database, server, wait_for_a_lock, wait_for_sessions,
};
pub(crate) use self::delays::DelayingProxy;
pub(crate) use self::dns::Dns;
pub(crate) use self::nginx::Nginx;
pub(crate) use self::program::{Deployment, Program, Run, run, start};
pub(crate) use self::proxy::Proxy;
pub(crate) use self::redis::{RedisServer, redis_url, tls_port};
pub(crate) use self::sentinel::Sentinel;

/// What a test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// SQLite and the store in this process.
    Embedded,
    /// PostgreSQL and Redis.
    External,
}

/// A name that no other test has.
pub(crate) fn unique(prefix: &str) -> String {
    let mut random = [0; 8];
    getrandom::fill(&mut random).unwrap();
    format!("{prefix}{:016x}", u64::from_be_bytes(random))
}
