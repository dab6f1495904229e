//! Why Redis couldn't do what it was asked to, in words that quote no command.

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerError, ServerErrorKind, Value};

use crate::store::{Dependency, StoreError};

/// What came of an attempt.
#[derive(Clone)]
pub(super) enum Attempt {
    TimedOut,
    PoolExhausted,
    Redis(RedisError),
}

impl From<RedisError> for Attempt {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

impl From<Attempt> for RedisError {
    fn from(attempt: Attempt) -> Self {
        match attempt {
            Attempt::Redis(error) => error,
            Attempt::TimedOut | Attempt::PoolExhausted => {
                io::Error::from(io::ErrorKind::TimedOut).into()
            }
        }
    }
}

impl Attempt {
    /// What the caller is told; `timeout` is how long was waited.
    pub(super) fn into_store_error(self, timeout: Duration) -> StoreError {
        let failure = match self {
            Self::TimedOut => Failure::TimedOut(timeout),
            Self::PoolExhausted => Failure::PoolExhausted(timeout),
            Self::Redis(error) if error.is_timeout() => Failure::TimedOut(timeout),
            Self::Redis(error) => Failure::of(&error),
        };
        StoreError::unavailable(Dependency::Tokens, failure)
    }
}

/// Why Redis couldn't be asked. Only the error's code, for the text of a server error can quote the command, and with
/// it a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Failure {
    #[error("no answer within {0:?}")]
    TimedOut(Duration),
    #[error("no free connection within {0:?}")]
    PoolExhausted(Duration),
    #[error("the server refuses writes (READONLY)")]
    ReadOnly,
    #[error("the server took no writes when that was last tried")]
    Suspect,
    #[error("the server answered {0}")]
    Refused(String),
    #[error("the connection failed: {0}")]
    Connection(String),
    #[error("no sentinel answers: {0}")]
    NoSentinel(String),
    #[error("no sentinel watches a master of the name in tokens.url")]
    UnknownMaster,
    #[error("no server of the cluster answers: {0}")]
    NoNode(String),
    #[error("no server of the cluster holds the slot of a key")]
    Uncovered,
    #[error("a connection was lost, so that the replicas can't be asked what they know")]
    Lost,
    #[error("{acknowledged} of {wanted} replicas acknowledged within {waited:?}")]
    NotReplicated {
        acknowledged: u64,
        wanted: u32,
        waited: Duration,
    },
}

impl Failure {
    pub(super) fn of(error: &RedisError) -> Self {
        if let Some(own) = own(error) {
            return own.clone();
        }
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::ReadOnly) => Self::ReadOnly,
            ErrorKind::Server(_) | ErrorKind::Extension => {
                Self::Refused(error.code().unwrap_or("an error").to_owned())
            }
            ErrorKind::Io => Self::Connection(error.to_string()),
            kind => Self::Connection(format!("{kind:?}")),
        }
    }
}

/// So that the commands, whose errors are those of their library, can fail for our reasons.
impl From<Failure> for RedisError {
    fn from(failure: Failure) -> Self {
        io::Error::other(failure).into()
    }
}

fn own(error: &RedisError) -> Option<&Failure> {
    let source = error.source()?;
    let io: &io::Error = source
        .downcast_ref::<Arc<dyn Error + Send + Sync>>()?
        .downcast_ref()?;
    io.get_ref()?.downcast_ref()
}

/// The refusals that say more than that of one command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The server is no master, or may be none any more: it is a replica, or a master that has lost its replicas, and they may
    /// have another.
    NoMaster,
    /// The server can't answer now: it or another may soon.
    NotNow,
}

impl Refusal {
    pub(super) fn of(error: &ServerError) -> Option<Self> {
        match error.code() {
            "READONLY" | "NOREPLICAS" => Some(Self::NoMaster),
            "LOADING" | "MASTERDOWN" | "CLUSTERDOWN" | "TRYAGAIN" => Some(Self::NotNow),
            _ => None,
        }
    }

    /// The first of them among some answers.
    pub(super) fn among(answers: &[Value]) -> Option<Self> {
        let mut refusals = answers.iter().filter_map(|answer| match answer {
            Value::ServerError(error) => Self::of(error),
            _ => None,
        });
        refusals.next()
    }
}

/// Another program wrote a key of the form of a token.
pub(super) fn not_ours() -> StoreError {
    let what = "the value of a token key is no user id".to_owned();
    StoreError::Corrupt {
        dependency: Dependency::Tokens,
        what,
    }
}

pub(super) fn unexpected(what: &'static str) -> RedisError {
    RedisError::from((ErrorKind::UnexpectedReturnType, what))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_of_our_own_survives_the_librarys_error() {
        let failure = Failure::NotReplicated {
            acknowledged: 0,
            wanted: 1,
            waited: Duration::from_secs(1),
        };
        let error = RedisError::from(failure.clone());
        assert_eq!(Failure::of(&error), failure);
        assert_eq!(Failure::of(&error.clone()), failure);
    }

    #[test]
    fn an_error_of_the_server_is_told_by_its_code_alone() {
        let error =
            redis::make_extension_error("NOREPLICAS".into(), Some("quotes clv_secret".into()));
        assert_eq!(Failure::of(&error), Failure::Refused("NOREPLICAS".into()));
    }
}
