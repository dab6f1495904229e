//! Tokens in this process: the embedded default, for a single instance. They end with the process.
//!
//! Locks are taken in one order: that of a user's shard, then that of a token's. The check takes only the latter.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, SystemTime};

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::session::{Device, Generation, Issued, Session, SessionId};
use super::{Holder, StoreError, newest_first};
use crate::config;
use crate::store::Dependency;

/// Enough that two cores seldom meet at one lock, few enough that a sweep of one is short.
const SHARDS: usize = 64;

/// How often a shard throws out what has expired.
const SWEEP_INTERVAL: Duration = Duration::from_mins(1);

/// Revocations that are remembered, so that the one that carries them out last ends nothing new.
const REVOCATIONS: usize = 1_024;

/// A sharded map with expiry and a bound. When it is full a new token is refused; a live one is never dropped, since
/// that would log somebody out to let somebody else in.
#[derive(Clone)]
pub struct MemoryTokens(Arc<Inner>);

struct Inner {
    shards: Vec<RwLock<Shard>>,
    users: Vec<Mutex<Users>>,
    revocations: Mutex<VecDeque<String>>,
    hasher: RandomState,
    len: AtomicUsize,
    capacity: usize,
    ttl: Duration,
    idle_ttl: Option<Duration>,
    max_sessions: usize,
    started: Instant,
}

struct Shard {
    entries: HashMap<Box<str>, Entry>,
    swept_at: Instant,
}

/// Some of the users. They share a generation, so that nothing has to be kept of a user without sessions: a log-in that is
/// lost because of another user begins again, and that is all.
#[derive(Default)]
struct Users {
    generation: u64,
    tokens: HashMap<i64, Vec<Box<str>>>,
}

struct Entry {
    user_id: i64,
    username: Box<str>,
    device: Device,
    created_at: DateTime<Utc>,
    /// Seconds since 1970, a whole minute.
    last_seen: AtomicI64,
    /// The absolute end.
    expires_at: Instant,
    /// The end unless it is checked before, in milliseconds since the store was made.
    idle_at: Option<AtomicU64>,
}

#[derive(Debug, thiserror::Error)]
#[error("the in-process token store holds as many tokens as it may")]
struct Full;

impl MemoryTokens {
    /// The most tokens that are kept: about 60 MiB.
    pub const CAPACITY: usize = 1 << 17;

    /// An empty store that holds at most `capacity` tokens.
    pub fn new(capacity: usize, settings: &config::Tokens) -> Self {
        let now = Instant::now();
        let shard = || {
            RwLock::new(Shard {
                entries: HashMap::new(),
                swept_at: now,
            })
        };
        Self(Arc::new(Inner {
            shards: std::iter::repeat_with(shard).take(SHARDS).collect(),
            users: std::iter::repeat_with(Mutex::default)
                .take(SHARDS)
                .collect(),
            revocations: Mutex::default(),
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            capacity,
            ttl: settings.ttl,
            idle_ttl: settings.idle_ttl,
            max_sessions: settings.max_sessions_per_user,
            started: now,
        }))
    }

    /// See [`Tokens::generation`](super::Tokens::generation).
    pub(super) fn generation(&self, user_id: i64) -> Result<Generation, StoreError> {
        self.ping()?;
        Ok(Generation(self.users(user_id).generation.to_string()))
    }

    /// See [`Tokens::issue`](super::Tokens::issue).
    pub(super) fn issue(
        &self,
        token: &str,
        user_id: i64,
        username: &str,
        device: &Device,
        generation: &Generation,
    ) -> Result<Issued, StoreError> {
        let now = Instant::now();
        self.sweep_if_due(token, now);
        self.reserve(now)?;
        let entry = Entry {
            user_id,
            username: username.into(),
            device: device.clone(),
            created_at: wall_clock(),
            last_seen: AtomicI64::new(this_minute()),
            expires_at: now + self.0.ttl,
            idle_at: self
                .0
                .idle_ttl
                .map(|idle| AtomicU64::new(self.since_start(now + idle))),
        };
        let mut users = self.users(user_id);
        if users.generation.to_string() != generation.0 {
            self.0.len.fetch_sub(1, Ordering::Relaxed);
            return Ok(Issued::Lost);
        }
        let tokens = users.tokens.entry(user_id).or_default();
        tokens.retain(|token| self.is_alive(token, now));
        // The oldest stands first.
        while tokens.len() >= self.0.max_sessions {
            let oldest = tokens.remove(0);
            self.take(&oldest);
        }
        tokens.push(token.into());
        if self
            .write(token)
            .entries
            .insert(token.into(), entry)
            .is_some()
        {
            self.0.len.fetch_sub(1, Ordering::Relaxed);
        }
        Ok(Issued::Done)
    }

