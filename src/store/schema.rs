//! The version of the database schema: compare it, and go from any version to any other.
//!
//! sea-orm-migration supplies the form of a migration and of its bookkeeping table, `seaql_migrations`; running them is done
//! here, since its own runner takes no lock, can't look without writing, fails on a database that is ahead, and leaves half
//! a migration behind on SQLite.
//!
//! - One of many instances does the work, the others wait and then find it done (`lock`).
//! - Each migration and its line in the bookkeeping come about together or not at all.
//! - A migration that this binary doesn't know is left alone; undoing past it is refused.

use std::error::Error;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use migration::{MigrationTrait, Migrator, MigratorTrait, SchemaManager};
use sea_orm::{DatabaseConnection, DbErr, TransactionTrait};

use self::lock::Lock;
use super::StoreError;
use super::database::{call, classify, is_passing};

mod lock;
mod record;

/// How long the lock is waited for, unless [`Schema::lock_wait`] says otherwise.
pub const LOCK_WAIT: Duration = Duration::from_mins(1);

/// What the database holds, compared with what this binary knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// Both are the same.
    Current,
    /// Something that this binary knows is missing, whatever else is there.
    Behind,
    /// Nothing is missing, and there is more than this binary knows. It works, since a schema expands before it contracts.
    Ahead,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Current => "current",
            Self::Behind => "behind",
            Self::Ahead => "ahead",
        })
    }
}

/// What is applied to a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// The names of all migrations that the database remembers, in order, also of those that this binary doesn't know.
    pub applied: Vec<String>,
    /// Those of them that this binary doesn't know.
    pub unknown: Vec<String>,
    /// The names of those that this binary knows and the database lacks.
    pub missing: Vec<String>,
    /// LATEST: the number of migrations that this binary knows.
    pub known: usize,
    /// The version, from 0 (empty) to LATEST: how many of the known ones are applied before the first that is not.
    pub version: usize,
    /// Both compared.
    pub comparison: Comparison,
}

/// A version to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The first so many migrations.
    Version(usize),
    /// None of them.
    Zero,
    /// All that this binary knows.
    Latest,
}

/// The text is neither a number nor `zero` nor `latest`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a schema version is a number, `zero` or `latest`")]
pub struct InvalidTarget;

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        match text {
            "zero" => Ok(Self::Zero),
            "latest" => Ok(Self::Latest),
            number => number.parse().map(Self::Version).map_err(|_| InvalidTarget),
        }
    }
}

/// Why the schema is not at the version that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum SchemaError {
    /// There is no such version: the caller's mistake.
    #[error("there is no schema version {wanted}: this binary knows 0 to {latest}")]
    UnknownVersion {
        /// What was asked for.
        wanted: usize,
        /// The highest that there is.
        latest: usize,
    },
    /// The database is ahead, so going back would undo what this binary doesn't know how to undo. Nothing was changed.
    #[error("the schema is ahead of this binary, which doesn't know how to undo {}", unknown.join(", "))]
    Ahead {
        /// The names that this binary doesn't know.
        unknown: Vec<String>,
    },
    /// Another instance migrates, and took longer than this one may wait. Nothing was changed.
    #[error("another instance holds the migration lock for longer than {waited:?}")]
    Locked {
        /// How long it was waited for.
        waited: Duration,
    },
    /// The sessions, which have to end before the ids of users start again at 1, could not be ended. Nothing was changed.
    #[error("the sessions could not be ended, so nothing was undone")]
    EndSessions(#[source] Box<dyn Error + Send + Sync>),
    /// One migration failed and left no trace on its own; those before it are done.
    #[error("migration {name} failed")]
    Migration {
        /// Its name.
        name: String,
        /// What the database said.
        source: DbErr,
    },
    /// The database is away, or can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SchemaError {
    /// Whether the same may succeed later without anybody's help: something is away, slow or busy.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Locked { .. }
            | Self::EndSessions(_)
            | Self::Store(StoreError::Unavailable { .. }) => true,
            Self::Migration { source, .. } => is_passing(source),
            Self::UnknownVersion { .. } | Self::Ahead { .. } | Self::Store(_) => false,
        }
    }
}

impl From<DbErr> for SchemaError {
    fn from(error: DbErr) -> Self {
        Self::Store(classify(error))
    }
}

/// The highest version that this binary knows.
pub fn latest() -> usize {
    Migrator::migrations().len()
}

