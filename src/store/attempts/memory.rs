//! The counters of a single instance. The rules are those of `tokens/redis/scripts/attempts.lua` and `failures.lua`.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::{
    FIRST_DELAY, Grant, KNOWN_FOR, LONGEST_DELAY, MOST_KNOWN, PAUSE, ROW, Refusal, Reserved, Step,
};
use crate::config::Rate;
use crate::store::{Dependency, StoreError};

/// The most accounts, and the most networks, that are counted. When there are more, first those are forgotten that restrain
/// nobody at the moment, and if there are none, nobody else may try: to forget another would give whoever guesses a way around
/// the limit.
const CAPACITY: usize = 100_000;

/// How many are forgotten at once, so that it is seldom looked for them.
const ROOM: usize = CAPACITY / 10;

/// How often room is made in a map that is full.
const SWEEP_INTERVAL: u64 = 1_000;

/// The bucket of all networks that are not known.
const STRANGERS: &str = "*";

#[derive(Debug, thiserror::Error)]
#[error("the in-process store counts the attempts of as many accounts as it may")]
struct Full;

pub(super) struct MemoryAttempts {
    began: Instant,
    accounts: Mutex<Bounded<Account>>,
    networks: Mutex<Bounded<Failures>>,
}

impl Default for MemoryAttempts {
    fn default() -> Self {
        Self {
            began: Instant::now(),
            accounts: Mutex::default(),
            networks: Mutex::default(),
        }
    }
}

/// A hash of a name, since names may be long.
type Key = [u8; 16];

/// A map that refuses what does not fit.
struct Bounded<T> {
    entries: HashMap<Key, T>,
    swept_at: u64,
}

impl<T> Default for Bounded<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            swept_at: 0,
        }
    }
}

/// What ends by itself.
trait Ends {
    /// When, in milliseconds since the store was made.
    fn ends(&self) -> u64;

    /// How much would be lost with it; `None` if it restrains somebody now, so that it must not be forgotten.
    fn weight(&self, now: u64) -> Option<u32>;
}

impl<T: Default + Ends> Bounded<T> {
    fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.entries.get_mut(&key(name))
    }

    /// The entry of `name`, a new one if what there was has ended.
    fn entry(&mut self, name: &str, now: u64) -> Result<&mut T, StoreError> {
        let key = key(name);
        let ended = |found: &T| found.ends() <= now;
        if self.entries.get(&key).is_some_and(ended) {
            self.entries.remove(&key);
        }
        if self.entries.len() >= CAPACITY && !self.entries.contains_key(&key) {
            self.make_room(now);
            if self.entries.len() >= CAPACITY {
                return Err(StoreError::unavailable(Dependency::Tokens, Full));
            }
        }
        Ok(self.entries.entry(key).or_default())
    }

    fn make_room(&mut self, now: u64) {
        if now < self.swept_at + SWEEP_INTERVAL {
            return;
        }
        self.swept_at = now;
        self.entries.retain(|_, entry| entry.ends() > now);
        if self.entries.len() < CAPACITY {
            return;
        }
        // Those with the fewest failures first: to have a long row forgotten, one would have to make as long ones of all others.
        let weighed = self.entries.iter();
        let mut weighed: Vec<(u32, Key)> = weighed
            .filter_map(|(key, entry)| Some((entry.weight(now)?, *key)))
            .collect();
        weighed.sort_unstable();
        for (_, key) in weighed.iter().take(ROOM) {
            self.entries.remove(key);
        }
    }
}

fn key(name: &str) -> Key {
    let mut key = Key::default();
    let hash = Sha256::digest(name);
    key.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
    key
}

/// Failures from a network.
#[derive(Default)]
struct Failures {
    failed: u32,
    ends: u64,
    told: bool,
}

impl Ends for Failures {
    fn ends(&self) -> u64 {
        self.ends
    }

    fn weight(&self, _: u64) -> Option<u32> {
        None
    }
}

/// See the script for the fields. Times are in milliseconds since the store was made.
#[derive(Default)]
struct Account {
    known: BTreeMap<String, u64>,
    buckets: HashMap<String, Bucket>,
    straight: u32,
    next_try: u64,
    told: u64,
    ends: u64,
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    failed: u32,
    flying: u32,
    not_before: u64,
    ends: u64,
    said: bool,
}

impl Ends for Account {
    fn ends(&self) -> u64 {
        self.ends
    }

    /// The owner of one that is forgotten is a stranger everywhere, and the row of failures begins anew.
    fn weight(&self, now: u64) -> Option<u32> {
        let over = self.buckets.values().all(|bucket| bucket.ends <= now);
        over.then_some(self.straight)
    }
}