    /// See [`Tokens::get`](super::Tokens::get).
    pub(super) fn get(&self, token: &str) -> Option<Holder> {
        let now = Instant::now();
        let shard = self.read(token);
        let entry = shard.entries.get(token)?;
        let mut expires_in = self.life(entry, now)?;
        if let (Some(idle), Some(idle_at)) = (self.0.idle_ttl, &entry.idle_at) {
            // Never back: a check that began earlier may come later.
            idle_at.fetch_max(self.since_start(now + idle), Ordering::Relaxed);
            expires_in = self.life(entry, now)?;
        }
        let minute = this_minute();
        if entry.last_seen.load(Ordering::Relaxed) != minute {
            entry.last_seen.store(minute, Ordering::Relaxed);
        }
        Some(Holder {
            user_id: entry.user_id,
            expires_in,
        })
    }

    /// See [`Tokens::session`](super::Tokens::session).
    pub(super) fn session(&self, id: &SessionId) -> Option<Session> {
        let sessions = self.sessions(id.user_id());
        sessions.into_iter().find(|session| session.id == *id)
    }

    /// See [`Tokens::sessions`](super::Tokens::sessions).
    pub(super) fn sessions(&self, user_id: i64) -> Vec<Session> {
        let now = Instant::now();
        let users = self.users(user_id);
        let tokens = users.tokens.get(&user_id).map_or(&[][..], Vec::as_slice);
        let mut sessions: Vec<Session> = tokens
            .iter()
            .filter_map(|token| {
                let shard = self.read(token);
                let entry = shard.entries.get(token)?;
                self.life(entry, now)?;
                Some(Session {
                    id: SessionId::of(user_id, token),
                    username: entry.username.to_string(),
                    created_at: entry.created_at,
                    expires_at: entry.created_at + self.0.ttl,
                    last_seen_at: DateTime::from_timestamp_secs(
                        entry.last_seen.load(Ordering::Relaxed),
                    )?,
                    device: entry.device.clone(),
                })
            })
            .collect();
        newest_first(&mut sessions);
        sessions
    }

    /// See [`Tokens::remove`](super::Tokens::remove).
    pub(super) fn remove(&self, token: &str) -> Option<i64> {
        // Whose it is has to be known before, for the order of the locks; it never changes.
        let user_id = self.read(token).entries.get(token)?.user_id;
        let mut users = self.users(user_id);
        if let Some(tokens) = users.tokens.get_mut(&user_id) {
            tokens.retain(|other| **other != *token);
            if tokens.is_empty() {
                users.tokens.remove(&user_id);
            }
        }
        self.take(token).then_some(user_id)
    }

    /// See [`Tokens::end`](super::Tokens::end).
    pub(super) fn end(&self, id: &SessionId) -> bool {
        let token = {
            let users = self.users(id.user_id());
            let tokens = users.tokens.get(&id.user_id()).into_iter().flatten();
            tokens
                .map(Box::as_ref)
                .find(|token| SessionId::of(id.user_id(), token) == *id)
                .map(str::to_owned)
        };
        token.is_some_and(|token| self.remove(&token).is_some())
    }

    /// See [`Tokens::end_all`](super::Tokens::end_all).
    pub(super) fn end_all(
        &self,
        user_id: i64,
        keep: Option<&SessionId>,
        revocation: Option<&str>,
    ) -> u64 {
        let mut users = self.users(user_id);
        if let Some(revocation) = revocation {
            let done = &self.0.revocations;
            let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
            if done.iter().any(|id| id == revocation) {
                return 0;
            }
            done.push_front(revocation.to_owned());
            done.truncate(REVOCATIONS);
        }
        users.generation += 1;
        let tokens = users.tokens.remove(&user_id).unwrap_or_default();
        let (kept, ending): (Vec<_>, Vec<_>) = tokens
            .into_iter()
            .partition(|token| keep.is_some_and(|keep| SessionId::of(user_id, token) == *keep));
        if !kept.is_empty() {
            users.tokens.insert(user_id, kept);
        }
        ending.iter().filter(|token| self.take(token)).count() as u64
    }