/// The schema of one database.
pub struct Schema {
    db: DatabaseConnection,
    migrations: Vec<Box<dyn MigrationTrait>>,
    lock_wait: Duration,
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("latest", &self.latest())
            .finish_non_exhaustive()
    }
}

impl Schema {
    /// The schema of `db`, with the versions of the crate `migration`.
    pub fn new(db: DatabaseConnection) -> Self {
        Self::with_migrations(db, Migrator::migrations())
    }

    /// The schema of `db`, with other versions, in order.
    pub fn with_migrations(
        db: DatabaseConnection,
        migrations: Vec<Box<dyn MigrationTrait>>,
    ) -> Self {
        Self {
            db,
            migrations,
            lock_wait: LOCK_WAIT,
        }
    }

    /// Waits at most so long for an instance that migrates at the same time.
    #[must_use]
    pub fn lock_wait(mut self, wait: Duration) -> Self {
        self.lock_wait = wait;
        self
    }

    /// The highest version that this binary knows.
    pub fn latest(&self) -> usize {
        self.migrations.len()
    }

    /// What is applied. Only reads: a role that may do nothing but `SELECT` is enough, and an empty database stays empty.
    pub async fn status(&self) -> Result<Status, StoreError> {
        let applied = call(&self.db, || record::applied(&self.db)).await?;
        Ok(self.compare(applied))
    }

    /// The random id of this installation, in lower-case hex; None before version 1. Only reads.
    pub async fn installation_id(&self) -> Result<Option<String>, StoreError> {
        call(&self.db, || record::installation_id(&self.db)).await
    }

    /// Applies whatever is missing. A database that is ahead is no error.
    pub async fn up(&self) -> Result<Status, SchemaError> {
        self.migrate(Goal::Target(Target::Latest), async || {
            Ok::<(), SchemaError>(())
        })
        .await
    }

    /// Undoes the last version; at version 0 there is nothing to do. For `end_sessions` see [`Schema::to`].
    ///
    /// # Errors
    ///
    /// [`SchemaError::Ahead`] if the last version is unknown.
    pub async fn down<E>(
        &self,
        end_sessions: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<Status, SchemaError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.migrate(Goal::Down, end_sessions).await
    }

    /// Goes to a version, up or down: first undoes what lies above it, the last one first, then applies what is missing below.
    ///
    /// `end_sessions` ends every session in the token store. It is called under the lock, at most once, and before anything is
    /// undone, if `users`, `installation` or `pending_revocations` will be undone ([`migration::undoing_ends_sessions`]). It must not write to this
    /// database, whose lock is held. Tokens that a running instance issues after it would outlive their user: stop the instances first.
    ///
    /// # Errors
    ///
    /// [`SchemaError::UnknownVersion`]; [`SchemaError::Ahead`] if an unknown version would have to be undone, which it never has
    /// for the latest version; [`SchemaError::EndSessions`]. In all three nothing was changed.
    pub async fn to<E>(
        &self,
        target: Target,
        end_sessions: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<Status, SchemaError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        self.migrate(Goal::Target(target), end_sessions).await
    }

    async fn migrate<E>(
        &self,
        goal: Goal,
        end_sessions: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<Status, SchemaError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        // Most starts have nothing to do: those need neither the lock nor the right to change anything.
        let status = self.status().await?;
        if self.plan(&status, goal)?.is_empty() {
            return Ok(status);
        }
        let lock = Lock::take(&self.db, self.lock_wait).await?;
        let outcome = self.execute(&lock, goal, end_sessions).await;
        // Also after an error, for what was done before it.
        let released = lock.release().await;
        outcome?;
        released?;
        Ok(self.status().await?)
    }

