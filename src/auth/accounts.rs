//! Changes to accounts that end sessions. The change and the promise to end them are one transaction; then the promise is kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use secrecy::SecretString;

use crate::store::audit::Author;
use crate::store::revocations::{Revocation, Revocations};
use crate::store::tokens::{SessionId, Tokens};
use crate::store::users::{Applied, NewUser, User, UserChange, Users};
use crate::store::{Dependency, StoreError};

/// Promises that are kept at once.
const PAGE: u64 = 100;

/// How long a round goes on when promises can't be kept: the watch waits for it.
const PATIENCE: Duration = Duration::from_secs(3);

/// What changes accounts. A cheap clone.
#[derive(Clone, Debug)]
pub struct Accounts {
    users: Users,
    revocations: Revocations,
    tokens: Tokens,
    /// The tokens are those of this process, or can be reached by it.
    reaches_tokens: bool,
    /// So many of the oldest promises had their turn and could not be kept when the last round gave up.
    behind: Arc<AtomicU64>,
}

/// What came of a change.
#[derive(Debug)]
pub enum Change {
    /// There was nothing to change, and nothing was done.
    NotFound,
    /// Nobody would be left who may manage users, and nothing was done.
    LastAdmin,
    /// It is done, and so many sessions ended with it.
    Done {
        /// How many were alive.
        ended: u64,
    },
    /// It is done. The tokens are in another process, which ends the sessions within a second.
    Noted,
    /// It is done. The token store is away, and the service ends the sessions when it is back.
    Pending(StoreError),
}

impl Accounts {
    /// For the service, which has the tokens.
    pub fn new(users: Users, revocations: Revocations, tokens: Tokens) -> Self {
        Self {
            users,
            revocations,
            tokens,
            reaches_tokens: true,
            behind: Arc::default(),
        }
    }

    /// For a command, which is another process than the service: it can't reach tokens in the memory of that.
    pub fn of_command(users: Users, revocations: Revocations, tokens: Tokens) -> Self {
        let reaches_tokens = !tokens.is_local();
        Self {
            reaches_tokens,
            ..Self::new(users, revocations, tokens)
        }
    }

