//! Tokens in Redis, for several instances and for other services, which read them with one `GET`.
//!
//! A token's key is the contract with those services. All else that is kept stands in one hash for each user
//! ([`record`]), and is never written in one step with a token's key, which may be on another server: the order of the steps
//! ([`sessions`]) makes up for that.

mod checks;
mod link;
mod record;
mod scripts;
mod seen;
mod sessions;

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use deadpool_redis::Connection;
use redis::{ErrorKind, InfoDict, RedisError, RedisResult, ServerError, Value};
use sha2::{Digest as _, Sha256};

use self::link::{Attempt, Link};
use self::scripts::Scripts;
use self::seen::{GATHER, Seen};
use super::session::SessionId;
use super::{Holder, InvalidTokensUrl};
use crate::config::{self, TokenKey};
use crate::store::{Dependency, PoolStatus, StoreError};

/// A name that is never written: [`RedisTokens::ping`] needs one to try a write on.
const PROBE_KEY: &str = "claviger:probe";

/// Keys that one step of `SCAN` looks at.
const SCAN_STEP: usize = 1_000;

/// Sessions whose last use is written in one go.
const TOUCHES: usize = 500;

/// How long a server that refused to tell something is not asked again.
const SILENCE: Duration = Duration::from_mins(1);

/// The tokens of a Redis server.
#[derive(Clone)]
pub struct RedisTokens(Arc<Inner>);

struct Inner {
    link: Link,
    scripts: Scripts,
    seen: Seen,
    key: TokenKey,
    key_prefix: String,
    ttl: Duration,
    idle_ttl: Option<Duration>,
    max_sessions: usize,
    /// Part of the name of every key that is not a token's; `None` until the database was read.
    installation: RwLock<Option<Arc<str>>>,
    /// When the server refused to tell whether it may evict.
    silent_since: Mutex<Option<Instant>>,
}

/// The database was not read since this process began.
#[derive(Debug, thiserror::Error)]
#[error("the id of the installation was not read yet")]
struct NoInstallation;

