//! A user changes the own password.

use std::net::IpAddr;

use secrecy::SecretString;

use super::hash_pool::HashError;
use super::limits::LimitError;
use super::password::{Password, Policy};
use super::token::Token;
use super::username::Username;
use super::{Authenticator, CheckError};
use crate::store::StoreError;
use crate::store::tokens::SessionId;

/// Why the password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// Fields that can't be what they should be, each with what is wrong.
    #[error("the input is invalid")]
    InvalidInput(Vec<(&'static str, String)>),
    /// The current password is another one, or was changed in this moment.
    #[error("the current password is wrong")]
    WrongPassword,
    /// Too many attempts for this user, or from this address.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When to try again.
        retry_after: std::time::Duration,
    },
    /// More than can be hashed in time.
    #[error("the hash gate is full")]
    Overloaded {
        /// When to try again.
        retry_after: std::time::Duration,
    },
    /// The token is not accepted, or a store is away. In the latter case the password may be changed: then the other sessions
    /// end as soon as they can.
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl Authenticator {
    /// Changes the password of the user who holds `token` and ends all other sessions; tells how many. When this has returned,
    /// they are dead. `address` is that of the client, for the throttle.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_password(
        &self,
        token: &Token,
        current: SecretString,
        new: SecretString,
        address: Option<IpAddr>,
    ) -> Result<u64, ChangeError> {
        let user = self.user(token).await?;
        let (current, new) = parse(current, new, self.policy, &user.username)?;
        self.health.takes_logins()?;

        // The same counters as those of a login: whoever holds a token must not guess the password with it.
        let username = Username::parse(&user.username).map_err(|_| unreadable(user.id))?;
        let attempt = self.limits.begin(&username, address).await?;
        let stored = user.password_hash.as_ref();
        let verdict = match self.hash_pool.verify(&current, stored).await {
            Ok(verdict) => verdict,
            Err(error) => {
                attempt.abandoned().await;
                return Err(error.into());
            }
        };
        verdict.tell(user.id);
        if !verdict.matches {
            attempt.failed().await?;
            return Err(ChangeError::WrongPassword);
        }
        attempt.succeeded().await?;
        let hash = self.hash_pool.hash(&new).await?;
        let kept = SessionId::of(user.id, token.expose());
        let change = self.accounts.replace_password(&user, &hash, kept).await?;
        change.ended()?.ok_or(ChangeError::WrongPassword)
    }
}

/// Refuses what can't be a password, or a new one, telling all that is wrong.
fn parse(
    current: SecretString,
    new: SecretString,
    policy: Policy,
    username: &str,
) -> Result<(Password, Password), ChangeError> {
    let new = Password::parse(new).map_err(|error| error.to_string());
    let new = new.and_then(|new| match policy.check(&new, username) {
        Ok(()) => Ok(new),
        Err(error) => Err(error.to_string()),
    });
    match (Password::parse(current), new) {
        (Ok(current), Ok(new)) => Ok((current, new)),
        (current, new) => {
            let current = current
                .err()
                .map(|error| ("current_password", error.to_string()));
            let new = new.err().map(|error| ("new_password", error));
            Err(ChangeError::InvalidInput(
                current.into_iter().chain(new).collect(),
            ))
        }
    }
}

/// A name that somebody wrote into the table by hand, and nobody can log in with.
fn unreadable(user_id: i64) -> ChangeError {
    let cause = format!("the stored username of user {user_id} is none");
    ChangeError::Check(CheckError::Internal(cause))
}

impl From<LimitError> for ChangeError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::TooManyAttempts { retry_after } => Self::TooManyAttempts { retry_after },
            LimitError::Unavailable(error) => error.into(),
        }
    }
}

impl From<StoreError> for ChangeError {
    fn from(error: StoreError) -> Self {
        Self::Check(error.into())
    }
}

impl From<HashError> for ChangeError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            other => Self::Check(CheckError::Internal(other.to_string())),
        }
    }
}
