//! `claviger doctor`: looks at all that the service depends on, and says what to do.

use std::io::{self, Write};
use std::time::{Duration, SystemTime};

use secrecy::{ExposeSecret, SecretString};

use super::exit::Failure;
use crate::app;
use crate::auth::hash_pool::sizing::Sizing;
use crate::config::{Loaded, MigrateMode};
use crate::store::schema::{Comparison, Schema};
use crate::store::tokens::Tokens;
use crate::store::users::Users;
use crate::store::{database, with_sources};

/// How far clocks may be apart before it is worth a word. Sessions are counted by the clock of Redis alone; times that people
/// compare come from all of them.
const SKEW: Duration = Duration::from_secs(2);

/// What was found, told as it is found.
struct Findings<'a> {
    out: &'a mut dyn Write,
    failed: bool,
}

impl Findings<'_> {
    fn ok(&mut self, part: &str, what: &str) -> io::Result<()> {
        writeln!(self.out, "ok    {part}: {what}")
    }

    /// It works, and may not be what was meant.
    fn warn(&mut self, part: &str, what: &str, remedy: &str) -> io::Result<()> {
        writeln!(self.out, "warn  {part}: {what}\n      {remedy}")
    }

    fn fail(&mut self, part: &str, what: &str, remedy: &str) -> io::Result<()> {
        self.failed = true;
        writeln!(self.out, "FAIL  {part}: {what}\n      {remedy}")
    }
}

pub(super) async fn run(loaded: &Loaded, out: &mut dyn Write) -> Result<(), Failure> {
    let errors = app::check(&loaded.config);
    super::refuse(loaded, &errors)?;
    let mut findings = Findings { out, failed: false };
    if loaded.warnings.is_empty() {
        findings.ok("configuration", "valid")?;
    } else {
        findings.warn(
            "configuration",
            "valid, with the warnings above",
            "See docs/configuration.md.",
        )?;
    }
    hash_gate(loaded, &mut findings)?;
    let installation = look_at_database(loaded, &mut findings).await?;
    look_at_tokens(loaded, installation, &mut findings).await?;
    if findings.failed {
        return Err(Failure::Unavailable(
            "something that the service needs does not work".to_owned(),
        ));
    }
    Ok(())
}

fn hash_gate(loaded: &Loaded, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let sizing = Sizing::detect(&loaded.config.password);
    let sizing = sizing.map_err(|error| super::not_built(loaded, error.into()))?;
    if sizing.is_short_for_foreign() {
        findings.warn(
            "hash gate",
            &sizing.to_string(),
            "Memory is short for hashes from elsewhere that need password.foreign_max_mib: such users can't log in. Raise the \
             memory limit, or lower password.workers.",
        )?;
    } else {
        findings.ok("hash gate", &sizing.to_string())?;
    }
    Ok(())
}

/// Tells the id of the installation, under which sessions are kept.
async fn look_at_database(
    loaded: &Loaded,
    findings: &mut Findings<'_>,
) -> Result<Option<String>, Failure> {
    let settings = &loaded.config.database;
    let place = place(&settings.url);
    if database::is_missing(settings) {
        findings.warn(
            "database",
            &format!("{place}: there is no such file"),
            "The service makes it when it starts. Is this the folder, and are these the settings of the service?",
        )?;
        return Ok(None);
    }
    let db = database::connect(settings).await?;
    if let Err(error) = Users::new(db.clone()).ping().await {
        findings.fail(
            "database",
            &format!("{place}: {}", with_sources(&error)),
            "Start it, and compare database.url, its user and its password. One that may only be read, as a replica, is of no \
             use.",
        )?;
        return Ok(None);
    }
    findings.ok("database", &format!("{place}: it can be read and written"))?;

    let before = SystemTime::now();
    match database::clock(&db).await {
        Ok(clock) => clocks(findings, "the database", before, clock.as_slice())?,
        Err(error) => findings.fail(
            "clock",
            &with_sources(&error),
            "The database was there a moment before: look again.",
        )?,
    }

    let schema = Schema::new(db);
    let status = match schema.status().await {
        Ok(status) => status,
        Err(error) => {
            findings.fail(
                "schema",
                &with_sources(&error),
                "Grant the user of database.url the right to read all tables.",
            )?;
            return Ok(None);
        }
    };
    let version = format!("version {} of {}", status.version, status.known);
    match status.comparison {
        Comparison::Current => findings.ok("schema", &version)?,
        Comparison::Ahead => findings.warn(
            "schema",
            &format!("ahead of this binary, which knows {version}"),
            "Fine during a roll-out or after a roll-back.",
        )?,
        Comparison::Behind if loaded.config.migrate() == MigrateMode::Auto => findings.warn(
            "schema",
            &version,
            "The service migrates it when it starts.",
        )?,
        Comparison::Behind => findings.fail("schema", &version, "Run `claviger migrate up`.")?,
    }
    Ok(schema.installation_id().await.unwrap_or_default())
}

