//! The list of all settings.

use toml::Value;

use super::url::SecretUrl;
use super::value::{
    Address, Auto, Flag, Frequency, Kind, Networks, Number, Optional, Prefix, Raw, Secret, Size,
    Span, Text, Word,
};
use super::{Config, LogFormat, MigrateMode, Mode, TokenKey};

/// What the names of our environment variables begin with.
pub(super) const VARIABLE_PREFIX: &str = "CLAVIGER_";

/// What follows the name of a secret to name a file that holds it.
pub(super) const FILE_SUFFIX: &str = "_file";

/// One key: how it is named, what it means, and how it gets into and out of a [`Config`].
pub(super) struct Setting {
    /// `section.key`, or the key alone for the one that has no section.
    pub(super) key: &'static str,
    /// For people; Markdown without links.
    pub(super) meaning: &'static str,
    /// What holds while an optional setting is not set.
    pub(super) unset: &'static str,
    /// A name that other tools know the environment variable by.
    pub(super) well_known: Option<&'static str>,
    /// Whether the value is masked wherever it is shown, and has a `_FILE` twin.
    pub(super) secret: bool,
    /// Parses a value into its field; the error says what is expected.
    pub(super) set: fn(&mut Config, Raw) -> Result<(), &'static str>,
    /// The field for people to read, with secrets masked; `None` if it is not set.
    pub(super) get: fn(&Config) -> Option<Value>,
}

impl Setting {
    const fn unset(mut self, meaning: &'static str) -> Self {
        self.unset = meaning;
        self
    }

    const fn well_known(mut self, variable: &'static str) -> Self {
        self.well_known = Some(variable);
        self
    }

    /// The section, empty for the top of the file, and the key in it.
    pub(super) fn section_and_name(&self) -> (&'static str, &'static str) {
        self.key.split_once('.').unwrap_or(("", self.key))
    }

    /// Our name of the environment variable.
    pub(super) fn variable(&self) -> String {
        let name = self.key.to_uppercase().replace('.', "__");
        format!("{VARIABLE_PREFIX}{name}")
    }
}

/// `setting!(section.key: Kind, "meaning")`.
macro_rules! setting {
    ($section:ident.$name:ident: $kind:ty, $meaning:literal) => {
        setting!(@ concat!(stringify!($section), ".", stringify!($name)), $kind, $meaning, $section.$name)
    };
    ($name:ident: $kind:ty, $meaning:literal) => {
        setting!(@ stringify!($name), $kind, $meaning, $name)
    };
    (@ $key:expr, $kind:ty, $meaning:literal, $($field:ident).+) => {
        Setting {
            key: $key,
            meaning: $meaning,
            unset: "",
            well_known: None,
            secret: <$kind as Kind>::SECRET,
            set: |config, raw| {
                config.$($field).+ = <$kind as Kind>::parse(raw)?;
                Ok(())
            },
            get: |config| <$kind as Kind>::render(&config.$($field).+),
        }
    };
}