    async fn execute<E>(
        &self,
        lock: &Lock,
        goal: Goal,
        end_sessions: impl AsyncFnOnce() -> Result<(), E>,
    ) -> Result<(), SchemaError>
    where
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        // Read again: whoever had the lock before may have done it.
        let status = self.compare(record::applied(&lock.executor()).await?);
        let plan = self.plan(&status, goal)?;
        if plan
            .undo
            .iter()
            .any(|migration| migration::undoing_ends_sessions(migration.name()))
        {
            end_sessions()
                .await
                .map_err(|error| SchemaError::EndSessions(error.into()))?;
        }
        if !plan.apply.is_empty() {
            record::create(&lock.executor()).await?;
        }
        let steps = plan
            .undo
            .iter()
            .map(|m| (*m, Direction::Down))
            .chain(plan.apply.iter().map(|m| (*m, Direction::Up)));
        for (migration, direction) in steps {
            step(lock, migration, direction)
                .await
                .map_err(|source| SchemaError::Migration {
                    name: migration.name().to_owned(),
                    source,
                })?;
            tracing::info!(migration = migration.name(), %direction, "schema changed");
        }
        Ok(())
    }

    fn compare(&self, applied: Vec<String>) -> Status {
        let known: Vec<&str> = self.migrations.iter().map(|m| m.name()).collect();
        let is_applied = |name: &&str| applied.iter().any(|other| other == name);
        let missing: Vec<String> = known
            .iter()
            .filter(|name| !is_applied(name))
            .map(|&name| name.to_owned())
            .collect();
        let unknown: Vec<String> = applied
            .iter()
            .filter(|name| !known.contains(&name.as_str()))
            .cloned()
            .collect();
        let version = known.iter().take_while(|name| is_applied(name)).count();
        let comparison = match (missing.is_empty(), unknown.is_empty()) {
            (false, _) => Comparison::Behind,
            (true, false) => Comparison::Ahead,
            (true, true) => Comparison::Current,
        };
        Status {
            applied,
            unknown,
            missing,
            known: self.latest(),
            version,
            comparison,
        }
    }

    fn plan(&self, status: &Status, goal: Goal) -> Result<Plan<'_>, SchemaError> {
        let is_applied = |migration: &&dyn MigrationTrait| {
            status.applied.iter().any(|name| name == migration.name())
        };
        let known = || self.migrations.iter().map(AsRef::as_ref);
        let latest = self.latest();
        let version = match goal {
            Goal::Target(Target::Latest) => latest,
            Goal::Target(Target::Zero) => 0,
            Goal::Target(Target::Version(wanted)) if wanted > latest => {
                return Err(SchemaError::UnknownVersion { wanted, latest });
            }
            Goal::Target(Target::Version(wanted)) => wanted,
            Goal::Down => {
                let last = known().rfind(is_applied);
                refuse_unknown(status)?;
                return Ok(Plan {
                    undo: last.into_iter().collect(),
                    apply: Vec::new(),
                });
            }
        };
        if version < latest {
            refuse_unknown(status)?;
        }
        Ok(Plan {
            undo: known().skip(version).filter(is_applied).rev().collect(),
            apply: known().take(version).filter(|m| !is_applied(m)).collect(),
        })
    }
}

/// A version above the wanted one is to go; one that this binary doesn't know is above all others.
fn refuse_unknown(status: &Status) -> Result<(), SchemaError> {
    if status.unknown.is_empty() {
        Ok(())
    } else {
        Err(SchemaError::Ahead {
            unknown: status.unknown.clone(),
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Goal {
    Target(Target),
    Down,
}

/// What has to be done, each in this order; first undo, then apply.
struct Plan<'a> {
    undo: Vec<&'a dyn MigrationTrait>,
    apply: Vec<&'a dyn MigrationTrait>,
}

impl Plan<'_> {
    fn is_empty(&self) -> bool {
        self.undo.is_empty() && self.apply.is_empty()
    }
}

#[derive(Clone, Copy, Debug)]
enum Direction {
    Up,
    Down,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Up => "up",
            Self::Down => "down",
        })
    }
}

/// One migration and its line in the bookkeeping, both or none.
async fn step(
    lock: &Lock,
    migration: &dyn MigrationTrait,
    direction: Direction,
) -> Result<(), DbErr> {
    if migration.use_transaction() == Some(false) && matches!(lock, Lock::Postgres(_)) {
        run(&lock.manager(), migration, direction).await?;
        return record::note(&lock.executor(), migration.name(), direction).await;
    }
    // On SQLite this is a savepoint in the transaction that is the lock.
    let transaction = lock.executor().begin().await?;
    let outcome = async {
        run(&SchemaManager::new(&transaction), migration, direction).await?;
        record::note(&transaction, migration.name(), direction).await
    }
    .await;
    match outcome {
        Ok(()) => transaction.commit().await,
        Err(error) => {
            // The error that counts is the migration's own; one of the rollback only says that the connection is gone.
            if let Err(error) = transaction.rollback().await {
                tracing::debug!(%error, "a failed migration was rolled back by the database, not by hand");
            }
            Err(error)
        }
    }
}

async fn run(
    manager: &SchemaManager<'_>,
    migration: &dyn MigrationTrait,
    direction: Direction,
) -> Result<(), DbErr> {
    match direction {
        Direction::Up => migration.up(manager).await,
        Direction::Down => migration.down(manager).await,
    }
}
