//! What an error of the database means for the caller.

use sea_orm::sqlx::{self, postgres::PgDatabaseError, sqlite::SqliteError};
use sea_orm::{DbErr, RuntimeErr};

use super::{ReadOnly, unavailable};
use crate::store::{Dependency, StoreError};

/// The error code in the words of the database.
enum Code {
    /// `SQLSTATE` (PostgreSQL, appendix A).
    Postgres(String),
    /// Extended result code (<https://sqlite.org/rescode.html>).
    Sqlite(i32),
}

impl Code {
    fn of(error: &DbErr) -> Option<Self> {
        let sqlx::Error::Database(error) = driver_error(error)? else {
            return None;
        };
        let code = error.code()?;
        if error.try_downcast_ref::<PgDatabaseError>().is_some() {
            Some(Self::Postgres(code.into_owned()))
        } else if error.try_downcast_ref::<SqliteError>().is_some() {
            code.parse().ok().map(Self::Sqlite)
        } else {
            None
        }
    }
}

fn driver_error(error: &DbErr) -> Option<&sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

fn message(error: &DbErr) -> &str {
    match driver_error(error) {
        Some(sqlx::Error::Database(error)) => error.message(),
        _ => "",
    }
}

/// What the caller can do about `error`.
pub(in crate::store) fn classify(error: DbErr) -> StoreError {
    if is_username_taken(&error) {
        StoreError::Conflict
    } else if is_corrupt(&error) {
        StoreError::Corrupt {
            dependency: Dependency::Database,
            what: error.to_string(),
        }
    } else if is_undefined(&error) {
        unavailable(SchemaBehind(error))
    } else if is_unprepared(&error) {
        unavailable(Unprepared)
    } else {
        unavailable(error)
    }
}

/// What the statement names is not there.
#[derive(Debug, thiserror::Error)]
#[error("the schema is behind this binary, run `claviger migrate up`")]
struct SchemaBehind(#[source] DbErr);

/// The driver says which character of the password it was: that is left out.
#[derive(Debug, thiserror::Error)]
#[error(
    "the user or the password holds a character that SCRAM excludes (RFC 4013), such as a control character or an emoji"
)]
struct Unprepared;

fn is_unprepared(error: &DbErr) -> bool {
    matches!(driver_error(error), Some(sqlx::Error::Configuration(error)) if error.to_string().contains("saslprep"))
}

/// Whether `error` says nothing of the statement: the connection broke, or the server is busy, full or ending.
pub(in crate::store) fn is_passing(error: &DbErr) -> bool {
    match driver_error(error) {
        Some(sqlx::Error::Database(_)) => match Code::of(error) {
            // 08: connection; 40: rollback; 53: resources; 55: a lock; 57: intervention; 58: the system.
            Some(Code::Postgres(code)) => {
                matches!(code.get(..2), Some("08" | "40" | "53" | "55" | "57" | "58"))
            }
            Some(Code::Sqlite(code)) => matches!(code & 0xff, sqlite::BUSY | sqlite::LOCKED),
            None => false,
        },
        Some(sqlx::Error::Io(_) | sqlx::Error::PoolTimedOut | sqlx::Error::WorkerCrashed) => true,
        Some(_) => false,
        None => matches!(error, DbErr::ConnectionAcquire(_)),
    }
}

fn is_username_taken(error: &DbErr) -> bool {
    match driver_error(error) {
        Some(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            // PostgreSQL names the constraint, SQLite only the column.
            error.constraint() == Some("users_username_key")
                || error.message().contains("users.username")
        }
        _ => false,
    }
}

/// Errors that stay until somebody mends a row or a statement. All others may pass: no connection, no time, no space, no
/// permission, no table yet.
fn is_corrupt(error: &DbErr) -> bool {
    match Code::of(error) {
        // 22: a value is refused; 23: a constraint; 42: a statement is wrong, unless it is the schema or the role that lacks
        // what it names.
        Some(Code::Postgres(code)) => {
            matches!(code.get(..2), Some("22" | "23" | "42"))
                && code != INSUFFICIENT_PRIVILEGE
                && !is_undefined(error)
        }
        Some(Code::Sqlite(code)) => match code & 0xff {
            sqlite::ERROR => !is_undefined(error),
            sqlite::CORRUPT
            | sqlite::CONSTRAINT
            | sqlite::MISMATCH
            | sqlite::RANGE
            | sqlite::NOT_A_DATABASE => true,
            _ => false,
        },
        None => match driver_error(error) {
            Some(error) => matches!(
                error,
                sqlx::Error::ColumnDecode { .. }
                    | sqlx::Error::Decode(_)
                    | sqlx::Error::Encode(_)
                    | sqlx::Error::ColumnNotFound(_)
                    | sqlx::Error::ColumnIndexOutOfBounds { .. }
                    | sqlx::Error::TypeNotFound { .. }
                    | sqlx::Error::InvalidArgument(_)
                    | sqlx::Error::RowNotFound
            ),
            None => !matches!(error, DbErr::ConnectionAcquire(_) | DbErr::Conn(_)),
        },
    }
}

/// A table or a column that the statement names is missing: the schema is behind.
pub(in crate::store) fn is_undefined(error: &DbErr) -> bool {
    match Code::of(error) {
        Some(Code::Postgres(code)) => code == UNDEFINED_TABLE || code == UNDEFINED_COLUMN,
        Some(Code::Sqlite(code)) => {
            let text = message(error);
            code & 0xff == sqlite::ERROR
                && (text.contains("no such table")
                    || text.contains("no such column")
                    || text.contains("has no column"))
        }
        None => false,
    }
}

