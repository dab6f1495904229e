//! The domain: who may have a token. No HTTP, no SQL, no Redis commands.

pub mod accounts;
pub mod administration;
pub mod bootstrap;
pub mod hash_pool;
pub mod limits;
mod own_password;
pub mod password;
pub mod token;
pub mod username;

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tracing::Instrument;

use self::accounts::Accounts;
use self::hash_pool::{HashError, HashPool};
use self::limits::{LimitError, Limits};
pub use self::own_password::ChangeError;
use self::password::{Password, Policy};
use self::token::Token;
use self::username::Username;
use crate::config::Config;
use crate::store::StoreError;
use crate::store::attempts::Attempts;
use crate::store::health::Health;
use crate::store::tokens::{Device, Generation, Holder, Issued, Session, SessionId, Tokens};
use crate::store::users::{User, Users};

/// How often a login begins again because the user's sessions were ended beside it. Each time somebody ended them within
/// milliseconds, so after a few of them somebody means it.
const ATTEMPTS: usize = 8;

/// Logs users in and out, checks tokens, and shows and ends sessions.
#[derive(Clone)]
pub struct Authenticator {
    users: Users,
    tokens: Tokens,
    accounts: Accounts,
    hash_pool: HashPool,
    limits: Limits,
    health: Arc<Health>,
    policy: Policy,
    expires_in: Duration,
    strangers: RandomState,
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
    /// Too many attempts for this name, or from this address.
    #[error("too many attempts")]
    TooManyAttempts {
        /// When to try again.
        retry_after: Duration,
    },
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
    /// Brings the parts together, under the rules of the settings: how long a token lives that nobody checks, what a new password
    /// has to fulfil, how often a password may be tried.
    pub fn new(
        config: &Config,
        users: Users,
        tokens: Tokens,
        accounts: Accounts,
        hash_pool: HashPool,
        health: Arc<Health>,
    ) -> Self {
        let ttl = config.tokens.ttl;
        Self {
            users,
            accounts,
            hash_pool,
            limits: Limits::new(&config.limits, Attempts::beside(&tokens)),
            tokens,
            health,
            policy: Policy {
                min_length: config.password.min_length,
            },
            expires_in: config.tokens.idle_ttl.map_or(ttl, |idle| idle.min(ttl)),
            strangers: RandomState::new(),
        }
    }