async fn look_at_tokens(
    loaded: &Loaded,
    installation: Option<String>,
    findings: &mut Findings<'_>,
) -> Result<(), Failure> {
    let tokens = Tokens::open(&loaded.config.tokens)?;
    let place = place(&loaded.config.tokens.url);
    if tokens.is_local() {
        findings.warn(
            "token store",
            "memory: tokens end with the service, and no other instance or service knows them",
            "Set tokens.url to a Redis for more than one instance.",
        )?;
        return Ok(());
    }
    if let Err(error) = tokens.ping().await {
        findings.fail(
            "token store",
            &format!("{place}: {}", with_sources(&error)),
            "Start it, and compare tokens.url, its user and its password.",
        )?;
        return Ok(());
    }
    let Some(installation) = installation else {
        findings.warn(
            "token store",
            "it can be read and written; more can't be tried without the schema",
            "Look again after the database works.",
        )?;
        return Ok(());
    };
    tokens.belong_to(&installation);
    if let Err(error) = tokens.self_test().await {
        findings.fail(
            "token store",
            &with_sources(&error),
            "It took a write, but no token could be issued, checked and ended: compare the rights of its user with \
             docs/operations.md.",
        )?;
        return Ok(());
    }
    findings.ok(
        "token store",
        &format!("{place}: a token was issued, checked and ended"),
    )?;

    let before = SystemTime::now();
    match tokens.clocks().await {
        Ok(found) => clocks(findings, "the token store", before, &found)?,
        Err(error) => findings.fail(
            "clock",
            &with_sources(&error),
            "Grant the user of tokens.url the command TIME.",
        )?,
    }
    match tokens.may_evict().await {
        Some(false) => findings.ok("eviction", "no session ends for want of memory")?,
        Some(true) => findings.warn(
            "eviction",
            "sessions may end when the memory of Redis is full",
            "Set maxmemory-policy to noeviction: a login is then refused, and no session is lost.",
        )?,
        None => findings.warn(
            "eviction",
            "not known: the user of tokens.url may not run INFO",
            "See that maxmemory-policy is noeviction.",
        )?,
    }
    Ok(())
}

/// Compares clocks that were read since `before` with the one of this machine.
fn clocks(
    findings: &mut Findings<'_>,
    whose: &str,
    before: SystemTime,
    clocks: &[SystemTime],
) -> io::Result<()> {
    let Some(worst) = clocks
        .iter()
        .map(|clock| skew(*clock, before, SystemTime::now()))
        .max()
    else {
        return Ok(());
    };
    if worst <= SKEW {
        return findings.ok("clock", &format!("that of {whose} and this one agree"));
    }
    findings.warn(
        "clock",
        &format!(
            "that of {whose} and this one are {} s apart",
            worst.as_secs()
        ),
        "Have both set by NTP.",
    )
}

/// A URL without what may be secret in it: user, password and parameters.
fn place(url: &SecretString) -> String {
    let url = url.expose_secret();
    let url = url.split(['?', '#']).next().unwrap_or_default();
    match url.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            format!("{scheme}://{rest}")
        }
        None => url.to_owned(),
    }
}

/// How far a clock that was read between two moments is away from them.
fn skew(clock: SystemTime, before: SystemTime, after: SystemTime) -> Duration {
    let behind = before.duration_since(clock).unwrap_or_default();
    let ahead = clock.duration_since(after).unwrap_or_default();
    behind.max(ahead)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_is_compared_with_the_time_in_which_it_was_read() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        let apart = |clock| skew(at(clock), at(100), at(110)).as_secs();
        assert_eq!((apart(100), apart(105), apart(110)), (0, 0, 0));
        assert_eq!((apart(97), apart(114)), (3, 4));
    }

    #[test]
    fn a_place_has_no_secrets() {
        for (url, shown) in [
            ("sqlite://claviger.db?mode=rwc", "sqlite://claviger.db"),
            ("memory:", "memory:"),
            (
                "postgres://u:p@db:5432/claviger?sslpassword=p",
                "postgres://db:5432/claviger",
            ),
            (
                "redis+sentinel://u:p@a:1,b:2/main/0",
                "redis+sentinel://a:1,b:2/main/0",
            ),
        ] {
            assert_eq!(place(&url.into()), shown);
        }
    }

    #[test]
    fn clocks_that_are_apart_are_told() {
        let told = |seconds: u64| {
            let mut out = Vec::new();
            let mut findings = Findings {
                out: &mut out,
                failed: false,
            };
            let now = SystemTime::now();
            let clock = [now, now + Duration::from_secs(seconds)];
            clocks(&mut findings, "the database", now, &clock).unwrap();
            assert!(!findings.failed);
            String::from_utf8(out).unwrap()
        };
        assert!(told(0).starts_with("ok    clock: "));
        assert!(told(3600).starts_with("warn  clock: that of the database and this one are 3"));
    }
}
