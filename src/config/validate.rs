//! The rules that a configuration has to keep, read top to bottom.

mod tokens;

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use super::report::Report;
use super::url::{holds_credentials, parse_url};
use super::{Config, Database, Limits, Password, Rate, Server, parse_log_filter};

/// The largest request that has to be possible is a change of password: two passwords of 1024 bytes, each byte escaped to six
/// (`\u0061`), are 12 KiB, and the rest is room for the names of the fields.
const SMALLEST_BODY_LIMIT: usize = 13 * 1024;

/// The longest username, in code points.
const LONGEST_USERNAME: usize = 254;

/// The longest password, in bytes.
const LONGEST_PASSWORD: usize = 1024;

/// Costs that are as good as each other, as memory in KiB and passes with one lane (OWASP Password Storage Cheat Sheet).
const OWASP_FLOOR: [(u32, u32); 5] = [
    (47_104, 1),
    (19_456, 2),
    (12_288, 3),
    (9_216, 4),
    (7_168, 5),
];

pub(super) fn validate(config: &Config, report: &mut Report) {
    server(&config.server, report);
    database(&config.database, report);
    tokens::tokens(&config.tokens, report);
    password(&config.password, report);
    limits(&config.limits, report);
    bootstrap(config, report);

    report.advise(
        config.password.queue_timeout < config.server.request_timeout,
        &["password.queue_timeout", "server.request_timeout"],
        "a login can wait for a worker until its request has timed out; let the former be shorter",
    );
    let filter = config.telemetry.log_level.as_deref();
    report.require(
        filter.is_none_or(|text| parse_log_filter(text).is_some()),
        &["telemetry.log_level"],
        "expected `error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,claviger=debug`",
    );
}

fn server(server: &Server, report: &mut Report) {
    report.require(
        !collide(server.listen, server.ops_listen),
        &["server.listen", "server.ops_listen"],
        "these are the same address: give one of them another port",
    );
    let base = &server.base_path;
    let plain = |segment: &str| {
        let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
        !matches!(segment, "" | "." | "..") && segment.bytes().all(unreserved)
    };
    let segments = base
        .strip_prefix('/')
        .map(|rest| rest.split('/').all(plain));
    report.require(
        base.is_empty() || segments == Some(true),
        &["server.base_path"],
        "expected a path such as `/api` or `/id/api` (letters, digits, `-`, `.`, `_`, `~`; no slash at its end), or `/` for none",
    );
    let everybody = server
        .trusted_proxies
        .iter()
        .any(|net| net.prefix_len() == 0);
    report.advise(
        !everybody,
        &["server.trusted_proxies"],
        "every client is trusted, so each can claim any address as its own",
    );
    report.require(
        !server.request_timeout.is_zero(),
        &["server.request_timeout"],
        "expected more than zero",
    );
    report.require(
        server.body_limit >= SMALLEST_BODY_LIMIT,
        &["server.body_limit"],
        "expected `13 KiB` at least, so that the longest passwords fit",
    );
}

/// Whether the second of two listeners would find its port taken. Port 0 is a free one.
fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let wildcard =
        (a.ip().is_unspecified() || b.ip().is_unspecified()) && a.is_ipv4() == b.is_ipv4();
    a.port() == b.port() && a.port() != 0 && (a.ip() == b.ip() || wildcard)
}

fn database(database: &Database, report: &mut Report) {
    let text = database.url.expose_secret();
    let valid = match text.strip_prefix("sqlite:") {
        Some(file) => !file.trim_start_matches('/').is_empty(),
        None => parse_url(text)
            .is_some_and(|server| matches!(server.url.scheme(), "postgres" | "postgresql")),
    };
    report.require(
        valid,
        &["database.url"],
        "expected `postgres://USER:PASSWORD@HOST/NAME` or `sqlite://FILE?mode=rwc`; \
         in a password `/`, `?`, `#`, `@`, `:` and `%` are written as `%2F` and so on",
    );
    credentials(
        ("database.url", &database.url),
        [
            ("database.username", &database.username),
            ("database.password", &database.password),
        ],
        "sqlite:",
        report,
    );
    report.advise(
        !has_unknown_parameter(text),
        &["database.url"],
        "a parameter behind the `?` is unknown, and ignored",
    );
    report.require(
        database.max_connections >= 1,
        &["database.max_connections"],
        "expected 1 at least",
    );
    report.require(
        !database.acquire_timeout.is_zero(),
        &["database.acquire_timeout"],
        "expected more than zero",
    );
}

