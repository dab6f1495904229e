//! Tokens in Redis, for several instances and for other services, which read them with one `GET`.
//!
//! The checks share one connection ([`checks`]): a hundred at once become one write and one read, where a pool would
//! spend two round trips on each. All else goes through the pool, so that a slow write doesn't stand before a check.

mod checks;
mod link;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_redis::Connection;
use redis::{ErrorKind, InfoDict, RedisError, RedisResult, ServerError, Value};

use self::link::{Attempt, Link};
use super::{Holder, InvalidTokensUrl};
use crate::config;
use crate::store::{Dependency, PoolStatus, StoreError};

/// A name that is never written: [`RedisTokens::ping`] needs one to try a write on.
const PROBE_KEY: &str = "claviger:probe";

/// Keys that one step of `SCAN` looks at.
const SCAN_STEP: usize = 1_000;

/// How long a server that refused to tell something is not asked again.
const SILENCE: Duration = Duration::from_mins(1);

/// The tokens of a Redis server.
#[derive(Clone)]
pub struct RedisTokens(Arc<Inner>);

struct Inner {
    link: Link,
    key_prefix: String,
    /// When the server refused to tell whether it may evict.
    silent_since: Mutex<Option<Instant>>,
}

impl RedisTokens {
    pub(super) fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        Ok(Self(Arc::new(Inner {
            link: Link::open(settings)?,
            key_prefix: settings.key_prefix.clone(),
            silent_since: Mutex::new(None),
        })))
    }

    pub(super) fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        Link::check_url(settings)
    }

    pub(super) async fn put(
        &self,
        token: &str,
        user_id: i64,
        ttl: Duration,
    ) -> Result<(), StoreError> {
        let key = self.key(token);
        // One command, so that there is no moment in which the key has no TTL.
        let mut command = redis::cmd("SET");
        command.arg(key).arg(user_id).arg("PX").arg(ttl.as_millis());
        self.0
            .link
            .write(async |connection| command.query_async(connection).await)
            .await
    }

    pub(super) async fn get(&self, token: &str) -> Result<Option<Holder>, StoreError> {
        let (value, ttl) = self.0.link.ask(&self.key(token)).await?;
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
        Ok(expires_in.map(|expires_in| Holder {
            user_id,
            expires_in,
        }))
    }

    pub(super) async fn remove(&self, token: &str) -> Result<bool, StoreError> {
        let key = self.key(token);
        let mut command = redis::cmd("DEL");
        command.arg(key);
        self.0
            .link
            .write(async |connection| command.query_async::<u64>(connection).await)
            .await
            .map(|removed| removed > 0)
    }

    /// Walks the key space: there is no index of all tokens, and this happens once in a life.
    pub(super) async fn clear(&self) -> Result<u64, StoreError> {
        // A replica that has nothing to delete would refuse nothing, and the tokens of its master would live on.
        self.ping().await?;
        let pattern = format!("{}clv_*", escape_glob(&self.0.key_prefix));
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
                let (next, keys): (u64, Vec<Vec<u8>>) = scan.query_async(connection).await?;
                let removed = match keys.as_slice() {
                    [] => 0,
                    keys => redis::cmd("DEL").arg(keys).query_async(connection).await?,
                };
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

    fn key(&self, token: &str) -> String {
        [self.0.key_prefix.as_str(), token].concat()
    }
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

/// The prefix is a plain string, but `MATCH` takes a pattern.
fn escape_glob(prefix: &str) -> String {
    prefix
        .chars()
        .fold(String::new(), |mut pattern, character| {
            if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
                pattern.push('\\');
            }
            pattern.push(character);
            pattern
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_no_pattern() {
        assert_eq!(escape_glob("a*b[c]?\\"), "a\\*b\\[c\\]\\?\\\\");
        assert_eq!(escape_glob("auth:"), "auth:");
    }
}
