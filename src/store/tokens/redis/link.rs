//! How Redis is reached: a pool for what comes in several commands, one shared connection for the checks, and what became of it
//! when something failed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime, TimeoutType};
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionInfo, ErrorKind, IntoConnectionInfo, RedisError,
    RedisResult, ServerErrorKind, Value,
};
use secrecy::ExposeSecret;

use super::checks::Checks;
use crate::config;
use crate::store::tokens::InvalidTokensUrl;
use crate::store::{Dependency, PoolStatus, StoreError};

/// The way to a Redis.
pub(super) struct Link {
    checks: Arc<Checks>,
    pool: Pool,
    timeout: Duration,
    /// The server said that it takes no writes: it is a replica, and may not have heard of a revocation.
    read_only: AtomicBool,
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

impl Link {
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

        Ok(Self {
            checks,
            pool,
            timeout: settings.timeout,
            read_only: AtomicBool::new(false),
        })
    }

    pub(super) fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        client(settings).map(drop)
    }

    /// The value of `key` and its remaining life in milliseconds, as the server said them, in one round trip.
    pub(super) async fn ask(&self, key: &str) -> Result<(Value, Value), StoreError> {
        if self.read_only.load(Ordering::Relaxed) {
            return Err(unavailable(Failure::ReadOnly));
        }
        self.checks
            .ask(key)
            .await
            .map_err(|error| self.failed(error))
    }

    /// An error that came as the answer to one of several commands.
    pub(super) fn refused(&self, error: impl Into<RedisError>) -> StoreError {
        self.failed(Attempt::Redis(error.into()))
    }

    pub(super) fn pool_status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            open: status.size,
            idle: status.available,
            max: status.max_size,
        }
    }

    /// Runs commands that change something, and remembers whether the server takes writes.
    pub(super) async fn write<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        match self.run(command).await {
            Ok(value) => {
                if self.read_only.load(Ordering::Relaxed) {
                    self.follow_the_master();
                }
                Ok(value)
            }
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Runs commands on a connection of the pool.
    pub(super) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Attempt> {
        let attempt = async {
            let mut connection = self.pool.get().await.map_err(|error| match error {
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
        let outcome = tokio::time::timeout(self.timeout, attempt).await;
        outcome.unwrap_or(Err(Attempt::TimedOut))
    }

    /// After a replica has refused a write and another connection was let write, the connection of the checks may still
    /// lead to the replica, which keeps it open and may miss revocations.
    fn follow_the_master(&self) {
        if self.checks.reconnect().is_ok() {
            self.read_only.store(false, Ordering::Relaxed);
        }
    }

    fn failed(&self, error: Attempt) -> StoreError {
        let timeout = self.timeout;
        unavailable(match error {
            Attempt::TimedOut => Failure::TimedOut(timeout),
            Attempt::PoolExhausted => Failure::PoolExhausted(timeout),
            Attempt::Redis(error) if error.is_timeout() => Failure::TimedOut(timeout),
            Attempt::Redis(error) if is_read_only(&error) => {
                self.read_only.store(true, Ordering::Relaxed);
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

/// What came of an attempt.
#[derive(Clone)]
pub(super) enum Attempt {
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
