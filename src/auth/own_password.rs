//! A user changes the own password.

use secrecy::SecretString;

use super::hash_pool::HashError;
use super::password::{Password, Policy};
use super::token::Token;
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
    /// they are dead.
    ///
    /// # Errors
    /// See [`ChangeError`].
    pub async fn change_password(
        &self,
        token: &Token,
        current: SecretString,
        new: SecretString,
    ) -> Result<u64, ChangeError> {
        let user = self.user(token).await?;
        let (current, new) = parse(current, new, self.policy)?;
        self.health.takes_logins()?;

        let stored = user.password_hash.as_ref();
        let verdict = self.hash_pool.verify(&current, stored).await?;
        verdict.tell(user.id);
        if !verdict.matches {
            return Err(ChangeError::WrongPassword);
        }
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
) -> Result<(Password, Password), ChangeError> {
    let new = Password::parse(new).map_err(|error| error.to_string());
    let new = new.and_then(|new| match policy.check(&new) {
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