    /// See [`Tokens::clear`](super::Tokens::clear).
    pub(super) fn clear(&self) -> u64 {
        let mut cleared = 0;
        // All at once, so that no log-in slips in between.
        let mut users: Vec<_> = self.0.users.iter().map(lock).collect();
        for users in &mut users {
            users.generation += 1;
            users.tokens.clear();
        }
        let now = Instant::now();
        for shard in &self.0.shards {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            self.0.len.fetch_sub(shard.entries.len(), Ordering::Relaxed);
            let alive = shard
                .entries
                .values()
                .filter(|entry| self.life(entry, now).is_some());
            cleared += alive.count() as u64;
            shard.entries.clear();
        }
        cleared
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

    /// What is left to live; `None` if nothing is.
    fn life(&self, entry: &Entry, now: Instant) -> Option<Duration> {
        let mut end = entry.expires_at;
        if let Some(idle_at) = &entry.idle_at {
            let idle_at = Duration::from_millis(idle_at.load(Ordering::Relaxed));
            end = end.min(self.0.started + idle_at);
        }
        let life = end.checked_duration_since(now)?;
        (!life.is_zero()).then_some(life)
    }

    fn is_alive(&self, token: &str, now: Instant) -> bool {
        let shard = self.read(token);
        let entry = shard.entries.get(token);
        entry.is_some_and(|entry| self.life(entry, now).is_some())
    }

    /// Takes a token out and tells whether it was alive.
    fn take(&self, token: &str) -> bool {
        let Some(entry) = self.write(token).entries.remove(token) else {
            return false;
        };
        self.0.len.fetch_sub(1, Ordering::Relaxed);
        self.life(&entry, Instant::now()).is_some()
    }

    fn since_start(&self, instant: Instant) -> u64 {
        let since = instant.duration_since(self.0.started).as_millis();
        u64::try_from(since).unwrap_or(u64::MAX)
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
        // A full store is asked at every login: without this bound each would walk all of it.
        for shard in &self.0.shards {
            self.sweep(shard, now, Duration::from_secs(1));
        }
        if take() {
            Ok(())
        } else {
            Err(StoreError::unavailable(Dependency::Tokens, Full))
        }
    }

    fn sweep_if_due(&self, token: &str, now: Instant) {
        self.sweep(self.shard(token), now, SWEEP_INTERVAL);
    }

    /// Throws out what has expired, if that was not done for `interval`. No lock may be held.
    fn sweep(&self, shard: &RwLock<Shard>, now: Instant, interval: Duration) {
        let expired: Vec<(i64, Box<str>)> = {
            let mut shard = shard.write().unwrap_or_else(PoisonError::into_inner);
            if now.duration_since(shard.swept_at) < interval {
                return;
            }
            shard.swept_at = now;
            let expired = shard
                .entries
                .extract_if(|_, entry| self.life(entry, now).is_none());
            expired
                .map(|(token, entry)| (entry.user_id, token))
                .collect()
        };
        self.0.len.fetch_sub(expired.len(), Ordering::Relaxed);
        for (user_id, token) in expired {
            let mut users = self.users(user_id);
            if let Some(tokens) = users.tokens.get_mut(&user_id) {
                tokens.retain(|other| *other != token);
                if tokens.is_empty() {
                    users.tokens.remove(&user_id);
                }
            }
        }
    }

    // A panic while a lock is held can't leave a shard half changed, so a poisoned lock is as good as another.

    fn users(&self, user_id: i64) -> MutexGuard<'_, Users> {
        let shard = usize::try_from(user_id.unsigned_abs() % SHARDS as u64).unwrap_or_default();
        #[expect(
            clippy::indexing_slicing,
            reason = "the remainder is smaller than the number of shards"
        )]
        lock(&self.0.users[shard])
    }

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

