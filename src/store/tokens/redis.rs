//! Tokens in Redis, for several instances and for other services, which read them with one `GET`.
//!
//! The checks share one connection ([`checks`]): a hundred at once become one write and one read, where a pool would
//! spend two round trips on each. All else goes through the pool, so that a slow write doesn't stand before a check.

mod checks;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, TimeoutType};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, InfoDict, IntoConnectionInfo,
    RedisError, RedisResult, ServerError, ServerErrorKind, Value,
};
use secrecy::ExposeSecret;

use self::checks::Checks;
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
    checks: Arc<Checks>,
    pool: Pool,
    key_prefix: String,
    timeout: Duration,
    /// The server said that it takes no writes: it is a replica, and may not have heard of a revocation.
    read_only: AtomicBool,
    /// When the server refused to tell whether it may evict.
    silent_since: Mutex<Option<Instant>>,
}

/// Why Redis couldn't be asked. Only the error's code, for the text of a server error can quote the command, and with
/// it a token.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("no free connection within {0:?}")]
    PoolExhausted(Duration),
    #[error("the server refuses writes (READONLY)")]
    ReadOnly,
    #[error("the server answered {0}")]
    Refused(String),
    #[error("the connection failed: {0}")]
    Connection(String),
}

impl RedisTokens {
    pub(super) fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        // Dropped, here and below: the text of such an error can quote the URL.
        let invalid = |_: RedisError| InvalidTokensUrl;
        let (client, info) = client(settings)?;
        let checks = Checks::new(client, settings.timeout).map_err(invalid)?;

        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(settings.timeout))
            .set_response_timeout(Some(settings.timeout));
        let manager = Manager::new_with_config(info, config).map_err(invalid)?;
        let pool = Pool::builder(manager)
            .max_size(settings.pool_size)
            .wait_timeout(Some(settings.timeout))
            .create_timeout(Some(settings.timeout))
            .recycle_timeout(Some(settings.timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_| InvalidTokensUrl)?;

        Ok(Self(Arc::new(Inner {
            checks,
            pool,
            key_prefix: settings.key_prefix.clone(),
            timeout: settings.timeout,
            read_only: AtomicBool::new(false),
            silent_since: Mutex::new(None),
        })))
    }

    pub(super) fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        client(settings).map(drop)
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
        self.write(async |connection| command.query_async(connection).await)
            .await
    }

    pub(super) async fn get(&self, token: &str) -> Result<Option<Holder>, StoreError> {
        if self.0.read_only.load(Ordering::Relaxed) {
            return Err(unavailable(Failure::ReadOnly));
        }
        let (value, ttl) = match self.0.checks.ask(&self.key(token)).await {
            Ok(answer) => answer,
            Err(error) => return Err(self.failed(error)),
        };
        let user_id = match value {
            Value::Nil => return Ok(None),
            Value::BulkString(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|id| id.parse().ok())
                .ok_or_else(not_ours)?,
            Value::ServerError(error) if is_wrong_type(&error) => return Err(not_ours()),
            Value::ServerError(error) => return Err(self.failed(Attempt::Redis(error.into()))),
            _ => return Err(not_ours()),
        };
        let ttl = match ttl {
            Value::Int(ttl) => ttl,
            Value::ServerError(error) => return Err(self.failed(Attempt::Redis(error.into()))),
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
        self.write(async |connection| command.query_async::<u64>(connection).await)
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
            let (next, count) = self.write(step).await?;
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
        self.write(async |connection| command.query_async::<()>(connection).await)
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
        let status = self.0.pool.status();
        PoolStatus {
            open: status.size,
            idle: status.available,
            max: status.max_size,
        }
    }

    /// Runs commands that change something, and remembers whether the server takes writes.
    async fn write<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        match self.run(command).await {
            Ok(value) => {
                if self.0.read_only.load(Ordering::Relaxed) {
                    self.follow_the_master();
                }
                Ok(value)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Runs commands on a connection of the pool.
    async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Attempt> {
        let attempt = async {
            let mut connection = self.0.pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => Attempt::Redis(error),
                PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle) => Attempt::TimedOut,
                PoolError::Timeout(TimeoutType::Wait)
                | PoolError::Closed
                | PoolError::NoRuntimeSpecified
                | PoolError::PostCreateHook(_) => Attempt::PoolExhausted,
            })?;
            let result = command(&mut connection).await.map_err(Attempt::Redis);
            if let Err(Attempt::Redis(error)) = &result
                && (error.is_unrecoverable_error() || error.is_timeout() || is_read_only(error))
            {
                // Not back into the pool: an answer may still come, and after a failover the name may lead elsewhere.
                drop(Connection::take(connection));
            }
            result
        };
        // One bound over all: a server that hangs lets each idle connection of the pool run into a time-out of its own.
        let outcome = tokio::time::timeout(self.0.timeout, attempt).await;
        outcome.unwrap_or(Err(Attempt::TimedOut))
    }

    /// After a replica has refused a write and another connection was let write, the connection of the checks may still
    /// lead to the replica, which keeps it open and may miss revocations.
    fn follow_the_master(&self) {
        if self.0.checks.reconnect().is_ok() {
            self.0.read_only.store(false, Ordering::Relaxed);
        }
    }

    fn failed(&self, error: Attempt) -> StoreError {
        let timeout = self.0.timeout;
        unavailable(match error {
            Attempt::TimedOut => Failure::TimedOut(timeout),
            Attempt::PoolExhausted => Failure::PoolExhausted(timeout),
            Attempt::Redis(error) if error.is_timeout() => Failure::TimedOut(timeout),
            Attempt::Redis(error) if is_read_only(&error) => {
                self.0.read_only.store(true, Ordering::Relaxed);
                Failure::ReadOnly
            }
            Attempt::Redis(error) => match error.kind() {
                ErrorKind::Server(_) | ErrorKind::Extension => {
                    Failure::Refused(error.code().unwrap_or("an error").to_owned())
                }
                ErrorKind::Io => Failure::Connection(error.to_string()),
                kind => Failure::Connection(format!("{kind:?}")),
            },
        })
    }

    fn key(&self, token: &str) -> String {
        [self.0.key_prefix.as_str(), token].concat()
    }
}

/// What makes connections, from `tokens.url`.
fn client(settings: &config::Tokens) -> Result<(Client, ConnectionInfo), InvalidTokensUrl> {
    let invalid = |_: RedisError| InvalidTokensUrl;
    // A dead peer that never says goodbye is given up after this long, so that the next check gets a new connection.
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(settings.timeout.max(MIN_USER_TIMEOUT) * 2);
    let url = settings.url.expose_secret();
    let info = url.into_connection_info().map_err(invalid)?;
    let info = info.set_tcp_settings(tcp);
    let client = Client::open(info.clone()).map_err(invalid)?;
    Ok((client, info))
}

/// Below this a busy network would be taken for a dead one.
const MIN_USER_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Clone)]
enum Attempt {
    TimedOut,
    PoolExhausted,
    Redis(RedisError),
}

fn unavailable(failure: Failure) -> StoreError {
    StoreError::unavailable(Dependency::Tokens, failure)
}

fn is_read_only(error: &RedisError) -> bool {
    error.kind() == ErrorKind::Server(ServerErrorKind::ReadOnly)
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