impl RedisTokens {
    pub(super) fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        Ok(Self(Arc::new(Inner {
            link: Link::open(settings)?,
            scripts: Scripts::new(),
            seen: Seen::default(),
            key: settings.key,
            key_prefix: settings.key_prefix.clone(),
            ttl: settings.ttl,
            idle_ttl: settings.idle_ttl,
            max_sessions: settings.max_sessions_per_user,
            installation: RwLock::default(),
            silent_since: Mutex::new(None),
        })))
    }

    pub(super) fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        Link::check_url(settings)
    }

    pub(super) fn belong_to(&self, installation: &str) {
        let known = &self.0.installation;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(installation) {
            *known = Some(installation.into());
        }
    }

    pub(super) fn knows_sessions(&self) -> bool {
        self.installation().is_some()
    }

    pub(super) async fn get(&self, token: &str) -> Result<Option<Holder>, StoreError> {
        let (value, ttl) = self.0.link.ask(&self.key(&self.part(token))).await?;
        let user_id = match value {
            Value::Nil => return Ok(None),
            Value::BulkString(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|id| id.parse().ok())
                .ok_or_else(not_ours)?,
            Value::ServerError(error) if is_wrong_type(&error) => return Err(not_ours()),
            Value::ServerError(error) => return Err(self.0.link.refused(error)),
            _ => return Err(not_ours()),
        };
        let ttl = match ttl {
            Value::Int(ttl) => ttl,
            Value::ServerError(error) => return Err(self.0.link.refused(error)),
            _ => return Err(not_ours()),
        };
        // The key may expire between the two commands; and what has no TTL was not written by this service.
        let expires_in = u64::try_from(ttl)
            .ok()
            .filter(|ttl| *ttl > 0)
            .map(Duration::from_millis);
        if expires_in.is_some() && self.0.seen.note(token, user_id) {
            tokio::spawn(self.clone().write_seen());
        }
        Ok(expires_in.map(|expires_in| Holder {
            user_id,
            expires_in,
        }))
    }

    /// Writes when the sessions that were checked lately were last seen. Nobody waits for it, and what fails is left out.
    async fn write_seen(self) {
        tokio::time::sleep(GATHER).await;
        let seen = self.0.seen.take();
        for some in seen.chunks(TOUCHES) {
            if let Err(error) = self.touch(some).await {
                tracing::debug!(%error, "when sessions were last seen was not written");
            }
        }
    }

    async fn touch(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        let touch = &self.0.scripts.touch;
        let work = async |connection: &mut Connection, keys: &[(String, &str)]| {
            let Some(((key, name), others)) = keys.split_first() else {
                return Ok(());
            };
            // By itself, so that the server knows the script when the others come.
            let _: Value = touch.run(connection, &[key], &[name]).await?;
            let mut pipeline = redis::pipe();
            for (key, name) in others {
                pipeline.add_command(touch.command(&[key], &[name]));
            }
            pipeline.exec_async(connection).await
        };
        let mut keys = Vec::new();
        for session in sessions {
            keys.push((self.sessions_key(session.user_id())?, session.name()));
        }
        let all = async |connection: &mut Connection| work(connection, &keys).await;
        self.0.link.write(all).await
    }

    /// Walks the key space for the users' hashes: there is no index of all users, and this happens once in a life.
    pub(super) async fn clear(&self) -> Result<u64, StoreError> {
        // A replica that has nothing to delete would refuse nothing, and the tokens of its master would live on.
        self.ping().await?;
        let Some(installation) = self.installation() else {
            return Ok(0);
        };
        let pattern = format!("claviger:{installation}:{{u:*}}:sessions");
        let mut removed = 0;
        let mut cursor: u64 = 0;
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(cursor)
                .arg("MATCH")
                .arg(&pattern)
                .arg("COUNT")
                .arg(SCAN_STEP);
            let step = async |connection: &mut Connection| -> RedisResult<(u64, u64)> {
                let (next, hashes): (u64, Vec<String>) = scan.query_async(connection).await?;
                let mut removed = 0;
                for hash in &hashes {
                    removed += self.clear_user(connection, hash).await?;
                }
                Ok((next, removed))
            };
            let (next, count) = self.0.link.write(step).await?;
            removed += count;
            cursor = next;
            if cursor == 0 {
                return Ok(removed);
            }
        }
    }

    /// Tries a write that changes nothing: `SETRANGE` with an empty value creates no key, and still is refused by a
    /// replica, by a server that is out of memory, that can't persist, or that misses its replicas.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let mut command = redis::cmd("SETRANGE");
        command.arg(PROBE_KEY).arg(0).arg("");
        self.0
            .link
            .write(async |connection| command.query_async::<()>(connection).await)
            .await
    }

    /// Whether the server would evict sessions when its memory is full; `None` where it can't be had from it. Managed servers
    /// mostly forbid `CONFIG`, so it is read from `INFO`, which they let through.
    pub(super) async fn may_evict(&self) -> Option<bool> {
        let silent = || {
            self.0
                .silent_since
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        if silent().is_some_and(|since| since.elapsed() < SILENCE) {
            return None;
        }
        let mut command = redis::cmd("INFO");
        command.arg("memory");
        let info = self
            .0
            .link
            .run(async |connection| command.query_async::<InfoDict>(connection).await)
            .await;
        // A refusal lands in the server's statistics, and in its log of refusals, so it is not provoked every second.
        let refused = |error: &RedisError| {
            matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        };
        if matches!(&info, Err(Attempt::Redis(error)) if refused(error)) {
            *silent() = Some(Instant::now());
        }
        let info = info.ok()?;
        let policy: String = info.get("maxmemory_policy")?;
        let limit: u64 = info.get("maxmemory")?;
        // Every token has a TTL, so any policy that evicts at all may evict it; without a limit none ever does.
        Some(limit > 0 && policy != "noeviction")
    }

    pub(super) fn pool_status(&self) -> PoolStatus {
        self.0.link.pool_status()
    }

    /// What stands for the token in names and records.
    fn part(&self, token: &str) -> String {
        match self.0.key {
            TokenKey::Plain => token.to_owned(),
            TokenKey::Sha256 => hex(&Sha256::digest(token)),
        }
    }

    /// The key of the token that `part` stands for.
    fn key(&self, part: &str) -> String {
        [self.0.key_prefix.as_str(), part].concat()
    }

    /// The keys that `part` has: that of the token, and in its slot that of its absolute end, if there is an idle limit.
    fn keys(&self, part: &str) -> Vec<String> {
        let key = self.key(part);
        let companion = self.companion(&key);
        [Some(key), companion].into_iter().flatten().collect()
    }

    fn companion(&self, key: &str) -> Option<String> {
        self.0.idle_ttl?;
        let installation = self.installation()?;
        Some(format!("claviger:{installation}:{{{key}}}:idle"))
    }

    /// The key of the hash in which the sessions of a user stand.
    fn sessions_key(&self, user_id: i64) -> Result<String, StoreError> {
        let installation = self.installation().ok_or_else(|| {
            // What is missing is in the database.
            StoreError::unavailable(Dependency::Database, NoInstallation)
        })?;
        Ok(format!("claviger:{installation}:{{u:{user_id}}}:sessions"))
    }

    fn installation(&self) -> Option<Arc<str>> {
        let installation = &self.0.installation;
        installation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// `GET` on something that is no string.
fn is_wrong_type(error: &ServerError) -> bool {
    error.code() == "WRONGTYPE"
}

/// Another program wrote a key of the form of a token.
fn not_ours() -> StoreError {
    let what = "the value of a token key is no user id".to_owned();
    StoreError::Corrupt {
        dependency: Dependency::Tokens,
        what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_lower_case_and_keeps_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
