//! The throttle: who may try a password now.
//!
//! Every door that checks a password begins an [`Attempt`] before it looks at anything, and says in the end what came of it. The
//! same for names that nobody has.

use std::net::IpAddr;
use std::time::Duration;

use tracing::Instrument as _;

use super::username::Username;
use crate::config::{self, Rate};
use crate::store::attempts::{Attempts, Grant, Refusal, Reserved, Step};
use crate::store::{Dependency, StoreError};

/// How many networks of 64 bits may fail as often as one may, before the one of 48 bits that they are in is refused.
const WIDER: u32 = 10;

/// The rules, and the counters that they are about. A cheap clone.
#[derive(Clone)]
pub struct Limits {
    attempts: Attempts,
    enabled: bool,
    per_user: Rate,
    per_network: Rate,
}

/// No password is looked at.
#[derive(Debug, thiserror::Error)]
pub enum LimitError {
    /// Too many failures, or attempts at once.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When one may be made, if nobody else makes one before.
        retry_after: Duration,
    },
    /// The counters can't be read or written: the throttle never fails open.
    #[error(transparent)]
    Unavailable(#[from] StoreError),
}

impl Limits {
    /// The rules of the settings, with the counters where the tokens are.
    pub fn new(settings: &config::Limits, attempts: Attempts) -> Self {
        Self {
            attempts,
            enabled: settings.enabled,
            per_user: settings.login_per_user,
            per_network: settings.login_per_ip,
        }
    }

    /// Begins an attempt, if one may be made. The network is asked first, so that one that is over its limit leaves no trace of
    /// the names that it tries.
    ///
    /// # Errors
    /// See [`LimitError`].
    pub async fn begin(
        &self,
        username: &Username,
        address: Option<IpAddr>,
    ) -> Result<Attempt, LimitError> {
        if !self.enabled {
            return Ok(Attempt(None));
        }
        let networks = Networks::of(address);
        for (network, rate) in networks.rates(self.per_network) {
            if let Some(refusal) = self.attempts.ask(network, rate).await? {
                return Err(refused(refusal, "network"));
            }
        }
        let reserve = self.clone().reserve(username.as_str().to_owned(), networks);
        to_its_end(reserve).await
    }

    async fn reserve(self, account: String, networks: Networks) -> Result<Attempt, LimitError> {
        let reserved = self
            .attempts
            .reserve(&account, &networks.near, self.per_user)
            .await?;
        match reserved {
            Reserved::Granted(grant) => Ok(Attempt(Some(Open {
                limits: self,
                account,
                networks,
                grant,
            }))),
            Reserved::Refused(refusal) => Err(refused(refusal, "account")),
        }
    }

    /// Forgets the failures of an account, which need not exist, and tells whether there were any.
    ///
    /// # Errors
    /// The store is away.
    pub async fn unlock(&self, username: &Username) -> Result<bool, StoreError> {
        self.attempts.unlock(username.as_str()).await
    }
}

/// Does `work` to its end, even if the client leaves: a place that is taken and never given back would lock others out, and a
/// failure that is half noted would be free. An [`Attempt`] that nobody is there to take is dropped, and so counted.
async fn to_its_end<T: Send + 'static, E: From<StoreError> + Send + 'static>(
    work: impl Future<Output = Result<T, E>> + Send + 'static,
) -> Result<T, E> {
    let outcome = tokio::spawn(work.in_current_span()).await;
    // The runtime ends, or it is a bug that the panic hook has told of.
    outcome.unwrap_or_else(|error| Err(StoreError::unavailable(Dependency::Tokens, error).into()))
}

fn refused(refusal: Refusal, bucket: &'static str) -> LimitError {
    if refusal.first {
        // Once for a bucket and a window, so that an attack can't fill the log. People type passwords for names: neither is told.
        tracing::warn!(
            bucket,
            "attempts to log in are refused: there were too many"
        );
    }
    LimitError::TooManyAttempts {
        retry_after: refusal.retry_after,
    }
}

/// The right to look at one password. Dropped without a word, as when the client leaves, it counts as a failure: its password
/// may have been hashed.
#[derive(Debug)]
#[must_use]
pub struct Attempt(Option<Open>);