    /// Makes a user.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn create(&self, new: NewUser, author: &Author) -> Result<User, StoreError> {
        self.users.create(new, author).await
    }

    /// Changes a user, and ends all sessions if that sets a password or forbids to log in. The user as it is then comes with
    /// it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn change(
        &self,
        id: i64,
        change: &UserChange,
        author: &Author,
    ) -> Result<(Option<User>, Change), StoreError> {
        let ends = change.password_hash.is_some() || change.disabled == Some(true);
        let revocation = ends.then(|| Revocation::of_user(id));
        let applied = self
            .users
            .apply(id, change, revocation.as_ref(), author)
            .await?;
        match (applied, revocation) {
            (Applied::NotFound, _) => Ok((None, Change::NotFound)),
            (Applied::LastAdmin, _) => Ok((None, Change::LastAdmin)),
            (Applied::Done(user), None) => Ok((Some(*user), Change::Done { ended: 0 })),
            (Applied::Done(user), Some(revocation)) => {
                Ok((Some(*user), self.settle(true, &revocation).await?))
            }
        }
    }

    /// Sets another password and ends all sessions.
    pub async fn set_password(
        &self,
        id: i64,
        hash: SecretString,
        author: &Author,
    ) -> Result<Change, StoreError> {
        let change = UserChange {
            password_hash: Some(hash),
            ..UserChange::default()
        };
        Ok(self.change(id, &change, author).await?.1)
    }

    /// Sets another password in place of the one that `user` was read with, and ends all sessions but `kept`. Not found: the
    /// user was changed meanwhile.
    pub async fn replace_password(
        &self,
        user: &User,
        hash: &SecretString,
        kept: SessionId,
    ) -> Result<Change, StoreError> {
        let revocation = Revocation::of_others(kept);
        let found = self.users.replace_password(user, hash, &revocation).await?;
        self.settle(found, &revocation).await
    }

    /// Forbids to log in and ends all sessions, or allows to log in again.
    pub async fn set_disabled(
        &self,
        id: i64,
        disabled: bool,
        author: &Author,
    ) -> Result<Change, StoreError> {
        let change = UserChange {
            disabled: Some(disabled),
            ..UserChange::default()
        };
        Ok(self.change(id, &change, author).await?.1)
    }

    /// Removes a user and ends all sessions.
    pub async fn delete(&self, id: i64, author: &Author) -> Result<Change, StoreError> {
        let revocation = Revocation::of_user(id);
        match self.users.remove(id, &revocation, author).await? {
            Applied::NotFound => Ok(Change::NotFound),
            Applied::LastAdmin => Ok(Change::LastAdmin),
            Applied::Done(_) => self.settle(true, &revocation).await,
        }
    }

    /// Ends all sessions of a user, who need not exist any more.
    pub async fn end_sessions(&self, id: i64) -> Result<Change, StoreError> {
        self.end(&Revocation::of_user(id)).await
    }

    /// Ends one session.
    pub async fn end_session(&self, session: SessionId) -> Result<Change, StoreError> {
        self.end(&Revocation::of_session(session)).await
    }

    /// Ends sessions without a change to an account. It is noted only if it can't be done now: what is noted a service may carry
    /// out first, and then nobody could tell here whether there was anything to end.
    async fn end(&self, revocation: &Revocation) -> Result<Change, StoreError> {
        if !self.reaches_tokens {
            self.revocations.note(revocation).await?;
            return Ok(Change::Noted);
        }
        match revocation.carry_out(&self.tokens).await {
            Ok(ended) => Ok(Change::Done { ended }),
            Err(error) => {
                self.revocations.note(revocation).await?;
                Ok(Change::Pending(error))
            }
        }
    }

    async fn settle(&self, found: bool, revocation: &Revocation) -> Result<Change, StoreError> {
        if !found {
            return Ok(Change::NotFound);
        }
        if !self.reaches_tokens {
            return Ok(Change::Noted);
        }
        match revocation.carry_out(&self.tokens).await {
            Ok(ended) => {
                if let Err(error) = self.revocations.strike(revocation).await {
                    // Somebody will find it done, and strike it.
                    tracing::debug!(%error, "a revocation that was carried out is still noted");
                }
                Ok(Change::Done { ended })
            }
            Err(error) => Ok(Change::Pending(error)),
        }
    }

    /// Keeps the promises that others made and did not keep: because the token store was away, the process ended, or it could
    /// not reach the tokens. Tells how many sessions ended.
    ///
    /// # Errors
    /// A store is away, or a part of it. What could not be done waits for the next round.
    pub async fn settle_pending(&self) -> Result<u64, StoreError> {
        let begin = Instant::now();
        let mut sessions = 0;
        let mut failed = None;
        // Those that can't be kept stay the first of the table, so the next ones stand behind as many.
        let mut behind = self.behind.swap(0, Ordering::Relaxed);
        let mut from_the_first = behind == 0;
        loop {
            let pending = self.revocations.pending(PAGE, behind).await?;
            let last = (pending.len() as u64) < PAGE;
            // All at once: of a store that hangs each would run into a time-out of its own, and the watch waits for all of them.
            let carry_out = |revocation| Revocation::carry_out(revocation, &self.tokens);
            let outcomes = join_all(pending.iter().map(carry_out)).await;
            for (revocation, outcome) in pending.iter().zip(outcomes) {
                match outcome {
                    Ok(ended) => {
                        sessions += ended;
                        self.revocations.strike(revocation).await?;
                    }
                    // It may be the keys of this one user that can't be had.
                    Err(error) => {
                        failed = Some(error);
                        behind += 1;
                    }
                }
            }
            if last && from_the_first {
                return failed.map_or(Ok(sessions), Err);
            }
            if let Some(error) = failed.take_if(|_| begin.elapsed() >= PATIENCE) {
                let next = if last { 0 } else { behind };
                self.behind.store(next, Ordering::Relaxed);
                return Err(error);
            }
            if last {
                behind = 0;
                from_the_first = true;
            }
        }
    }
}

impl Change {
    /// How many sessions ended; for who must not answer before they did.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: they did not end yet.
    pub fn ended(self) -> Result<Option<u64>, StoreError> {
        match self {
            Self::NotFound | Self::LastAdmin => Ok(None),
            Self::Done { ended } => Ok(Some(ended)),
            Self::Pending(error) => Err(error),
            Self::Noted => Err(StoreError::unavailable(
                Dependency::Tokens,
                "the tokens are in another process",
            )),
        }
    }
}
