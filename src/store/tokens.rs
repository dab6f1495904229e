//! Where tokens are kept: the one seam behind which Redis and the in-process store look alike.
//!
//! A closed set, so an enum and not a trait: every `match` is exhaustive and nothing is boxed.
//! The store knows neither what a token looks like nor who may have one.

mod memory;
mod redis;

use std::fmt;
use std::time::Duration;

use secrecy::ExposeSecret;

pub use self::memory::MemoryTokens;
pub use self::redis::RedisTokens;
use super::{PoolStatus, StoreError};
use crate::config;

/// What a live token stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// `users.id`.
    pub user_id: i64,
    /// Remaining lifetime, always more than zero.
    pub expires_in: Duration,
}

/// The token store.
#[derive(Clone)]
pub enum Tokens {
    /// A Redis server that other services read too.
    Redis(RedisTokens),
    /// This process; for a single instance.
    Memory(MemoryTokens),
}

/// `tokens.url` can't be used. Its text never repeats the URL, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected `memory:`, or the form redis://USER:PASSWORD@HOST:PORT/DATABASE or rediss://...")]
pub struct InvalidTokensUrl;

impl Tokens {
    /// Prepares the store that `settings.url` names. Nothing is sent yet: a store that is away is found out by
    /// [`Tokens::ping`], so that the service can start before it.
    pub fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        if settings.url.expose_secret() == "memory:" {
            return Ok(Self::Memory(MemoryTokens::new(MemoryTokens::CAPACITY)));
        }
        RedisTokens::open(settings).map(Self::Redis)
    }

    /// Whether `tokens.url` can be used. Nobody is asked.
    ///
    /// # Errors
    /// It can't.
    pub fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        if settings.url.expose_secret() == "memory:" {
            return Ok(());
        }
        RedisTokens::check_url(settings)
    }

    /// Stores `token` for `user_id`, to be forgotten after `ttl`. When this has returned, every [`Tokens::get`] finds it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow, read-only or full.
    pub async fn put(&self, token: &str, user_id: i64, ttl: Duration) -> Result<(), StoreError> {
        match self {
            Self::Redis(redis) => redis.put(token, user_id, ttl).await,
            Self::Memory(memory) => memory.put(token, user_id, ttl),
        }
    }

    /// Who holds `token`; `None` if it is unknown or expired. One round trip.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down or slow, or is a replica that may have missed a revocation.
    pub async fn get(&self, token: &str) -> Result<Option<Holder>, StoreError> {
        match self {
            Self::Redis(redis) => redis.get(token).await,
            Self::Memory(memory) => Ok(memory.get(token)),
        }
    }

    /// Forgets `token` and tells whether it was alive. When this has returned, no [`Tokens::get`] finds it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow or read-only; the token may then still be alive.
    pub async fn remove(&self, token: &str) -> Result<bool, StoreError> {
        match self {
            Self::Redis(redis) => redis.remove(token).await,
            Self::Memory(memory) => Ok(memory.remove(token)),
        }
    }

    /// Forgets every token and tells how many there were. Needed when `users` goes away: ids start from 1 again, and a
    /// token of the old user 1 must not become one of the new.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow or read-only; some tokens may then still be alive.
    pub async fn clear(&self) -> Result<u64, StoreError> {
        match self {
            Self::Redis(redis) => redis.clear().await,
            Self::Memory(memory) => Ok(memory.clear()),
        }
    }

    /// Whether a token could be stored now: asked before a password is hashed, and by the readiness probe.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it couldn't.
    pub async fn ping(&self) -> Result<(), StoreError> {
        match self {
            Self::Redis(redis) => redis.ping().await,
            Self::Memory(memory) => memory.ping(),
        }
    }

    /// Whether the store would end sessions for want of memory; `None` where it does not tell. Never an error: nothing hangs
    /// on it but a metric.
    pub async fn may_evict(&self) -> Option<bool> {
        match self {
            Self::Redis(redis) => redis.may_evict().await,
            // It refuses what does not fit.
            Self::Memory(_) => Some(false),
        }
    }

    /// Whether the store lives in this process, so that other processes can't reach it.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Memory(_))
    }

    /// The connections of the pool; all zero for the in-process store.
    pub fn pool_status(&self) -> PoolStatus {
        match self {
            Self::Redis(redis) => redis.pool_status(),
            Self::Memory(_) => PoolStatus::default(),
        }
    }
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Redis(_) => "Tokens::Redis",
            Self::Memory(_) => "Tokens::Memory",
        })
    }
}