/// Somebody else holds the lock of the SQLite file.
pub(in crate::store) fn is_locked(error: &DbErr) -> bool {
    matches!(Code::of(error), Some(Code::Sqlite(code)) if matches!(code & 0xff, sqlite::BUSY | sqlite::LOCKED))
}

/// The database answers, but takes no writes from anybody.
pub(in crate::store) fn is_read_only(error: &StoreError) -> bool {
    let StoreError::Unavailable { source, .. } = error else {
        return false;
    };
    match source.downcast_ref().and_then(Code::of) {
        Some(Code::Postgres(code)) => code == READ_ONLY_TRANSACTION,
        Some(Code::Sqlite(code)) => code & 0xff == sqlite::READ_ONLY,
        None => source.is::<ReadOnly>(),
    }
}

/// The statement met a connection that was already dead, or that leads to a server which may only be read since a failover:
/// another connection may do better. A connection that could not be made at all is none of these.
pub(super) fn is_dead_connection(error: &DbErr) -> bool {
    if matches!(error, DbErr::Conn(_)) {
        return false;
    }
    match Code::of(error) {
        // 57P: the server shuts down, crashed, or ended the session; 08: the connection broke.
        Some(Code::Postgres(code)) => {
            code.starts_with("57P") || code.starts_with("08") || code == READ_ONLY_TRANSACTION
        }
        Some(Code::Sqlite(_)) => false,
        None => matches!(
            driver_error(error),
            Some(
                sqlx::Error::Io(_)
                    | sqlx::Error::Tls(_)
                    | sqlx::Error::Protocol(_)
                    | sqlx::Error::WorkerCrashed
            )
        ),
    }
}

const READ_ONLY_TRANSACTION: &str = "25006";
const INSUFFICIENT_PRIVILEGE: &str = "42501";
const UNDEFINED_COLUMN: &str = "42703";
const UNDEFINED_TABLE: &str = "42P01";

/// Primary result codes of SQLite: the lower eight bits of an extended one.
mod sqlite {
    pub(super) const ERROR: i32 = 1;
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const READ_ONLY: i32 = 8;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const CONSTRAINT: i32 = 19;
    pub(super) const MISMATCH: i32 = 20;
    pub(super) const RANGE: i32 = 25;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sea_orm::sqlx::sqlite::SqlitePoolOptions;

    use super::*;

    fn query_error(error: sqlx::Error) -> DbErr {
        DbErr::Query(RuntimeErr::SqlxError(Arc::new(error)))
    }

    /// The error that SQLite itself gives for `sql`.
    async fn sqlite_error(sql: &'static str) -> DbErr {
        let pool = SqlitePoolOptions::new()
            .max_connections(1)
            .connect("sqlite::memory:")
            .await
            .unwrap();
        let table = "CREATE TABLE users (id integer PRIMARY KEY, username text UNIQUE); INSERT INTO users VALUES (1, 'a')";
        sqlx::raw_sql(table).execute(&pool).await.unwrap();
        query_error(sqlx::raw_sql(sql).execute(&pool).await.unwrap_err())
    }

    #[tokio::test]
    async fn errors_of_sqlite() {
        let taken = sqlite_error("INSERT INTO users VALUES (2, 'a')").await;
        assert!(matches!(classify(taken), StoreError::Conflict));
        // Not the username: nobody can act on it.
        let id = sqlite_error("INSERT INTO users VALUES (1, 'b')").await;
        assert!(matches!(classify(id), StoreError::Corrupt { .. }));
        for behind in [
            "SELECT 1 FROM sessions",
            "SELECT email FROM users",
            "INSERT INTO users (email) VALUES ('a')",
        ] {
            let error = sqlite_error(behind).await;
            assert!(is_undefined(&error), "{behind}");
            assert!(
                matches!(classify(error), StoreError::Unavailable { .. }),
                "{behind}"
            );
        }
        let wrong = sqlite_error("SELEC 1").await;
        assert!(!is_undefined(&wrong) && !is_dead_connection(&wrong));
        assert!(matches!(classify(wrong), StoreError::Corrupt { .. }));
        for passing in [
            "PRAGMA query_only = ON; DELETE FROM users",
            // The disk is full.
            "PRAGMA max_page_count = 1; INSERT INTO users VALUES (2, hex(zeroblob(100000)))",
        ] {
            assert!(
                matches!(
                    classify(sqlite_error(passing).await),
                    StoreError::Unavailable { .. }
                ),
                "{passing}"
            );
        }
    }

    #[test]
    fn errors_of_the_driver() {
        let io = || sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(is_dead_connection(&query_error(io())));
        // The server could not be reached at all: a second try would only double the wait.
        assert!(!is_dead_connection(&DbErr::Conn(RuntimeErr::SqlxError(
            Arc::new(io())
        ))));

        for passing in [
            io(),
            sqlx::Error::PoolTimedOut,
            sqlx::Error::PoolClosed,
            sqlx::Error::WorkerCrashed,
        ] {
            assert!(matches!(
                classify(query_error(passing)),
                StoreError::Unavailable { .. }
            ));
        }
        for lasting in [
            sqlx::Error::ColumnNotFound("id".into()),
            sqlx::Error::Decode("no date".into()),
        ] {
            assert!(matches!(
                classify(query_error(lasting)),
                StoreError::Corrupt { .. }
            ));
        }
        assert!(matches!(
            classify(DbErr::Type("no date".into())),
            StoreError::Corrupt { .. }
        ));
    }
}
