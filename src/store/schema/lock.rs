//! One migrates, the others wait: the lock, and the connection that holds it and on which everything is done.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use migration::SchemaManager;
use sea_orm::sqlx::postgres::PgPoolOptions;
use sea_orm::sqlx::{self, Executor};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseExecutor, DatabaseTransaction, DbBackend, DbErr,
    SqlxPostgresConnector, Statement,
};
use tokio::time::{Instant, sleep};

use super::SchemaError;
use crate::store::database::{acquire_timeout, begin, is_locked};

/// The key of the advisory lock: `claviger` in ASCII. Such locks are per database, so two installations in one database share it.
const KEY: i64 = i64::from_be_bytes(*b"claviger");

/// The longest that a migration waits for a lock on a table. All queries that come after it wait as well, so this is how long
/// a session that somebody left open can hold up logins.
const TABLE_LOCK_WAIT: &str = "SET lock_timeout = '5s'";

/// The first and the longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// The lock, held. Dropped without [`Lock::release`] it is given back as well: on SQLite with nothing done.
pub(super) enum Lock {
    /// An advisory lock of this one connection's session; it goes with the session.
    Postgres(DatabaseConnection),
    /// The write lock on the file, which is a transaction.
    Sqlite(DatabaseTransaction),
}

impl Lock {
    /// Takes the lock, or waits for it, but not longer than `wait`.
    pub(super) async fn take(db: &DatabaseConnection, wait: Duration) -> Result<Self, SchemaError> {
        let postgres =
            (db.get_database_backend() == DbBackend::Postgres).then(|| one_connection(db));
        let end = Instant::now() + wait;
        let (mut pause, longest) = PAUSE;
        loop {
            let lock = match &postgres {
                Some(connection) => try_postgres(connection).await?,
                None => try_sqlite(db).await?,
            };
            if let Some(lock) = lock {
                return Ok(lock);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(SchemaError::Locked { waited: wait });
            }
            sleep(pause.min(left)).await;
            pause = (2 * pause).min(longest);
        }
    }

    /// Gives it back, with everything that was done.
    pub(super) async fn release(self) -> Result<(), DbErr> {
        match self {
            Self::Postgres(connection) => connection.close().await,
            Self::Sqlite(transaction) => transaction.commit().await,
        }
    }

    /// Where statements run.
    pub(super) fn executor(&self) -> DatabaseExecutor<'_> {
        match self {
            Self::Postgres(connection) => connection.into(),
            Self::Sqlite(transaction) => transaction.into(),
        }
    }

    /// What a migration is given that runs outside any transaction of ours.
    pub(super) fn manager(&self) -> SchemaManager<'_> {
        SchemaManager::new(self.executor())
    }
}

/// Tries, and never blocks: a session that waits inside `pg_advisory_lock` holds a snapshot all the while, and a
/// `CREATE INDEX CONCURRENTLY` of the one that migrates would wait for that snapshot for ever.
async fn try_postgres(connection: &DatabaseConnection) -> Result<Option<Lock>, DbErr> {
    let query = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT pg_try_advisory_lock($1) AS taken",
        [KEY.into()],
    );
    let row = connection.query_one_raw(query).await?;
    let taken = row
        .map(|row| row.try_get::<bool>("", "taken"))
        .transpose()?
        .unwrap_or(false);
    Ok(taken.then(|| Lock::Postgres(connection.clone())))
}

async fn try_sqlite(db: &DatabaseConnection) -> Result<Option<Lock>, DbErr> {
    match begin(db).await {
        Ok(transaction) => Ok(Some(Lock::Sqlite(transaction))),
        Err(error) if is_locked(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A pool of one connection that is made once: if it broke and were replaced, the new one would not hold the lock.
///
/// Without the statement time-out of the service's own connections, since an index may take its time.
fn one_connection(db: &DatabaseConnection) -> DatabaseConnection {
    let made = AtomicBool::new(false);
    let pool = PgPoolOptions::new()
        .max_connections(1)
        .acquire_timeout(acquire_timeout(db))
        .idle_timeout(None)
        .max_lifetime(None)
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let again = made.swap(true, Ordering::Relaxed);
            Box::pin(async move {
                if again {
                    return Err(sqlx::Error::Protocol(
                        "the connection with the migration lock broke".to_owned(),
                    ));
                }
                connection.execute(TABLE_LOCK_WAIT).await.map(|_| ())
            })
        })
        .connect_lazy_with(
            db.get_postgres_connection_pool()
                .connect_options()
                .as_ref()
                .clone(),
        );
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}
