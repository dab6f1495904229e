//! The settings of the service: plain data, and how it is loaded.
//!
//! [`fn@load`] merges the sources into a [`Config`]; later ones win: built-in defaults, one TOML file, the environment.
//! `setting.rs` lists every key once, and the parsing, `config.example.toml`, `config show` and the table in
//! `docs/configuration.md` all follow from that list. To add a key: a field here and in `Default`, a line there, a rule in
//! `validate.rs`.

mod clients;
mod document;
mod environment;
mod file;
mod load;
mod log_filter;
mod report;
mod setting;
mod url;
mod validate;
mod value;

pub use document::{example, show, show_json, table};
pub use environment::Environment;
pub use load::{Loaded, Sources, load};
pub use log_filter::parse_log_filter;
pub use report::{ConfigError, Origin};
pub use value::parse_duration;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::{ExposeSecret, SecretString};

/// Everything that can be set. Built-in defaults, a TOML file and the environment are merged into one of these;
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
    /// Who may introspect and revoke tokens, by name.
    pub clients: BTreeMap<String, Client>,
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
    /// `postgres://` or `sqlite://`. After loading it holds `username` and `password` too: nothing else reads those two.
    pub url: SecretString,
    /// The user in `url`, if a setting of its own says it.
    pub username: Option<SecretString>,
    /// The password in `url`, if a setting of its own says it.
    pub password: Option<SecretString>,
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
    /// `memory:`, `redis://`, `redis+sentinel://` or `redis+cluster://`, each of the last three with `rediss` for TLS. After
    /// loading it holds `username` and `password` too, as that of the database.
    pub url: SecretString,
    /// The user in `url`, if a setting of its own says it.
    pub username: Option<SecretString>,
    /// The password in `url`, if a setting of its own says it.
    pub password: Option<SecretString>,
    /// Lifetime of a token.
    pub ttl: Duration,
    /// The longest that a token may go unchecked. Unset: as long as it lives.
    pub idle_ttl: Option<Duration>,
    /// What the key of a token is made of.
    pub key: TokenKey,
    /// What precedes the token in the key.
    pub key_prefix: String,
    /// The longest wait for the token store.
    pub timeout: Duration,
    /// Connections for all but the check.
    pub pool_size: usize,
    /// Replicas that have to know of a revocation before it is answered.
    pub wait_replicas: u32,
    /// The most sessions that a user may have; with one more the oldest ends.
    pub max_sessions_per_user: usize,
}

/// What the key of a token is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenKey {
    /// The token as the client sends it.
    Plain,
    /// Its SHA-256 in lower-case hex, so that nobody who reads the store can use what he reads.
    Sha256,
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
    /// The most memory, in MiB, that a hash from elsewhere may need to be verified. One such hash is verified at a time.
    pub foreign_max_mib: u32,
}

/// Section `limits`.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Whether attempts to log in are throttled.
    pub enabled: bool,
    /// Failures of one username, and attempts that are under way.
    pub login_per_user: Rate,
    /// Failures from one network.
    pub login_per_ip: Rate,
}

/// How often something may happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many times, at least once.
    pub count: u32,
    /// Within which time.
    pub per: Duration,
}

/// Section `bootstrap`.
#[derive(Clone, Debug, Default)]
pub struct Bootstrap {
    /// Name of the administrator that is created while `users` is empty.
    pub username: Option<String>,
    /// Its password, under the policy.
    pub password: Option<SecretString>,
}

/// Section `clients.NAME`: a machine that may introspect and revoke tokens.
#[derive(Clone, Debug)]
pub struct Client {
    /// What it proves itself with, by HTTP Basic.
    pub secret: SecretString,
}

