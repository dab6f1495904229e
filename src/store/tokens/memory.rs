//! Tokens in this process: the embedded default, for a single instance. They end with the process.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::time::Instant;

use super::{Holder, StoreError};
use crate::store::Dependency;

/// Enough that two cores seldom meet at one lock, few enough that a sweep of one is short.
const SHARDS: usize = 64;

/// How often a shard throws out what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// A sharded map with expiry and a bound. When it is full a new token is refused; a live one is never dropped, since
/// that would log somebody out to let somebody else in.
#[derive(Clone)]
pub struct MemoryTokens(Arc<Inner>);

struct Inner {
    shards: Vec<RwLock<Shard>>,
    hasher: RandomState,
    len: AtomicUsize,
    capacity: usize,
}

struct Shard {
    entries: HashMap<Box<str>, Entry>,
    swept_at: Instant,
}

#[derive(Clone, Copy)]
struct Entry {
    user_id: i64,
    expires_at: Instant,
}

#[derive(Debug, thiserror::Error)]
#[error("the in-process token store holds as many tokens as it may")]
struct Full;

impl MemoryTokens {
    /// The most tokens that are kept: about 40 MiB.
    pub const CAPACITY: usize = 1 << 18;

    /// An empty store that holds at most `capacity` tokens.
    pub fn new(capacity: usize) -> Self {
        let now = Instant::now();
        let shard = || {
            RwLock::new(Shard {
                entries: HashMap::new(),
                swept_at: now,
            })
        };
        Self(Arc::new(Inner {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            capacity,
        }))
    }

