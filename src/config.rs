//! The settings of the service: plain data, and how it is loaded.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::SecretString;

/// Everything that can be set. Built-in defaults, a TOML file, the environment and flags are merged into one of these;
/// nothing else in the service reads the environment.
#[derive(Clone, Debug)]
pub struct Config {
    /// Development or production.
    pub mode: Mode,
    /// The two listeners and how requests are treated.
    pub server: Server,
    /// Where users are kept.
    pub database: Database,
    /// Where tokens are kept and how long they live.
    pub tokens: Tokens,
    /// The cost of a password hash and the size of the hash gate.
    pub password: Password,
    /// Defence against guessing.
    pub limits: Limits,
    /// The first administrator.
    pub bootstrap: Bootstrap,
    /// Logs.
    pub telemetry: Telemetry,
}

/// What the service is run for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Readable logs at debug level, the documentation page, automatic migration.
    Dev,
    /// JSON logs at info level.
    Prod,
}

/// Section `server`.
#[derive(Clone, Debug)]
pub struct Server {
    /// Address of the API.
    pub listen: SocketAddr,
    /// Address of `/metrics`, `/healthz` and `/readyz`. Never served by `listen`.
    pub ops_listen: SocketAddr,
    /// Prefix that is folded away before routing; empty for none.
    pub base_path: String,
    /// Whether `/docs` is served. Unset: only in dev mode.
    pub docs: Option<bool>,
    /// Peers whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// The longest that a request may take.
    pub request_timeout: Duration,
    /// The longest that open requests are waited for at shutdown.
    pub shutdown_grace: Duration,
    /// The largest request body, in bytes.
    pub body_limit: usize,
}

/// Section `database`.
#[derive(Clone, Debug)]
pub struct Database {
    /// `postgres://` or `sqlite://`.
    pub url: SecretString,
    /// Upper bound of the connection pool.
    pub max_connections: u32,
    /// The longest wait for a connection, and for an answer.
    pub acquire_timeout: Duration,
    /// What the start does about the schema's version. Unset: `Auto` for SQLite and in dev mode, else `Check`.
    pub migrate: Option<MigrateMode>,
    /// Overrides `migrate`: the start goes to this version, up or down.
    pub schema_version: Option<usize>,
}

/// What the start does about the schema's version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MigrateMode {
    /// Migrate up.
    Auto,
    /// Only compare.
    Check,
}

/// Section `tokens`.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// `memory:`, `redis://` or `rediss://`.
    pub url: SecretString,
    /// Lifetime of a token.
    pub ttl: Duration,
    /// What precedes the token in the key.
    pub key_prefix: String,
    /// The longest wait for the token store.
    pub timeout: Duration,
    /// Connections for what comes in several commands.
    pub pool_size: usize,
}

/// Section `password`.
#[derive(Clone, Debug)]
pub struct Password {
    /// argon2id memory, in KiB.
    pub memory_kib: u32,
    /// argon2id passes.
    pub iterations: u32,
    /// argon2id lanes.
    pub parallelism: u32,
    /// The fewest code points of a new password.
    pub min_length: usize,
    /// Hash workers. Unset: from the CPU and memory that the cgroup allows.
    pub workers: Option<usize>,
    /// Logins that may wait for a worker. Unset: what can be hashed within `queue_timeout`.
    pub queue: Option<usize>,
    /// The longest wait for a worker.
    pub queue_timeout: Duration,
}

/// Section `limits`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether logins are throttled.
    pub enabled: bool,
}

/// Section `bootstrap`.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// Name of the administrator that is created while `users` is empty.
    pub username: Option<String>,
    /// Its password, under the policy.
    pub password: Option<SecretString>,
}

/// Section `telemetry`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Unset: text in dev mode, JSON in production.
    pub log_format: Option<LogFormat>,
    /// Filter directives as in `RUST_LOG`. Unset: `debug` in dev mode, `info` in production.
    pub log_level: Option<String>,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Prod,
            server: Server {
                listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 8000),
                ops_listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9000),
                base_path: "/api".to_owned(),
                docs: None,
                trusted_proxies: Vec::new(),
                request_timeout: Duration::from_secs(10),
                shutdown_grace: Duration::from_secs(25),
                body_limit: 16 * 1024,
            },
            database: Database {
                url: SecretString::from("sqlite://claviger.db?mode=rwc"),
                max_connections: 10,
                acquire_timeout: Duration::from_secs(2),
                migrate: None,
                schema_version: None,
            },
            tokens: Tokens {
                url: SecretString::from("memory:"),
                ttl: Duration::from_secs(24 * 60 * 60),
                key_prefix: String::new(),
                timeout: Duration::from_secs(1),
                pool_size: 16,
            },
            password: Password {
                memory_kib: 19_456,
                iterations: 2,
                parallelism: 1,
                min_length: 15,
                workers: None,
                queue: None,
                queue_timeout: Duration::from_secs(2),
            },
            limits: Limits { enabled: true },
            bootstrap: Bootstrap::default(),
            telemetry: Telemetry { log_format: None, log_level: None },
        }
    }
}