    /// Exchanges a username and a password for a token. `device` is what is kept of the client in the session.
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
        device: &Device,
    ) -> Result<Login, LoginError> {
        let (username, password) = parse(username, password)?;

        self.health.takes_logins()?;
        let begin = tracing::info_span!("limits");
        let attempt = self
            .limits
            .begin(&username, device.address())
            .instrument(begin)
            .await?;
        let (mut user, mut new_hash, mut generation) = match self.verify(&username, &password).await
        {
            Ok(verified) => verified,
            Err(LoginError::InvalidCredentials) => {
                attempt.failed().await?;
                return Err(LoginError::InvalidCredentials);
            }
            Err(error) => {
                attempt.abandoned().await;
                return Err(error);
            }
        };
        // Before there is a token: one that can't be told apart from a guess must not leave one that nobody was given.
        attempt.succeeded().await?;

        for _ in 0..ATTEMPTS {
            // Before the token, so that a database that fails here leaves no token that nobody was given. And after the
            // generation was read: if the row is as it was, whoever changes it later ends what is issued here.
            let record = tracing::info_span!("record_login");
            let unchanged = self
                .users
                .record_login(&user, new_hash.as_ref())
                .instrument(record)
                .await?;
            if !unchanged {
                return Err(LoginError::InvalidCredentials);
            }
            user.password_hash = new_hash.take().or(user.password_hash);

            let token = Token::generate();
            let issue = tracing::info_span!("token_store");
            let issued = self
                .tokens
                .issue(token.expose(), user.id, &user.username, device, &generation)
                .instrument(issue)
                .await?;
            if issued == Issued::Done {
                return Ok(Login {
                    token,
                    user_id: user.id,
                    expires_in: self.expires_in,
                });
            }
            generation = self.tokens.generation(user.id).await?;
        }
        Err(LoginError::Overloaded {
            retry_after: Duration::from_secs(1),
        })
    }

    /// The user whose name and password these are, the hash that shall replace the stored one, and the generation of the user's
    /// sessions from before the password was looked at.
    async fn verify(
        &self,
        username: &Username,
        password: &Password,
    ) -> Result<(User, Option<SecretString>, Generation), LoginError> {
        let lookup = tracing::info_span!("lookup");
        let user = self
            .users
            .find(username.as_str())
            .instrument(lookup)
            .await?;

        // Before the password is looked at: whoever ends the user's sessions from here on is noticed.
        let generation = tracing::info_span!("token_store_generation");
        let id = user
            .as_ref()
            .map_or_else(|| self.stranger(username), |user| user.id);
        let generation = self.tokens.generation(id).instrument(generation).await?;

        let enabled = user.filter(|user| user.disabled_at.is_none());
        let stored = enabled
            .as_ref()
            .and_then(|user| user.password_hash.as_ref());
        let verdict = self.hash_pool.verify_and_rehash(password, stored).await?;
        let Some(user) = enabled else {
            return Err(LoginError::InvalidCredentials);
        };
        verdict.tell(user.id);
        if !verdict.matches {
            return Err(LoginError::InvalidCredentials);
        }
        Ok((user, verdict.new_hash, generation))
    }

    /// Stands for a name that nobody has: the ids of users begin at 1. One of many, since on a Redis Cluster the same one would
    /// lead to the same server, and a server that is away would tell this name from those that somebody has.
    fn stranger(&self, username: &Username) -> i64 {
        let name = self.strangers.hash_one(username.as_str());
        -1 - i64::try_from(name % STRANGERS).unwrap_or_default()
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

    /// Tells who holds `token`, and of what session it is. No round trip to the database. The session is `None` in the moment in
    /// which it ends, and until this process has read the database once.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub async fn introspect(&self, token: &Token) -> Result<(Holder, Option<Session>), CheckError> {
        let holder = self.check(token).await?;
        if !self.tokens.knows_sessions() {
            return Ok((holder, None));
        }
        let id = SessionId::of(holder.user_id, token.expose());
        let session = self.tokens.session(&id).await?;
        Ok((holder, session))
    }

    /// Ends `token` and tells whose it was. When this has returned, it is dead.
    ///
    /// # Errors
    /// See [`CheckError`]; a token that is dead already is invalid.
    pub async fn log_out(&self, token: &Token) -> Result<i64, CheckError> {
        self.tokens
            .remove(token.expose())
            .await?
            .ok_or(CheckError::InvalidToken)
    }

    /// The user who holds `token`. One who was disabled or deleted is nobody.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub async fn user(&self, token: &Token) -> Result<User, CheckError> {
        let holder = self.check(token).await?;
        let user = self.users.find_by_id(holder.user_id).await?;
        user.filter(|user| user.disabled_at.is_none())
            .ok_or(CheckError::InvalidToken)
    }

    /// The living sessions of a user, the newest first.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub async fn sessions(&self, user_id: i64) -> Result<Vec<Session>, CheckError> {
        Ok(self.tokens.sessions(user_id).await?)
    }

    /// Ends one session of this user. False: it is none of his, or none at all.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub async fn end_session(&self, user_id: i64, id: &str) -> Result<bool, CheckError> {
        match id.parse::<SessionId>() {
            Ok(id) if id.user_id() == user_id => Ok(self.tokens.end(&id).await?),
            _ => Ok(false),
        }
    }

    /// Ends all sessions of a user, but for one that is kept, and tells how many. When this has returned, they are dead, and so
    /// is what a login gets that runs beside it.
    ///
    /// # Errors
    /// See [`CheckError`].
    pub async fn end_sessions(
        &self,
        user_id: i64,
        keep: Option<&SessionId>,
    ) -> Result<u64, CheckError> {
        Ok(self.tokens.end_all(user_id, keep, None).await?)
    }

    /// The throttle.
    pub fn limits(&self) -> &Limits {
        &self.limits
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

/// As many as a Redis Cluster has slots. Each leaves a key of some hundred bytes for an hour.
const STRANGERS: u64 = 16_384;

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

impl From<LimitError> for LoginError {
    fn from(error: LimitError) -> Self {
        match error {
            LimitError::TooManyAttempts { retry_after } => Self::TooManyAttempts { retry_after },
            LimitError::Unavailable(error) => error.into(),
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