/// Section `telemetry`.
#[derive(Clone, Debug)]
pub struct Telemetry {
    /// Unset: text in dev mode, JSON in production.
    pub log_format: Option<LogFormat>,
    /// Filter directives; see [`parse_log_filter`]. Unset: see [`Config::log_filter`].
    pub log_level: Option<String>,
    /// The `OTEL_*` variables as they stand, by name, without those that are empty. Secret, since
    /// `OTEL_EXPORTER_OTLP_HEADERS` carries credentials. They are the environment's only: no file sets them.
    pub otel: BTreeMap<String, SecretString>,
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
                username: None,
                password: None,
                max_connections: 10,
                acquire_timeout: Duration::from_secs(2),
                migrate: None,
                schema_version: None,
            },
            tokens: Tokens {
                url: SecretString::from("memory:"),
                username: None,
                password: None,
                ttl: Duration::from_hours(24),
                idle_ttl: None,
                key: TokenKey::Plain,
                key_prefix: String::new(),
                timeout: Duration::from_secs(1),
                pool_size: 16,
                wait_replicas: 0,
                max_sessions_per_user: 100,
            },
            password: Password {
                memory_kib: 19_456,
                iterations: 2,
                parallelism: 1,
                min_length: 15,
                workers: None,
                queue: None,
                queue_timeout: Duration::from_secs(2),
                foreign_max_mib: 128,
            },
            limits: Limits {
                enabled: true,
                login_per_user: Rate {
                    count: 20,
                    per: Duration::from_mins(15),
                },
                login_per_ip: Rate {
                    count: 100,
                    per: Duration::from_mins(15),
                },
            },
            bootstrap: Bootstrap::default(),
            clients: BTreeMap::new(),
            telemetry: Telemetry {
                log_format: None,
                log_level: None,
                otel: BTreeMap::new(),
            },
        }
    }
}

impl Config {
    /// Whether `/docs` is served.
    pub fn docs(&self) -> bool {
        self.server.docs.unwrap_or(self.mode == Mode::Dev)
    }

    /// What the start does about the schema's version. `database.schema_version` overrides it.
    pub fn migrate(&self) -> MigrateMode {
        let automatic = self.mode == Mode::Dev || self.database.is_sqlite();
        self.database.migrate.unwrap_or(if automatic {
            MigrateMode::Auto
        } else {
            MigrateMode::Check
        })
    }

    /// How log lines are written.
    pub fn log_format(&self) -> LogFormat {
        self.telemetry.log_format.unwrap_or(match self.mode {
            Mode::Dev => LogFormat::Text,
            Mode::Prod => LogFormat::Json,
        })
    }

    /// Which events are logged, as filter directives.
    ///
    /// Debug level in dev mode is for this crate only: at that level database and HTTP libraries write so much that nobody
    /// would find our own lines, and nobody has checked that theirs hold no secret.
    pub fn log_filter(&self) -> &str {
        self.telemetry
            .log_level
            .as_deref()
            .unwrap_or(match self.mode {
                Mode::Dev => "info,claviger=debug",
                Mode::Prod => "info",
            })
    }

    /// The same settings, with what depends on the mode filled in.
    fn resolved(&self) -> Self {
        let mut resolved = self.clone();
        resolved.server.docs = Some(self.docs());
        resolved.database.migrate = Some(self.migrate());
        resolved.telemetry.log_format = Some(self.log_format());
        resolved.telemetry.log_level = Some(self.log_filter().to_owned());
        resolved
    }
}

impl Database {
    /// Whether `url` is one of SQLite.
    pub fn is_sqlite(&self) -> bool {
        self.url.expose_secret().starts_with("sqlite:")
    }
}

impl Telemetry {
    /// Whether spans are exported: an endpoint is set, and nothing else turns it off (OpenTelemetry specification,
    /// "Environment Variable Specification").
    pub fn traces(&self) -> bool {
        let is = |name: &str, value: &str| {
            self.variable(name)
                .is_some_and(|found| found.eq_ignore_ascii_case(value))
        };
        let endpoint = self
            .variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
            .or(self.variable("OTEL_EXPORTER_OTLP_ENDPOINT"));
        endpoint.is_some()
            && !is("OTEL_SDK_DISABLED", "true")
            && !is("OTEL_TRACES_EXPORTER", "none")
    }

    /// The name under which spans are exported.
    pub fn service_name(&self) -> &str {
        self.variable("OTEL_SERVICE_NAME").unwrap_or("claviger")
    }

    fn variable(&self, name: &str) -> Option<&str> {
        self.otel.get(name).map(ExposeSecret::expose_secret)
    }
}