    /// See [`Tokens::put`](super::Tokens::put).
    pub(super) fn put(&self, token: &str, user_id: i64, ttl: Duration) -> Result<(), StoreError> {
        let now = Instant::now();
        self.reserve(now)?;
        let mut shard = self.write(token);
        if now.duration_since(shard.swept_at) >= SWEEP_INTERVAL {
            self.sweep(&mut shard, now);
        }
        if shard
            .entries
            .insert(
                token.into(),
                Entry {
                    user_id,
                    expires_at: now + ttl,
                },
            )
            .is_some()
        {
            self.0.len.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// See [`Tokens::get`](super::Tokens::get).
    pub(super) fn get(&self, token: &str) -> Option<Holder> {
        let entry = self.read(token).entries.get(token).copied()?;
        let expires_in = entry.expires_at.checked_duration_since(Instant::now())?;
        (!expires_in.is_zero()).then_some(Holder {
            user_id: entry.user_id,
            expires_in,
        })
    }

    /// See [`Tokens::remove`](super::Tokens::remove).
    pub(super) fn remove(&self, token: &str) -> bool {
        let Some(entry) = self.write(token).entries.remove(token) else {
            return false;
        };
        self.0.len.fetch_sub(1, Ordering::Relaxed);
        entry.expires_at > Instant::now()
    }

    /// See [`Tokens::clear`](super::Tokens::clear).
    pub(super) fn clear(&self) -> u64 {
        let mut removed = 0;
        for shard in &self.0.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            removed += shard.entries.len();
            self.0.len.fetch_sub(shard.entries.len(), Ordering::Relaxed);
            shard.entries = HashMap::new();
        }
        removed as u64
    }

    /// See [`Tokens::ping`](super::Tokens::ping).
    pub(super) fn ping(&self) -> Result<(), StoreError> {
        self.reserve(Instant::now())?;
        self.0.len.fetch_sub(1, Ordering::Relaxed);
        Ok(())
    }

    /// How many tokens are kept, the expired ones that no sweep has met yet included.
    pub fn len(&self) -> usize {
        self.0.len.load(Ordering::Relaxed)
    }

    /// Whether nothing is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes one place, sweeping all shards first if there is none left.
    fn reserve(&self, now: Instant) -> Result<(), StoreError> {
        let take = || {
            let below = |len| (len < self.0.capacity).then_some(len + 1);
            self.0
                .len
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, below)
                .is_ok()
        };
        if take() {
            return Ok(());
        }
        for shard in &self.0.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            // A full store is asked at every login: without this bound each would walk all of it.
            if now.duration_since(shard.swept_at) >= Duration::from_secs(1) {
                self.sweep(&mut shard, now);
            }
        }
        if take() {
            Ok(())
        } else {
            Err(StoreError::unavailable(Dependency::Tokens, Full))
        }
    }

    fn sweep(&self, shard: &mut Shard, now: Instant) {
        let before = shard.entries.len();
        shard.entries.retain(|_, entry| entry.expires_at > now);
        self.0
            .len
            .fetch_sub(before - shard.entries.len(), Ordering::Relaxed);
        shard.swept_at = now;
    }

    // A panic while a lock is held can't leave a shard half changed, so a poisoned lock is as good as another.

    fn read(&self, token: &str) -> RwLockReadGuard<'_, Shard> {
        self.shard(token)
            .read()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, token: &str) -> RwLockWriteGuard<'_, Shard> {
        self.shard(token)
            .write()
            .unwrap_or_else(PoisonError::into_inner)
    }

    #[expect(
        clippy::indexing_slicing,
        reason = "the remainder is smaller than the number of shards"
    )]
    fn shard(&self, token: &str) -> &RwLock<Shard> {
        let hash =
            usize::try_from(self.0.hasher.hash_one(token) % SHARDS as u64).unwrap_or_default();
        &self.0.shards[hash]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[tokio::test(start_paused = true)]
    async fn expires_to_the_millisecond() {
        let tokens = MemoryTokens::new(10);
        tokens.put("a", 7, Duration::from_secs(10)).unwrap();
        assert_eq!(
            tokens.get("a"),
            Some(Holder {
                user_id: 7,
                expires_in: Duration::from_secs(10)
            })
        );
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(
            tokens.get("a").unwrap().expires_in,
            Duration::from_millis(1)
        );
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(tokens.get("a"), None);
        assert!(!tokens.remove("a"), "an expired token is not alive");
        assert!(tokens.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_when_full_and_keeps_the_living() {
        let tokens = MemoryTokens::new(3);
        for name in ["a", "b", "c"] {
            tokens.put(name, 1, HOUR).unwrap();
        }
        assert!(matches!(tokens.ping(), Err(StoreError::Unavailable { .. })));
        assert!(matches!(
            tokens.put("d", 1, HOUR),
            Err(StoreError::Unavailable { .. })
        ));
        assert!(
            ["a", "b", "c"]
                .iter()
                .all(|name| tokens.get(name).is_some())
        );
        assert!(tokens.remove("b"));
        tokens.ping().unwrap();
        tokens.put("d", 1, HOUR).unwrap();
        assert_eq!(tokens.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn expired_tokens_make_room() {
        let tokens = MemoryTokens::new(2);
        tokens.put("a", 1, Duration::from_secs(5)).unwrap();
        tokens.put("b", 1, Duration::from_secs(5)).unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        tokens.put("c", 1, HOUR).unwrap();
        assert_eq!(tokens.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_bounds_what_expired_tokens_take() {
        let tokens = MemoryTokens::new(100_000);
        for round in 0..100 {
            for number in 0..200 {
                tokens
                    .put(&format!("{round}-{number}"), 1, Duration::from_secs(1))
                    .unwrap();
            }
            tokio::time::advance(SWEEP_INTERVAL).await;
        }
        assert!(tokens.len() <= 400, "{} of 20000 are kept", tokens.len());
    }

    #[tokio::test]
    async fn counts_a_token_once_and_clears_all() {
        let tokens = MemoryTokens::new(10);
        tokens.put("a", 1, HOUR).unwrap();
        tokens.put("a", 2, HOUR).unwrap();
        tokens.put("b", 2, HOUR).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens.get("a").unwrap().user_id, 2);
        assert_eq!(tokens.clear(), 2);
        assert!(tokens.is_empty());
        assert_eq!(tokens.get("a"), None);
    }
}
