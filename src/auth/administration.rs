//! What administrators do to users. The command line does the same through [`super::accounts`].

use std::time::Duration;

use secrecy::SecretString;

use super::accounts::Change;
use super::hash_pool::HashError;
use super::password::Password;
use super::token::Token;
use super::username::Username;
use super::{Authenticator, CheckError};
use crate::store::StoreError;
use crate::store::audit::Author;
use crate::store::users::{NewUser, User, UserChange};

/// What is said of a user, as it was sent. `None`: nothing.
#[derive(Debug, Default)]
pub struct UserFields {
    /// Not yet in the form in which names are compared.
    pub username: Option<String>,
    /// Not yet normalised.
    pub password: Option<SecretString>,
    /// May manage other users.
    pub is_admin: Option<bool>,
    /// May not log in.
    pub disabled: Option<bool>,
}

/// Why nothing was done.
#[derive(Debug, thiserror::Error)]
pub enum AdministrationError {
    /// Fields that can't be what they should be, each with what is wrong.
    #[error("the input is invalid")]
    InvalidInput(Vec<(&'static str, String)>),
    /// Whoever asks may not manage users.
    #[error("only administrators may do this")]
    Forbidden,
    /// There is no such user.
    #[error("there is no such user")]
    NotFound,
    /// The name is taken.
    #[error("the username is taken")]
    NameTaken,
    /// Nobody would be left who is enabled and may manage users.
    #[error("this is the last administrator who is enabled")]
    LastAdmin,
    /// More than can be hashed in time.
    #[error("the hash gate is full")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The token is not accepted, or a store is away. In the latter case the change may be made: then the sessions that it ends
    /// end as soon as they can.
    #[error(transparent)]
    Check(#[from] CheckError),
}

impl Authenticator {
    /// The user who holds `token`, if that is an administrator now.
    ///
    /// # Errors
    /// See [`AdministrationError`].
    pub async fn administrator(&self, token: &Token) -> Result<User, AdministrationError> {
        let user = self.user(token).await?;
        if user.is_admin {
            Ok(user)
        } else {
            Err(AdministrationError::Forbidden)
        }
    }

    /// At most `limit` users in the order of their ids, from behind `after` on.
    ///
    /// # Errors
    /// See [`AdministrationError`].
    pub async fn list_users(
        &self,
        after: i64,
        limit: u64,
    ) -> Result<Vec<User>, AdministrationError> {
        Ok(self.users.list(after, limit).await?)
    }

    /// The user of this id.
    ///
    /// # Errors
    /// See [`AdministrationError`].
    pub async fn find_user(&self, id: i64) -> Result<User, AdministrationError> {
        let user = self.users.find_by_id(id).await?;
        user.ok_or(AdministrationError::NotFound)
    }

    /// Makes a user. Without a password nobody can log in as this one.
    ///
    /// # Errors
    /// See [`AdministrationError`].
    pub async fn create_user(
        &self,
        fields: UserFields,
        author: &Author,
    ) -> Result<User, AdministrationError> {
        let name = fields.username.unwrap_or_default();
        let (username, password) = self.parse(Some(&name), fields.password, "")?;
        let new = NewUser {
            username: username.unwrap_or_default(),
            password_hash: self.hash(password).await?,
            is_admin: fields.is_admin.unwrap_or_default(),
            disabled: fields.disabled.unwrap_or_default(),
        };
        Ok(self.accounts.create(new, author).await?)
    }

    /// Changes a user, all of it or nothing, and tells what the user is then and how many sessions ended: all of them if the
    /// password was set or the user disabled.
    ///
    /// # Errors
    /// See [`AdministrationError`].
    pub async fn change_user(
        &self,
        id: i64,
        fields: UserFields,
        author: &Author,
    ) -> Result<(User, u64), AdministrationError> {
        let before = self.find_user(id).await?;
        let name = fields.username.as_deref();
        let (username, password) = self.parse(name, fields.password, &before.username)?;
        let change = UserChange {
            username,
            password_hash: self.hash(password).await?,
            is_admin: fields.is_admin,
            disabled: fields.disabled,
        };
        let (after, outcome) = self.accounts.change(id, &change, author).await?;
        let ended = ended(outcome)?;
        let after = after.ok_or(AdministrationError::NotFound)?;
        if change.password_hash.is_some()
            && let Ok(username) = Username::parse(&after.username)
        {
            // Whoever was locked out for an old password is let in with the new one. If the store is away, the lock ends by itself.
            let _ = self.limits.unlock(&username).await;
        }
        Ok((after, ended))
    }

    /// Removes a user and tells how many sessions ended with it.
    ///
    /// # Errors
    /// See [`AdministrationError`].
    pub async fn delete_user(&self, id: i64, author: &Author) -> Result<u64, AdministrationError> {
        ended(self.accounts.delete(id, author).await?)
    }

    /// Reads a name and a password, of which the latter has to fulfil the policy beside the name: that one, or `known`.
    fn parse(
        &self,
        name: Option<&str>,
        password: Option<SecretString>,
        known: &str,
    ) -> Result<(Option<String>, Option<Password>), AdministrationError> {
        let mut errors = Vec::new();
        let username = name.and_then(|name| match Username::parse(name) {
            Ok(username) => Some(username.as_str().to_owned()),
            Err(error) => {
                errors.push(("username", error.to_string()));
                None
            }
        });
        let password = password.and_then(|password| {
            let beside = username.as_deref().unwrap_or(known);
            let parsed = Password::parse(password).map_err(|error| error.to_string());
            let checked = parsed.and_then(|password| match self.policy.check(&password, beside) {
                Ok(()) => Ok(password),
                Err(error) => Err(error.to_string()),
            });
            checked
                .map_err(|message| errors.push(("password", message)))
                .ok()
        });
        if errors.is_empty() {
            Ok((username, password))
        } else {
            Err(AdministrationError::InvalidInput(errors))
        }
    }

    async fn hash(
        &self,
        password: Option<Password>,
    ) -> Result<Option<SecretString>, AdministrationError> {
        match password {
            Some(password) => Ok(Some(self.hash_pool.hash(&password).await?)),
            None => Ok(None),
        }
    }
}

fn ended(change: Change) -> Result<u64, AdministrationError> {
    match change {
        Change::LastAdmin => Err(AdministrationError::LastAdmin),
        change => change.ended()?.ok_or(AdministrationError::NotFound),
    }
}

impl From<StoreError> for AdministrationError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Conflict => Self::NameTaken,
            error => Self::Check(error.into()),
        }
    }
}

impl From<HashError> for AdministrationError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            other => Self::Check(CheckError::Internal(other.to_string())),
        }
    }
}