fn lock(users: &Mutex<Users>) -> MutexGuard<'_, Users> {
    users.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wall_clock() -> DateTime<Utc> {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let millis = i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX);
    DateTime::from_timestamp_millis(millis).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn this_minute() -> i64 {
    let seconds = wall_clock().timestamp();
    seconds - seconds % 60
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    const HOUR: Duration = Duration::from_hours(1);

    /// A store with another setting or two.
    fn store(
        capacity: usize,
        ttl: Duration,
        set: impl FnOnce(&mut config::Tokens),
    ) -> MemoryTokens {
        let mut settings = Config::default().tokens;
        settings.ttl = ttl;
        set(&mut settings);
        MemoryTokens::new(capacity, &settings)
    }

    fn issue(tokens: &MemoryTokens, token: &str, user_id: i64) -> Result<Issued, StoreError> {
        let generation = tokens.generation(user_id)?;
        tokens.issue(token, user_id, "alice", &Device::default(), &generation)
    }

    #[tokio::test(start_paused = true)]
    async fn expires_to_the_millisecond() {
        let tokens = store(10, Duration::from_secs(10), |_| ());
        issue(&tokens, "a", 7).unwrap();
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
        assert_eq!(tokens.sessions(7), []);
        assert_eq!(tokens.remove("a"), None, "an expired token is not alive");
        assert!(tokens.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn idle_tokens_end_and_used_ones_live_until_the_absolute_end() {
        let tokens = store(10, Duration::from_secs(25), |settings| {
            settings.idle_ttl = Some(Duration::from_secs(10));
        });
        issue(&tokens, "idle", 7).unwrap();
        issue(&tokens, "used", 7).unwrap();
        for expected in [10, 10, 7] {
            assert_eq!(
                tokens.get("used").unwrap().expires_in,
                Duration::from_secs(expected)
            );
            tokio::time::advance(Duration::from_secs(9).min(Duration::from_secs(expected))).await;
        }
        assert_eq!(tokens.get("used"), None);
        assert_eq!(tokens.get("idle"), None);
        assert_eq!(tokens.sessions(7), []);
    }

    #[tokio::test(start_paused = true)]
    async fn refuses_when_full_and_keeps_the_living() {
        let tokens = store(3, HOUR, |_| ());
        for name in ["a", "b", "c"] {
            issue(&tokens, name, 1).unwrap();
        }
        assert!(matches!(tokens.ping(), Err(StoreError::Unavailable { .. })));
        assert!(matches!(
            issue(&tokens, "d", 1),
            Err(StoreError::Unavailable { .. })
        ));
        assert!(
            ["a", "b", "c"]
                .iter()
                .all(|name| tokens.get(name).is_some())
        );
        assert_eq!(tokens.remove("b"), Some(1));
        tokens.ping().unwrap();
        issue(&tokens, "d", 1).unwrap();
        assert_eq!(tokens.len(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn expired_tokens_make_room() {
        let tokens = store(2, Duration::from_secs(5), |_| ());
        issue(&tokens, "a", 1).unwrap();
        issue(&tokens, "b", 1).unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        issue(&tokens, "c", 1).unwrap();
        assert_eq!(tokens.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sweep_bounds_what_expired_tokens_take() {
        let tokens = store(100_000, Duration::from_secs(1), |_| ());
        for round in 0..100 {
            for number in 0..200 {
                issue(&tokens, &format!("{round}-{number}"), number).unwrap();
            }
            tokio::time::advance(SWEEP_INTERVAL).await;
        }
        assert!(tokens.len() <= 400, "{} of 20000 are kept", tokens.len());
        let users = tokens.0.users.iter().map(lock);
        let indexed: usize = users
            .flat_map(|users| users.tokens.values().map(Vec::len).collect::<Vec<_>>())
            .sum();
        assert!(indexed <= tokens.len(), "{indexed} are indexed");
    }

    #[tokio::test]
    async fn a_generation_that_is_over_issues_nothing() {
        let tokens = store(10, HOUR, |_| ());
        let generation = tokens.generation(7).unwrap();
        assert_eq!(tokens.end_all(7, None, None), 0);
        let issued = tokens.issue("a", 7, "alice", &Device::default(), &generation);
        assert_eq!(issued.unwrap(), Issued::Lost);
        assert_eq!(tokens.get("a"), None);
        assert!(tokens.is_empty());
        assert_eq!(issue(&tokens, "a", 7).unwrap(), Issued::Done);
    }

    #[tokio::test]
    async fn a_revocation_is_carried_out_once() {
        let tokens = store(10, HOUR, |_| ());
        issue(&tokens, "a", 7).unwrap();
        issue(&tokens, "b", 7).unwrap();
        let keep = SessionId::of(7, "a");
        assert_eq!(tokens.end_all(7, Some(&keep), Some("r")), 1);
        assert_eq!(tokens.end_all(7, None, Some("r")), 0);
        assert!(tokens.get("a").is_some());
        assert_eq!(tokens.end_all(7, None, Some("s")), 1);
    }

    #[tokio::test]
    async fn counts_a_token_once_and_clears_all() {
        let tokens = store(10, HOUR, |_| ());
        issue(&tokens, "a", 1).unwrap();
        issue(&tokens, "b", 2).unwrap();
        assert_eq!(tokens.len(), 2);
        assert_eq!(tokens.clear(), 2);
        assert!(tokens.is_empty());
        assert_eq!(tokens.get("a"), None);
        assert_eq!(tokens.sessions(1), []);
    }
}