impl Account {
    /// Forgets what is over.
    fn refresh(&mut self, now: u64) {
        self.known.retain(|_, at| *at + millis(KNOWN_FOR) > now);
        self.buckets.retain(|_, bucket| bucket.ends > now);
    }

    /// Notes how long it has to be kept. What is forgotten after as many days as there were failures gives one who waits for it
    /// no more than about one attempt a day.
    fn keep(&mut self, now: u64) {
        self.buckets
            .retain(|_, bucket| bucket.failed > 0 || bucket.flying > 0);
        let straight = now + u64::from(self.straight.min(ROW)) * millis(PAUSE);
        let known = self.known.values().map(|at| at + millis(KNOWN_FOR));
        let buckets = self.buckets.values().map(|bucket| bucket.ends);
        self.ends = known.chain(buckets).fold(straight, u64::max);
    }

    fn bucket(&mut self, name: &str, rate: Rate, now: u64) -> &mut Bucket {
        self.buckets.entry(name.to_owned()).or_insert(Bucket {
            ends: now + millis(rate.per),
            ..Bucket::default()
        })
    }

    fn reserve(&mut self, network: &str, rate: Rate, now: u64) -> Reserved {
        let is_known = self.known.contains_key(network);
        let name = if is_known { network } else { STRANGERS };
        let (straight, next_try, told) = (self.straight, self.next_try, self.told);
        let bucket = self.bucket(name, rate, now);
        let of_the_day = !is_known && straight + bucket.flying >= ROW;
        if of_the_day && (next_try == 0 || next_try > now) {
            let wait = match next_try {
                0 => millis(FIRST_DELAY),
                at => at - now,
            };
            self.told = next_try;
            return Reserved::Refused(Refusal::new(wait, told != next_try));
        }
        let mut wait = bucket.not_before.saturating_sub(now);
        let all = bucket.failed + bucket.flying;
        if wait == 0 && bucket.flying > 0 && all >= rate.count {
            // Those under way need some time themselves, and if they fail the delay begins only then.
            wait = delay_after(all, rate) + millis(FIRST_DELAY);
        }
        if wait > 0 {
            let first = !bucket.said;
            bucket.said = true;
            return Reserved::Refused(Refusal::new(wait, first));
        }
        bucket.flying += 1;
        if of_the_day {
            self.next_try = now + millis(PAUSE);
        }
        Reserved::Granted(Grant {
            bucket: name.to_owned(),
            of_the_day,
        })
    }

    fn settle(&mut self, network: &str, rate: Rate, grant: &Grant, step: Step, now: u64) {
        let bucket = self.bucket(&grant.bucket, rate, now);
        bucket.flying = bucket.flying.saturating_sub(1);
        match step {
            Step::Failed => {
                bucket.failed += 1;
                if bucket.failed >= rate.count {
                    bucket.not_before = now + delay_after(bucket.failed, rate);
                    bucket.ends = bucket.ends.max(bucket.not_before + millis(rate.per));
                }
                self.straight += 1;
                if self.straight == ROW {
                    self.next_try = now + millis(PAUSE);
                }
            }
            Step::Succeeded => {
                (bucket.failed, bucket.not_before, bucket.said) = (0, 0, false);
                (self.straight, self.next_try, self.told) = (0, 0, 0);
                self.known.insert(network.to_owned(), now);
                while self.known.len() > MOST_KNOWN {
                    // Of two that are as old the one whose name comes last.
                    let oldest = self.known.iter().rev().min_by_key(|(_, at)| **at);
                    let Some(oldest) = oldest.map(|(name, _)| name.clone()) else {
                        break;
                    };
                    self.known.remove(&oldest);
                    self.buckets.remove(&oldest);
                }
            }
            Step::Abandoned if grant.of_the_day => self.next_try = now,
            Step::Abandoned => {}
        }
    }
}

impl MemoryAttempts {
    pub(super) fn ask(&self, network: &str, rate: Rate, ahead: u64) -> Option<Refusal> {
        let now = self.now(ahead);
        let mut networks = lock(&self.networks);
        let failures = networks.get_mut(network)?;
        if failures.ends <= now || failures.failed < rate.count {
            return None;
        }
        let first = !failures.told;
        failures.told = true;
        Some(Refusal::new(failures.ends - now, first))
    }

    pub(super) fn count(&self, network: &str, rate: Rate, ahead: u64) -> Result<(), StoreError> {
        let now = self.now(ahead);
        let mut networks = lock(&self.networks);
        let failures = networks.entry(network, now)?;
        if failures.failed == 0 {
            failures.ends = now + millis(rate.per);
        }
        failures.failed += 1;
        Ok(())
    }