/// Every setting, in the order in which they are documented.
pub(super) static SETTINGS: &[Setting] = &[
    setting!(mode: Word<Mode>,
        "`dev`: readable logs at debug level, the page `/docs`, automatic migration. `prod`: JSON logs at info level."
    ).well_known("API_MODE"),

    setting!(server.listen: Address, "Address of the API. Plain HTTP: a proxy in front ends TLS."),
    setting!(server.ops_listen: Address,
        "Address of `/metrics`, `/healthz` and `/readyz`, which the API's address never serves."
    ),
    setting!(server.base_path: Prefix,
        "Path prefix that is folded away if the proxy did not strip it. `/` or empty: none."
    ),
    setting!(server.docs: Optional<Flag>, "Whether the page `/docs` is served.")
        .unset("only in dev mode"),
    setting!(server.trusted_proxies: Networks,
        "Addresses and networks (CIDR) whose `X-Forwarded-For` is believed, read right to left."
    ),
    setting!(server.request_timeout: Span,
        "The longest that a request may take (then it is 503, or 408 if its body did not arrive), and that a connection may stay unused."
    ),
    setting!(server.shutdown_grace: Span, "The longest that open requests are waited for at shutdown."),
    setting!(server.body_limit: Size,
        "The largest request body. At least `13 KiB`: two of the longest passwords, fully escaped, have to fit."
    ),

    setting!(database.url: SecretUrl,
        "Where users are kept: `postgres://USER:PASSWORD@HOST/NAME` or `sqlite://FILE?mode=rwc`."
    ).well_known("DATABASE_URL"),
    setting!(database.username: Optional<Secret>, "The user, for a `postgres://` URL that names none, as it is: not percent-encoded.")
        .unset("the URL says it"),
    setting!(database.password: Optional<Secret>, "The password, for a `postgres://` URL that names no user, as it is.")
        .unset("the URL says it"),
    setting!(database.max_connections: Number<u32>, "Upper bound of the connection pool."),
    setting!(database.acquire_timeout: Span, "The longest wait for a connection of the pool."),
    setting!(database.migrate: Optional<Word<MigrateMode>>,
        "What the start does about the version of the schema. `auto`: migrate up. `check`: only compare."
    ).unset("`auto` for SQLite and in dev mode, else `check`"),
    setting!(database.schema_version: Optional<Number<usize>>,
        "The start goes to this version of the schema, up or down, whatever `migrate` says."
    ).unset("`migrate` decides"),

    setting!(tokens.url: SecretUrl,
        "Where tokens are kept: `memory:` (in this process, for one instance), `redis://:PASSWORD@HOST:6379/0`, `redis+sentinel://HOST:26379,HOST:26379/MASTER/0` or `redis+cluster://HOST:6379,HOST:6379`; `rediss` in place of `redis` for TLS."
    ).well_known("REDIS_URL"),
    setting!(tokens.username: Optional<Secret>, "The user, for a Redis URL that names none, as it is: not percent-encoded.")
        .unset("the URL says it"),
    setting!(tokens.password: Optional<Secret>, "The password, for a Redis URL that names no user, as it is.")
        .unset("the URL says it"),
    setting!(tokens.ttl: Span, "Lifetime of a token, in whole seconds."),
    setting!(tokens.idle_ttl: Optional<Span>,
        "A token that nobody checked for so long ends, in whole seconds. A service that reads Redis itself does not prolong it."
    ).unset("it lives for `ttl`"),
    setting!(tokens.key: Word<TokenKey>,
        "What the key in Redis is made of. `plain`: the token as the client sends it. `sha256`: its SHA-256 in lower-case hex, so that a dump of Redis holds no usable token. Changing it ends all sessions; putting it back makes those alive again that have not expired."
    ),
    setting!(tokens.key_prefix: Text,
        "What precedes the token, or its hash, in the key. Changing it ends all sessions; putting it back makes those alive again that have not expired."
    ),
    setting!(tokens.timeout: Span, "The longest wait for an answer of the token store."),
    setting!(tokens.pool_size: Number<usize>,
        "Connections to Redis for all but the check, which has a shared one of its own."
    ),
    setting!(tokens.wait_replicas: Number<u32>,
        "Replicas of Redis that have to know of a revocation before it is answered. If they don't within `timeout`, it is 503."
    ),
    setting!(tokens.max_sessions_per_user: Number<usize>,
        "The most sessions that a user may have, `1` to `1000`; with one more the oldest ends."
    ),

    setting!(password.memory_kib: Number<u32>, "argon2id memory of one hash, in KiB."),
    setting!(password.iterations: Number<u32>, "argon2id passes over that memory."),
    setting!(password.parallelism: Number<u32>, "argon2id lanes."),
    setting!(password.min_length: Number<usize>, "The fewest code points of a new password."),
    setting!(password.foreign_max_mib: Number<u32>,
        "The most memory, in MiB, that a hash from elsewhere may need; a costlier one is refused."
    ),
    setting!(password.workers: Auto<Number<usize>>,
        "Threads that hash; each keeps `memory_kib`. `auto`: as many as the CPU and the memory of the cgroup allow."
    ),
    setting!(password.queue: Auto<Number<usize>>,
        "Logins that may wait for a worker. `auto`: what can be hashed within `queue_timeout`."
    ),
    setting!(password.queue_timeout: Span,
        "The longest wait for a worker; a login that would wait longer is answered 503 at once."
    ),

    setting!(limits.enabled: Flag,
        "Whether attempts to log in are throttled."
    ),
    setting!(limits.login_per_user: Frequency, "Wrong passwords of one username within a time, attempts under way included. Then each further one has to wait, 1 s at first and twice as long each time, up to 15 min."),
    setting!(limits.login_per_ip: Frequency, "Wrong passwords from one IPv4 address, or one IPv6 network of 64 bits, within a time; ten times as many from one of 48 bits. Then none is looked at until the time is over."),

    setting!(bootstrap.username: Optional<Text>,
        "Name of the administrator that is created when the service first becomes ready and there are no users."
    ).unset("none; in dev mode `admin`"),
    setting!(bootstrap.password: Optional<Secret>, "The password of that administrator, under the password policy.")
        .unset("none; in dev mode a random one"),

    setting!(telemetry.log_format: Optional<Word<LogFormat>>, "`text` for people or `json`, one object a line.")
        .unset("`text` in dev mode, else `json`"),
    setting!(telemetry.log_level: Optional<Text>,
        "What is logged: `error`, `warn`, `info`, `debug`, `trace`, or filter directives such as `info,claviger=debug`."
    ).unset("`info,claviger=debug` in dev mode, else `info`").well_known("RUST_LOG"),
];

/// The setting with this key.
pub(super) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The setting that was probably meant by a key that doesn't exist.
pub(super) fn nearest(key: &str) -> Option<&'static Setting> {
    let near = SETTINGS
        .iter()
        .map(|setting| (strsim::levenshtein(key, setting.key), setting))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, _)| *distance <= 2);
    if let Some((_, setting)) = near {
        return Some(setting);
    }
    // The right name in the wrong section, if there is one such only.
    let name = key.rsplit('.').next()?;
    let mut named = SETTINGS
        .iter()
        .filter(|setting| setting.section_and_name().1 == name);
    named.next().filter(|_| named.next().is_none())
}