/// A user and a password stand in the URL or beside it, and only where somebody asks for them.
fn credentials(
    (key, url): (&'static str, &SecretString),
    parts: [(&'static str, &Option<SecretString>); 2],
    embedded: &str,
    report: &mut Report,
) {
    let set = parts.iter().filter(|(_, value)| value.is_some());
    let mut keys: Vec<&str> = set.map(|(key, _)| *key).collect();
    if keys.is_empty() {
        return;
    }
    let zero = |value: &SecretString| value.expose_secret().contains('\0');
    report.require(
        !parts
            .iter()
            .any(|(_, value)| value.as_ref().is_some_and(zero)),
        &keys,
        "expected no zero byte",
    );
    keys.push(key);
    let text = url.expose_secret();
    report.require(
        !text.starts_with(embedded),
        &keys,
        &format!("`{embedded}` asks for no user and no password: remove these settings, or set the URL of a server"),
    );
    report.require(
        !parse_url(text).is_some_and(|server| holds_credentials(&server)),
        &keys,
        "the URL holds a user or a password already: remove them there, or these settings",
    );
}

/// What the driver takes behind the `?` of a `postgres://` URL. Of anything else it logs name and value, and one of them may
/// be a password: that line is kept out of the log, so this is how an operator hears of a slip of the pen.
const POSTGRES_PARAMETERS: [&str; 18] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

fn has_unknown_parameter(text: &str) -> bool {
    let known = |name: &str| {
        POSTGRES_PARAMETERS.contains(&name) || (name.starts_with("options[") && name.ends_with(']'))
    };
    // SQLite's driver refuses what it doesn't know.
    !text.starts_with("sqlite:")
        && parse_url(text)
            .is_some_and(|server| server.url.query_pairs().any(|(name, _)| !known(&name)))
}

fn password(password: &Password, report: &mut Report) {
    let Password {
        memory_kib,
        iterations,
        parallelism,
        ..
    } = *password;
    // RFC 9106, section 3.1: lanes, memory per lane, passes.
    report.require(
        (1..=0x00FF_FFFF).contains(&parallelism),
        &["password.parallelism"],
        "expected 1 to 16777215",
    );
    report.require(
        u64::from(memory_kib) >= 8 * u64::from(parallelism),
        &["password.memory_kib", "password.parallelism"],
        "argon2 needs 8 KiB of memory at least for each lane",
    );
    report.require(
        iterations >= 1,
        &["password.iterations"],
        "expected 1 at least",
    );
    let enough = |(memory, passes): &(u32, u32)| memory_kib >= *memory && iterations >= *passes;
    report.advise(
        OWASP_FLOOR.iter().any(enough),
        &["password.memory_kib", "password.iterations"],
        "the cost of a hash is under OWASP's floor (19456 KiB with 2 passes, or as good as that)",
    );
    report.require(
        (1..=LONGEST_PASSWORD).contains(&password.min_length),
        &["password.min_length"],
        "expected 1 to 1024",
    );
    report.advise(
        password.min_length >= 8,
        &["password.min_length"],
        "NIST SP 800-63B-4 asks for 15 characters, and for 8 where there is a second factor",
    );
    report.require(
        password.foreign_max_mib >= 1,
        &["password.foreign_max_mib"],
        "expected 1 at least",
    );
    report.require(
        password
            .workers
            .is_none_or(|count| (1..=1024).contains(&count)),
        &["password.workers"],
        "expected `auto` or 1 to 1024",
    );
    report.require(
        password
            .queue
            .is_none_or(|count| (1..=1_000_000).contains(&count)),
        &["password.queue"],
        "expected `auto` or 1 to 1000000",
    );
    report.require(
        !password.queue_timeout.is_zero(),
        &["password.queue_timeout"],
        "expected more than zero",
    );
}

fn limits(limits: &Limits, report: &mut Report) {
    let valid = |rate: &Rate| rate.count >= 1 && rate.per >= Duration::from_secs(1);
    let expected = "expected one time at least, within `1s` at least";
    report.require(
        valid(&limits.login_per_user),
        &["limits.login_per_user"],
        expected,
    );
    report.require(
        valid(&limits.login_per_ip),
        &["limits.login_per_ip"],
        expected,
    );
}

/// Only what can be seen without the rules of names and passwords, which are no matter of configuration: the start applies
/// those when it creates the administrator.
fn bootstrap(config: &Config, report: &mut Report) {
    let username = config.bootstrap.username.as_deref();
    let password = config.bootstrap.password.as_ref();
    report.require(
        username.is_some() == password.is_some(),
        &["bootstrap.username", "bootstrap.password"],
        "expected both or none",
    );
    report.require(
        username.is_none_or(|name| (1..=LONGEST_USERNAME).contains(&name.chars().count())),
        &["bootstrap.username"],
        "expected 254 characters at most",
    );
    let length = password.map(|password| password.expose_secret().len());
    report.require(
        length.is_none_or(|bytes| (1..=LONGEST_PASSWORD).contains(&bytes)),
        &["bootstrap.password"],
        "expected 1024 bytes at most",
    );
}
