//! The domain: who may have a token. No HTTP, no SQL, no Redis commands.

pub mod bootstrap;
pub mod hash_pool;
pub mod password;
pub mod token;
pub mod username;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tracing::Instrument;

use self::hash_pool::{HashError, HashPool};
use self::password::Password;
use self::token::Token;
use self::username::Username;
use crate::store::StoreError;
use crate::store::health::Health;
use crate::store::tokens::{Holder, Tokens};
use crate::store::users::Users;

/// Logs users in and out, and checks tokens.
#[derive(Clone)]
pub struct Authenticator {
    users: Users,
    tokens: Tokens,
    hash_pool: HashPool,
    health: Arc<Health>,
    ttl: Duration,
}

/// A successful login.
#[derive(Debug)]
pub struct Login {
    /// The new token.
    pub token: Token,
    /// `users.id`.
    pub user_id: i64,
    /// Lifetime of the token.
    pub expires_in: Duration,
}

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// Fields that can't belong to any user, each with what is wrong.
    #[error("the input is invalid")]
    InvalidInput(Vec<(&'static str, String)>),
    /// Unknown user, wrong password, disabled user, no password, unreadable hash: nobody is told which.
    #[error("the credentials are invalid")]
    InvalidCredentials,
    /// More logins than can be hashed in time.
    #[error("the hash gate is full")]
    Overloaded {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database or the token store can't be used now.
    #[error(transparent)]
    Unavailable(StoreError),
    /// A bug, or a tampered store.
    #[error("{0}")]
    Internal(String),
}

/// Why a token is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// Unknown, expired or revoked.
    #[error("the token is invalid")]
    InvalidToken,
    /// The token store can't be used now: this says nothing of the token.
    #[error(transparent)]
    Unavailable(StoreError),
    /// A bug, or a tampered store.
    #[error("{0}")]
    Internal(String),
}

impl Authenticator {
    /// Brings the parts together. `ttl` is the lifetime of a token.
    pub fn new(
        users: Users,
        tokens: Tokens,
        hash_pool: HashPool,
        health: Arc<Health>,
        ttl: Duration,
    ) -> Self {
        Self {
            users,
            tokens,
            hash_pool,
            health,
            ttl,
        }
    }

    /// Exchanges a username and a password for a token.
    ///
    /// Exactly one verification is run for every pair that is not refused for its form, so that refusals can't be told
    /// apart by time; and none while a store is away, so that an outage can't be used to burn the CPU.
    ///
    /// # Errors
    /// See [`LoginError`].
    pub async fn log_in(
        &self,
        username: &str,
        password: SecretString,
    ) -> Result<Login, LoginError> {
        let (username, password) = parse(username, password)?;

        self.health.takes_logins()?;
        let ping = tracing::debug_span!("token_store_ping");
        self.tokens.ping().instrument(ping).await?;

        let lookup = tracing::info_span!("lookup");
        let user = self
            .users
            .find(username.as_str())
            .instrument(lookup)
            .await?;
        let enabled = user.as_ref().filter(|user| user.disabled_at.is_none());
        let stored = enabled.and_then(|user| user.password_hash.as_ref());

        let verdict = self.hash_pool.verify_and_rehash(&password, stored).await?;
        let Some(user) = enabled else {
            return Err(LoginError::InvalidCredentials);
        };
        if verdict.unusable {
            tracing::error!(
                user_id = user.id,
                "the stored password hash is of an unknown kind or beyond the bounds"
            );
        }
        if !verdict.matches {
            return Err(LoginError::InvalidCredentials);
        }

        // Written before the token, so that a database that fails here leaves no token that nobody was given.
        let rehashed = stored.zip(verdict.new_hash);
        let record = tracing::info_span!("record_login");
        self.users
            .record_login(user.id, rehashed)
            .instrument(record)
            .await?;

        let token = Token::generate();
        let put = tracing::info_span!("token_store");
        self.tokens
            .put(token.expose(), user.id, self.ttl)
            .instrument(put)
            .await?;
        Ok(Login {
            token,
            user_id: user.id,
            expires_in: self.ttl,
        })
    }

    /// Tells who holds `token`. One round trip to the token store, none to the database.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub async fn check(&self, token: &Token) -> Result<Holder, CheckError> {
        self.tokens
            .get(token.expose())
            .await?
            .ok_or(CheckError::InvalidToken)
    }

    /// Ends `token`. When this has returned, it is dead.
    ///
    /// # Errors
    /// See [`CheckError`]; a token that is dead already is invalid.
    pub async fn log_out(&self, token: &Token) -> Result<(), CheckError> {
        if self.tokens.remove(token.expose()).await? {
            Ok(())
        } else {
            Err(CheckError::InvalidToken)
        }
    }

    /// The hash gate, for its figures.
    pub fn hash_pool(&self) -> &HashPool {
        &self.hash_pool
    }

    /// The token store, for its figures.
    pub fn tokens(&self) -> &Tokens {
        &self.tokens
    }
}

/// Refuses what can't be a username or a password, telling all that is wrong.
fn parse(username: &str, password: SecretString) -> Result<(Username, Password), LoginError> {
    match (Username::parse(username), Password::parse(password)) {
        (Ok(username), Ok(password)) => Ok((username, password)),
        (username, password) => {
            let username = username.err().map(|error| ("username", error.to_string()));
            let password = password.err().map(|error| ("password", error.to_string()));
            Err(LoginError::InvalidInput(
                username.into_iter().chain(password).collect(),
            ))
        }
    }
}

impl From<StoreError> for LoginError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Unavailable(error),
            StoreError::Conflict | StoreError::Corrupt { .. } => Self::Internal(error.to_string()),
        }
    }
}

impl From<HashError> for LoginError {
    fn from(error: HashError) -> Self {
        match error {
            HashError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Unavailable(error),
            StoreError::Conflict | StoreError::Corrupt { .. } => Self::Internal(error.to_string()),
        }
    }
}
