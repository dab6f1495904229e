//! Attempts to log in, counted for each account and for each network that they come from, where the tokens are: so all instances
//! share the counters, and a restart forgets none.
//!
//! An account's slot is reserved before a password is hashed, so that however many guess at once, no more is hashed than the
//! limit allows. A network from which the account logged in lately has a bucket of its own; all others share one. So a stranger
//! who guesses does not lock the owner out.

mod memory;

use std::sync::Arc;
use std::time::Duration;

use self::memory::MemoryAttempts;
use super::StoreError;
use super::tokens::{RedisTokens, Tokens};
use crate::config::Rate;

/// Failures of an account in a row after which strangers get one attempt in [`PAUSE`] (NIST SP 800-63B-4, 3.2.2: at most 100).
pub const ROW: u32 = 100;

/// See [`ROW`].
pub const PAUSE: Duration = Duration::from_hours(24);

/// How long a network is known from which an account logged in.
pub const KNOWN_FOR: Duration = Duration::from_hours(30 * 24);

/// The networks that are known of one account; the one that was used longest ago goes.
pub const MOST_KNOWN: usize = 32;

/// What has to be waited for after the failure that reaches the limit. It doubles with each further one.
pub const FIRST_DELAY: Duration = Duration::from_secs(1);

/// The longest delay.
pub const LONGEST_DELAY: Duration = Duration::from_mins(15);

/// The counters. A cheap clone.
#[derive(Clone)]
pub struct Attempts {
    place: Place,
    /// Added to every clock, in milliseconds.
    ahead: u64,
}

#[derive(Clone)]
enum Place {
    Redis(RedisTokens),
    Memory(Arc<MemoryAttempts>),
}

/// One attempt may not be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// When one may, if nobody else makes one before.
    pub retry_after: Duration,
    /// The first refusal of its bucket and window.
    pub first: bool,
}

impl Refusal {
    pub(super) fn new(wait: u64, first: bool) -> Self {
        Self {
            retry_after: Duration::from_millis(wait),
            first,
        }
    }
}

/// What became of the wish to make an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// It may be made, and is counted until it is settled.
    Granted(Grant),
    /// It may not.
    Refused(Refusal),
}

/// The right to make one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// In which it is counted.
    pub(super) bucket: String,
    /// It is the only one that a stranger has in [`PAUSE`].
    pub(super) of_the_day: bool,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The password was wrong, or it is not known whether it was.
    Failed,
    /// It was right.
    Succeeded,
    /// It was not looked at.
    Abandoned,
}

impl Step {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Succeeded => "succeeded",
            Self::Abandoned => "abandoned",
        }
    }
}

impl Attempts {
    /// The counters beside these tokens.
    pub fn beside(tokens: &Tokens) -> Self {
        let place = match tokens {
            Tokens::Redis(redis) => Place::Redis(redis.clone()),
            Tokens::Memory(_) => Place::Memory(Arc::default()),
        };
        Self { place, ahead: 0 }
    }

    /// The same counters, looked at as if it were so much later.
    #[must_use]
    pub fn ahead(&self, by: Duration) -> Self {
        Self {
            place: self.place.clone(),
            ahead: u64::try_from(by.as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Whether a network failed so often that it may not try now. Counts nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] if the store is down, slow, read-only or full.
    pub async fn ask(&self, network: &str, rate: Rate) -> Result<Option<Refusal>, StoreError> {
        match &self.place {
            Place::Redis(redis) => redis.ask_failures(network, rate).await,
            Place::Memory(memory) => Ok(memory.ask(network, rate, self.ahead)),
        }
    }

    /// Counts a failure from a network, which is forgotten a window after the first one.
    ///
    /// # Errors
    /// As [`Attempts::ask`].
    pub async fn count(&self, network: &str, rate: Rate) -> Result<(), StoreError> {
        match &self.place {
            Place::Redis(redis) => redis.count_failure(network, rate).await,
            Place::Memory(memory) => memory.count(network, rate, self.ahead),
        }
    }

    /// Reserves an attempt of an account, which need not exist, from a network.
    ///
    /// # Errors
    /// As [`Attempts::ask`].
    pub async fn reserve(
        &self,
        account: &str,
        network: &str,
        rate: Rate,
    ) -> Result<Reserved, StoreError> {
        match &self.place {
            Place::Redis(redis) => {
                redis
                    .reserve_attempt(account, network, rate, self.ahead)
                    .await
            }
            Place::Memory(memory) => memory.reserve(account, network, rate, self.ahead),
        }
    }

    /// Says what came of an attempt. One that is never settled counts until its bucket ends.
    ///
    /// # Errors
    /// As [`Attempts::ask`]; then it is as if it was never settled.
    pub async fn settle(
        &self,
        account: &str,
        network: &str,
        rate: Rate,
        grant: &Grant,
        step: Step,
    ) -> Result<(), StoreError> {
        match &self.place {
            Place::Redis(redis) => {
                redis
                    .settle_attempt(account, network, rate, grant, step, self.ahead)
                    .await
            }
            Place::Memory(memory) => memory.settle(account, network, rate, grant, step, self.ahead),
        }
    }

    /// Forgets all failures of an account, and tells whether there were any. What networks are known stays.
    ///
    /// # Errors
    /// As [`Attempts::ask`].
    pub async fn unlock(&self, account: &str) -> Result<bool, StoreError> {
        match &self.place {
            Place::Redis(redis) => redis.unlock_account(account).await,
            Place::Memory(memory) => Ok(memory.unlock(account)),
        }
    }
}