    pub(super) fn reserve(
        &self,
        account: &str,
        network: &str,
        rate: Rate,
        ahead: u64,
    ) -> Result<Reserved, StoreError> {
        self.on_account(account, ahead, |account, now| {
            account.reserve(network, rate, now)
        })
    }

    pub(super) fn settle(
        &self,
        account: &str,
        network: &str,
        rate: Rate,
        grant: &Grant,
        step: Step,
        ahead: u64,
    ) -> Result<(), StoreError> {
        self.on_account(account, ahead, |account, now| {
            account.settle(network, rate, grant, step, now);
        })
    }

    pub(super) fn unlock(&self, account: &str) -> bool {
        let now = self.now(0);
        let mut accounts = lock(&self.accounts);
        let Some(account) = accounts.get_mut(account) else {
            return false;
        };
        account.refresh(now);
        let failed = account.straight > 0 || !account.buckets.is_empty();
        account.buckets.clear();
        (account.straight, account.next_try, account.told) = (0, 0, 0);
        account.keep(now);
        failed
    }

    fn on_account<T>(
        &self,
        account: &str,
        ahead: u64,
        step: impl FnOnce(&mut Account, u64) -> T,
    ) -> Result<T, StoreError> {
        let now = self.now(ahead);
        let mut accounts = lock(&self.accounts);
        let account = accounts.entry(account, now)?;
        account.refresh(now);
        let outcome = step(account, now);
        account.keep(now);
        Ok(outcome)
    }

    fn now(&self, ahead: u64) -> u64 {
        // From 1 on, as 0 stands for no time.
        millis(self.began.elapsed()) + 1 + ahead
    }
}

fn delay_after(failures: u32, rate: Rate) -> u64 {
    let doublings = failures.saturating_sub(rate.count).min(40);
    millis(LONGEST_DELAY).min(millis(FIRST_DELAY) << doublings)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate {
        count: 20,
        per: Duration::from_mins(15),
    };

    #[test]
    fn what_does_not_fit_is_refused_and_what_has_ended_makes_room() {
        let mut networks: Bounded<Failures> = Bounded::default();
        for number in 0..CAPACITY {
            networks.entry(&number.to_string(), 1).unwrap().ends = 5_000;
        }
        assert!(networks.entry("another", 2_000).is_err());
        assert!(networks.entry("0", 2_000).is_ok());
        assert!(networks.entry("another", 5_000).is_ok());
        assert_eq!(networks.entries.len(), 1);
    }

    fn attempt(accounts: &mut Bounded<Account>, name: &str, step: Step, now: u64) {
        let account = accounts.entry(name, now).unwrap();
        account.refresh(now);
        let Reserved::Granted(grant) = account.reserve("network", RATE, now) else {
            panic!("refused");
        };
        account.settle("network", RATE, &grant, step, now);
        account.keep(now);
    }

    /// Many who log in, or names that somebody makes up, must not keep others out for as long as they are remembered.
    #[test]
    fn who_restrains_nobody_makes_room_for_others() {
        let mut accounts: Bounded<Account> = Bounded::default();
        for _ in 0..2 {
            attempt(&mut accounts, "guessed", Step::Failed, 1);
        }
        for number in 1..CAPACITY {
            let step = [Step::Succeeded, Step::Failed][number % 2];
            attempt(&mut accounts, &number.to_string(), step, 1);
        }
        assert!(accounts.entry("1", 2_000).is_ok());

        // Those who logged in go first, at once; those who failed, when the window is over, and the longest row last.
        let window = millis(RATE.per);
        for number in 1..CAPACITY / 2 {
            attempt(
                &mut accounts,
                &format!("more {number}"),
                Step::Failed,
                1_000 + 10 * number as u64,
            );
        }
        assert!(accounts.get_mut("1").is_some());
        assert!(accounts.get_mut("2").is_none());
        assert!(accounts.entry("another", window).is_err());
        assert!(accounts.entry("another", window + 1_000).is_ok());
        assert_eq!(accounts.entries.len(), CAPACITY - ROOM + 1);
        assert_eq!(accounts.get_mut("guessed").unwrap().straight, 2);
    }

    #[test]
    fn a_delay_doubles_up_to_the_longest() {
        let delays: Vec<u64> = (20..32)
            .map(|failures| delay_after(failures, RATE))
            .collect();
        let seconds = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900];
        assert_eq!(delays, seconds.map(|seconds| seconds * 1_000));
        assert_eq!(delay_after(u32::MAX, RATE), 900_000);
    }
}