struct Open {
    limits: Limits,
    account: String,
    networks: Networks,
    grant: Grant,
}

impl std::fmt::Debug for Open {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Open")
    }
}

impl Attempt {
    /// The password was wrong.
    ///
    /// # Errors
    /// The store is away: then it counts for longer.
    pub async fn failed(mut self) -> Result<(), StoreError> {
        match self.0.take() {
            Some(open) => to_its_end(async move { open.failed().await }).await,
            None => Ok(()),
        }
    }

    /// The password was right.
    ///
    /// # Errors
    /// The store is away: then it counts as a failure for a while.
    pub async fn succeeded(mut self) -> Result<(), StoreError> {
        match self.0.take() {
            Some(open) => to_its_end(async move { open.settle(Step::Succeeded).await }).await,
            None => Ok(()),
        }
    }

    /// No password was looked at. Best effort: something else went wrong already.
    pub async fn abandoned(mut self) {
        if let Some(open) = self.0.take() {
            let settled = to_its_end(async move { open.settle(Step::Abandoned).await });
            if let Err(error) = settled.await {
                tracing::debug!(%error, "an attempt that was abandoned still counts");
            }
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // Outside of a runtime, as at the end of the process, it counts until its bucket ends.
        if let Some(open) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            runtime.spawn(async move {
                if let Err(error) = open.failed().await {
                    tracing::debug!(%error, "an attempt that nobody waits for was not settled");
                }
            });
        }
    }
}

impl Open {
    async fn failed(&self) -> Result<(), StoreError> {
        // Both in any case: what one store call could not note, the other may.
        let account = self.settle(Step::Failed).await;
        for (network, rate) in self.networks.rates(self.limits.per_network) {
            self.limits.attempts.count(network, rate).await?;
        }
        account
    }

    async fn settle(&self, step: Step) -> Result<(), StoreError> {
        let Limits {
            attempts, per_user, ..
        } = &self.limits;
        attempts
            .settle(
                &self.account,
                &self.networks.near,
                *per_user,
                &self.grant,
                step,
            )
            .await
    }
}

/// What an address counts as: itself for IPv4; for IPv6 its network of 64 bits, which is what one customer has at least, and
/// that of 48 bits, which is what one may have.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Networks {
    near: String,
    wide: Option<String>,
}

impl Networks {
    fn of(address: Option<IpAddr>) -> Self {
        match address.map(|address| address.to_canonical()) {
            None => Self {
                near: "none".to_owned(),
                wide: None,
            },
            Some(IpAddr::V4(address)) => Self {
                near: address.to_string(),
                wide: None,
            },
            Some(IpAddr::V6(address)) => {
                let [a, b, c, d, ..] = address.segments();
                Self {
                    near: format!("{a:x}:{b:x}:{c:x}:{d:x}::/64"),
                    wide: Some(format!("{a:x}:{b:x}:{c:x}::/48")),
                }
            }
        }
    }

    fn rates(&self, rate: Rate) -> impl Iterator<Item = (&str, Rate)> {
        let wider = Rate {
            count: rate.count.saturating_mul(WIDER),
            ..rate
        };
        let wide = self.wide.as_deref().map(|network| (network, wider));
        std::iter::once((self.near.as_str(), rate)).chain(wide)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Security checklist, 16.
    #[test]
    fn one_network_is_one_however_it_is_written() {
        let near = |address: &str| Networks::of(Some(address.parse().unwrap())).near;
        assert_eq!(near("192.0.2.1"), "192.0.2.1");
        assert_eq!(near("::ffff:192.0.2.1"), "192.0.2.1");
        assert_ne!(near("192.0.2.1"), near("192.0.2.2"));
        assert_eq!(near("2001:db8::1"), near("2001:DB8:0:0:ffff::2"));
        assert_ne!(near("2001:db8::1"), near("2001:db8:0:1::1"));

        let wide = |address: &str| Networks::of(Some(address.parse().unwrap())).wide;
        assert_eq!(wide("192.0.2.1"), None);
        assert_eq!(wide("2001:db8::1"), wide("2001:db8:0:1::1"));
        assert_ne!(wide("2001:db8::1"), wide("2001:db8:1::1"));
    }
}
