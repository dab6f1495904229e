//! The rules of section `tokens`.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use url::Url;

use super::credentials;
use crate::config::Tokens;
use crate::config::report::Report;
use crate::config::url::parse_url;

/// Ten years: a token that lives longer is a mistake.
const LONGEST_TTL: Duration = Duration::from_hours(3_650 * 24);

/// A login looks at all sessions of its user.
const MOST_SESSIONS: usize = 1000;

pub(super) fn tokens(tokens: &Tokens, report: &mut Report) {
    let text = tokens.url.expose_secret();
    let problem = if text == "memory:" {
        None
    } else {
        parse_url(text).map_or(Some(TOKENS_URL), |server| redis_problem(&server.url))
    };
    report.require(
        problem.is_none(),
        &["tokens.url"],
        problem.unwrap_or_default(),
    );
    credentials(
        ("tokens.url", &tokens.url),
        [
            ("tokens.username", &tokens.username),
            ("tokens.password", &tokens.password),
        ],
        "memory:",
        report,
    );
    report.require(
        tokens.username.is_none() || tokens.password.is_some(),
        &["tokens.username", "tokens.password"],
        "Redis takes no user without a password",
    );
    report.require(
        tokens.ttl >= Duration::from_secs(1)
            && tokens.ttl <= LONGEST_TTL
            && tokens.ttl.subsec_nanos() == 0,
        &["tokens.ttl"],
        "expected whole seconds, from `1s` to `3650d`",
    );
    idle(tokens, report);
    let prefix = &tokens.key_prefix;
    report.require(
        prefix.bytes().all(|byte| byte.is_ascii_graphic()),
        &["tokens.key_prefix"],
        "expected printable ASCII characters without blanks",
    );
    report.require(
        !prefix.contains(['{', '}']),
        &["tokens.key_prefix"],
        "expected no `{` and no `}`: Redis Cluster takes what is between them for the whole key",
    );
    report.require(
        !prefix.starts_with("claviger:"),
        &["tokens.key_prefix"],
        "expected another beginning: `claviger:` is what the service's private keys begin with",
    );
    report.require(
        !tokens.timeout.is_zero(),
        &["tokens.timeout"],
        "expected more than zero",
    );
    report.require(
        tokens.pool_size >= 1,
        &["tokens.pool_size"],
        "expected 1 at least",
    );
    report.advise(
        tokens.wait_replicas == 0 || text != "memory:",
        &["tokens.wait_replicas", "tokens.url"],
        "with `memory:` there are no replicas to wait for",
    );
    report.require(
        (1..=MOST_SESSIONS).contains(&tokens.max_sessions_per_user),
        &["tokens.max_sessions_per_user"],
        "expected 1 to 1000",
    );
}

const TOKENS_URL: &str = "expected `memory:`, `redis://:PASSWORD@HOST:6379/0`, `redis+sentinel://HOST:26379,HOST:26379/MASTER/0` \
                          or `redis+cluster://HOST:6379,HOST:6379`, each with `rediss` for TLS; \
                          in a password `/`, `?`, `#`, `@`, `:` and `%` are written as `%2F` and so on";

/// What is wrong with the URL of a Redis.
fn redis_problem(url: &Url) -> Option<&'static str> {
    if url.host_str().is_none_or(str::is_empty) {
        return Some(TOKENS_URL);
    }
    let is_number = |database: &str| database.is_empty() || database.parse::<u16>().is_ok();
    let path = url.path().trim_start_matches('/');
    match url.scheme() {
        "redis" | "rediss" => (!is_number(path)).then_some(TOKENS_URL),
        "redis+sentinel" | "rediss+sentinel" => {
            let path = url.path().trim_end_matches('/');
            let path = path.strip_prefix('/').unwrap_or_default();
            let (master, database) = path.split_once('/').unwrap_or((path, ""));
            (master.is_empty() || !is_number(database)).then_some(
                "expected the name of the master behind the Sentinels, and the number of the database behind that: \
                 `redis+sentinel://HOST:26379,HOST:26379/MASTER/0`",
            )
        }
        "redis+cluster" | "rediss+cluster" => (!path.is_empty())
            .then_some("expected nothing behind the hosts: a Redis Cluster has one database only"),
        _ => Some(TOKENS_URL),
    }
}

fn idle(tokens: &Tokens, report: &mut Report) {
    let Some(idle_ttl) = tokens.idle_ttl else {
        return;
    };
    report.require(
        idle_ttl >= Duration::from_secs(1) && idle_ttl.subsec_nanos() == 0,
        &["tokens.idle_ttl"],
        "expected whole seconds, `1s` at least",
    );
    report.require(
        idle_ttl <= tokens.ttl,
        &["tokens.idle_ttl", "tokens.ttl"],
        "the former is longer than the latter, and would never end a session",
    );
    report.advise(
        idle_ttl >= Duration::from_mins(1),
        &["tokens.idle_ttl"],
        "people who read a page for a minute are logged out",
    );
}
