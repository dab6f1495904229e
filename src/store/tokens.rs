//! Where tokens are kept: the one seam behind which Redis and the in-process store look alike.
//!
//! A closed set, so an enum and not a trait: every `match` is exhaustive and nothing is boxed.
//! The store knows neither what a token looks like nor who may have one.

mod memory;
mod redis;
mod session;

use std::cmp::Reverse;
use std::fmt;
use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret;

pub use self::memory::MemoryTokens;
pub use self::redis::RedisTokens;
pub use self::session::{Device, Generation, InvalidSessionId, Issued, Session, SessionId};
use super::{Dependency, PoolStatus, StoreError};
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
#[error(
    "expected `memory:`, `redis://HOST:6379/0`, `redis+sentinel://HOST:26379,HOST:26379/MASTER/0` or \
     `redis+cluster://HOST:6379,HOST:6379`, each with `rediss` for TLS and `USER:PASSWORD@` before the first host"
)]
pub struct InvalidTokensUrl;

impl Tokens {
    /// Prepares the store that `settings.url` names. Nothing is sent yet: a store that is away is found out by
    /// [`Tokens::ping`], so that the service can start before it.
    pub fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        if settings.url.expose_secret() == "memory:" {
            return Ok(Self::Memory(MemoryTokens::new(
                MemoryTokens::CAPACITY,
                settings,
            )));
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

    /// Names the installation, whose id is part of the names under which sessions are kept. Until then only checks and log-outs
    /// are possible.
    pub fn belong_to(&self, installation: &str) {
        match self {
            Self::Redis(redis) => redis.belong_to(installation),
            // Nobody else can see these.
            Self::Memory(_) => {}
        }
    }

    /// Whether sessions can be looked up by now, see [`Tokens::belong_to`].
    pub fn knows_sessions(&self) -> bool {
        match self {
            Self::Redis(redis) => redis.knows_sessions(),
            Self::Memory(_) => true,
        }
    }

    /// The state of this user's sessions as a whole, to be read before the password is looked at: whatever ends all sessions
    /// of the user later changes it. A write, which shows that the store takes one. For names that nobody has there are ids below 1.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow, read-only or full.
    pub async fn generation(&self, user_id: i64) -> Result<Generation, StoreError> {
        match self {
            Self::Redis(redis) => redis.generation(user_id).await,
            Self::Memory(memory) => memory.generation(user_id),
        }
    }

    /// Makes `token` stand for `user_id` for `tokens.ttl`, unless the sessions of the user were ended since `generation` was
    /// read. When this has returned [`Issued::Done`], every [`Tokens::get`] finds it until it ends. If the user has as many
    /// sessions as he may, the oldest ends.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow, read-only or full. Nobody will know the token then.
    pub async fn issue(
        &self,
        token: &str,
        user_id: i64,
        username: &str,
        device: &Device,
        generation: &Generation,
    ) -> Result<Issued, StoreError> {
        match self {
            Self::Redis(redis) => {
                redis
                    .issue(token, user_id, username, device, generation)
                    .await
            }
            Self::Memory(memory) => memory.issue(token, user_id, username, device, generation),
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

    /// The session of this id as it was noted; `None` if there is none. That its token is alive [`Tokens::get`] tells.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down or slow, or the database was not read since the start.
    pub async fn session(&self, id: &SessionId) -> Result<Option<Session>, StoreError> {
        match self {
            Self::Redis(redis) => redis.session(id).await,
            Self::Memory(memory) => Ok(memory.session(id)),
        }
    }

    /// The living sessions of a user, the newest first.
    ///
    /// # Errors
    /// As [`Tokens::session`].
    pub async fn sessions(&self, user_id: i64) -> Result<Vec<Session>, StoreError> {
        match self {
            Self::Redis(redis) => redis.sessions(user_id).await,
            Self::Memory(memory) => Ok(memory.sessions(user_id)),
        }
    }

    /// Ends `token` and tells whose it was; `None` if it was not alive. When this has returned, no [`Tokens::get`] finds it.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow or read-only; the token may then still be alive.
    pub async fn remove(&self, token: &str) -> Result<Option<i64>, StoreError> {
        match self {
            Self::Redis(redis) => redis.remove(token).await,
            Self::Memory(memory) => Ok(memory.remove(token)),
        }
    }

    /// Ends one session and tells whether it was alive. When this has returned, no [`Tokens::get`] finds its token.
    ///
    /// # Errors
    /// As [`Tokens::remove`], or the database was not read since the start.
    pub async fn end(&self, id: &SessionId) -> Result<bool, StoreError> {
        match self {
            Self::Redis(redis) => redis.end(id).await,
            Self::Memory(memory) => Ok(memory.end(id)),
        }
    }

    /// Ends all sessions of a user, but for one that is kept, and tells how many there were. When this has returned, no token
    /// that was issued before it was called is found by [`Tokens::get`], nor one of a log-in that read its generation before.
    ///
    /// `revocation` names what may be carried out by several, of whom the last must not end what began after the first was
    /// done: one that was done does nothing.
    ///
    /// # Errors
    /// As [`Tokens::end`]; some of the sessions may then still be alive.
    pub async fn end_all(
        &self,
        user_id: i64,
        keep: Option<&SessionId>,
        revocation: Option<&str>,
    ) -> Result<u64, StoreError> {
        match self {
            Self::Redis(redis) => redis.end_all(user_id, keep, revocation).await,
            Self::Memory(memory) => Ok(memory.end_all(user_id, keep, revocation)),
        }
    }

    /// Ends every session of the installation and tells how many there were. Needed when `users` goes away: ids start from 1 again, and a
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

    /// Issues, checks and ends a token of nobody: all that the store has to be able to do, and may do.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if it can't or may not, [`StoreError::Corrupt`] if it answers something else.
    pub async fn self_test(&self) -> Result<(), StoreError> {
        // Others may be at it at the same time; the ids of users begin at 1.
        let nobody = i64::MIN + i64::from(rand::random::<u32>());
        // Within the names that a Redis user needs the right to, and too short for a token.
        let token = format!("clv_self-test_{:032x}", rand::random::<u128>());
        let generation = self.generation(nobody).await?;
        let device = Device::default();
        let issued = self.issue(&token, nobody, "", &device, &generation).await?;
        let found = self.get(&token).await;
        let noted = self.session(&SessionId::of(nobody, &token)).await;
        // Whatever was found: nothing of it shall stay.
        let ended = self.remove(&token).await?;
        let gone = self.get(&token).await?.is_none();

        let is_nobody = |holder: Holder| holder.user_id == nobody;
        let what = if issued != Issued::Done || !found?.is_some_and(is_nobody) || noted?.is_none() {
            "a token that was issued is not found"
        } else if ended != Some(nobody) || !gone {
            "a token was not ended"
        } else {
            return Ok(());
        };
        Err(StoreError::Corrupt {
            dependency: Dependency::Tokens,
            what: format!("self-test: {what}"),
        })
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

    /// What time it is on each server that counts the life of sessions; none for the in-process store, which has no other clock
    /// than this process.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if one can't be asked, or does not tell.
    pub async fn clocks(&self) -> Result<Vec<SystemTime>, StoreError> {
        match self {
            Self::Redis(redis) => redis.clocks().await,
            Self::Memory(_) => Ok(Vec::new()),
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

/// In the order in which sessions are listed.
fn newest_first(sessions: &mut [Session]) {
    sessions.sort_by_cached_key(|session| Reverse((session.created_at, session.id.to_string())));
}

impl fmt::Debug for Tokens {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Redis(_) => "Tokens::Redis",
            Self::Memory(_) => "Tokens::Memory",
        })
    }
}
