//! The connection pool of the database, and the bounds within which it is asked.
//!
//! Every call of this room goes through [`call`] or [`bounded`], so that a database that is away, stopped or locked is an
//! error within twice `database.acquire_timeout`, never a request that hangs.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, AssertSqlSafe, Executor, Row};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr,
    SqliteTransactionMode, SqlxPostgresConnector, SqlxSqliteConnector, Statement,
    TransactionOptions, TransactionTrait,
};
use secrecy::ExposeSecret;

use super::{Dependency, PoolStatus, StoreError};
use crate::config;

mod failure;

pub(super) use failure::{classify, is_locked, is_passing, is_read_only, is_undefined};

/// `database.url` is no address that this service can use. Its text never repeats the URL, which may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// Neither `postgres://` nor `sqlite://`.
    #[error("expected a URL that begins with postgres:// or sqlite://")]
    Scheme,
    /// `postgres://`, but not of the form that it needs.
    #[error("expected the form postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=MODE")]
    Postgres,
    /// `sqlite://`, but not of the form that it needs.
    #[error("expected the form sqlite://FILE?mode=rwc")]
    Sqlite,
}

/// No answer came in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct TimedOut(Duration);

/// The database answers, but nothing can be written to it.
#[derive(Debug, thiserror::Error)]
#[error("the database is read-only")]
pub(super) struct ReadOnly;

/// Asks a PostgreSQL session whether it may only read; a standby says `on` too.
const READ_ONLY: &str = "SHOW transaction_read_only";

/// Asks a PostgreSQL session whether it may write, and is in no transaction: in one, `now()` is when that began. It has to be
/// sent without parameters, since a prepared statement is several messages, each with a time of its own.
const AS_GOOD_AS_NEW: &str =
    "SELECT current_setting('transaction_read_only') = 'off' AND now() = statement_timestamp()";

/// The pool for `database.url`.
///
/// It connects at the first use: the service starts while PostgreSQL is away, and finds it again without a restart. What a
/// `postgres://` URL leaves out comes from the `PG*` variables and `.pgpass`, as with every PostgreSQL client; TLS is what its
/// `sslmode` says.
///
/// # Errors
///
/// Only for a URL that can't be used.
#[expect(
    clippy::unused_async,
    reason = "the pool starts tasks, so this has to run inside a runtime"
)]
pub async fn connect(settings: &config::Database) -> Result<DatabaseConnection, UrlError> {
    let connection = match Options::parse(settings)? {
        Options::Postgres(options) => postgres(*options, settings),
        Options::Sqlite(options) => sqlite(*options, settings),
    };
    Ok(connection)
}

/// Whether `database.url` can be used. Nobody is asked, and no file is touched.
///
/// # Errors
///
/// It can't.
pub fn check_url(settings: &config::Database) -> Result<(), UrlError> {
    Options::parse(settings).map(drop)
}

/// The directory of the database's file, as the driver reads the URL; the working directory where there is no file.
pub fn directory(settings: &config::Database) -> PathBuf {
    match Options::parse(settings) {
        Ok(Options::Sqlite(options)) => {
            let directory = options.get_filename().parent();
            directory.map(Path::to_path_buf).unwrap_or_default()
        }
        Ok(Options::Postgres(_)) | Err(_) => PathBuf::new(),
    }
}

/// Whether it is a file that is not there yet.
pub fn is_missing(settings: &config::Database) -> bool {
    match Options::parse(settings) {
        Ok(Options::Sqlite(options)) => !options.get_filename().exists(),
        Ok(Options::Postgres(_)) | Err(_) => false,
    }
}

/// What `database.url` says.
enum Options {
    Postgres(Box<PgConnectOptions>),
    Sqlite(Box<SqliteConnectOptions>),
}

impl Options {
    // Not through `sea_orm::Database::connect`: it puts the URL into its errors, and into a span at trace level.
    fn parse(settings: &config::Database) -> Result<Self, UrlError> {
        let url = settings.url.expose_secret();
        match url.split_once(':') {
            Some(("postgres" | "postgresql", _)) => url
                .parse()
                .map(|options| Self::Postgres(Box::new(options)))
                .map_err(|_| UrlError::Postgres),
            Some(("sqlite", _)) => {
                let options: SqliteConnectOptions = url.parse().map_err(|_| UrlError::Sqlite)?;
                // SQLite would take it for a nameless file of each connection's own.
                if options.get_filename().as_os_str().is_empty() {
                    return Err(UrlError::Sqlite);
                }
                Ok(Self::Sqlite(Box::new(options)))
            }
            _ => Err(UrlError::Scheme),
        }
    }
}

/// The longest `statement_timeout` that PostgreSQL takes, in milliseconds.
const LONGEST_STATEMENT: u128 = i32::MAX as u128;

fn postgres(options: PgConnectOptions, settings: &config::Database) -> DatabaseConnection {
    let limit = settings.acquire_timeout;
    // The server gives up too, so that a statement that waits for a lock does not outlive the request. Not a parameter of the
    // connection's start: poolers refuse those that they don't know.
    let prepare = format!(
        "SET statement_timeout = {}",
        limit.as_millis().clamp(1, LONGEST_STATEMENT)
    );
    let pool = PgPoolOptions::new()
        .max_connections(settings.max_connections)
        .acquire_timeout(limit)
        // That would be a round trip more for each use. Instead `call` tries again.
        .test_before_acquire(false)
        .after_connect(move |connection, _| {
            let prepare = prepare.clone();
            Box::pin(async move { connection.execute(AssertSqlSafe(prepare)).await.map(|_| ()) })
        })
        // The pool tests what comes back, but without a bound: where packets vanish that takes the kernel a quarter of an hour,
        // and for so long the connection keeps its place in the pool. Nor does it notice a failover, after which the connection
        // is alive and leads to a server that may only be read; nor that whoever gave up while a transaction began has left it
        // open (sqlx issue 4393), so that what others write next would be seen by nobody, and hold its locks.
        .after_release(move |connection, _| {
            Box::pin(async move {
                match tokio::time::timeout(limit, connection.fetch_one(AS_GOOD_AS_NEW)).await {
                    Ok(row) => row?.try_get(0),
                    Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
                }
            })
        })
        .connect_lazy_with(options);
    SqlxPostgresConnector::from_sqlx_postgres_pool(pool)
}

fn sqlite(options: SqliteConnectOptions, settings: &config::Database) -> DatabaseConnection {
    let url = settings.url.expose_secret();
    let options = options
        .foreign_keys(true)
        .busy_timeout(settings.acquire_timeout)
        // In WAL mode a crash of the machine may cost the last commits, but never the file.
        .synchronous(SqliteSynchronous::Normal);

    let query = url.split_once('?').map_or("", |(_, query)| query);
    let mode = form_urlencoded::parse(query.as_bytes())
        .find(|(key, _)| key == "mode")
        .map(|(_, value)| value);
    let pool = SqlitePoolOptions::new()
        .acquire_timeout(settings.acquire_timeout)
        .test_before_acquire(false);
    let pool = if mode.as_deref() == Some("memory") || url.ends_with(":memory:") {
        // It lives as long as its connection: there is exactly one, and it stays.
        pool.max_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
    } else {
        if mode.as_deref() == Some("rwc") {
            create_private(options.get_filename());
        }
        pool.max_connections(settings.max_connections)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    // The file remembers this, so it is a change only once, and only that once can it fail: SQLite does not wait
                    // for others here. Then this connection works as the file is, and the next one tries again.
                    if let Err(error) = connection.execute("PRAGMA journal_mode = WAL").await {
                        tracing::debug!(%error, "the database file was not switched to WAL");
                    }
                    Ok(())
                })
            })
    };
    SqlxSqliteConnector::from_sqlx_sqlite_pool(pool.connect_lazy_with(options))
}

/// Makes the file, so that only its owner can read the hashes in it: SQLite makes files that everybody can read, and gives
/// the files that it puts beside this one the same mode. One that exists keeps its mode; SQLite reports what fails here.
fn create_private(file: &Path) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    if let Err(error) = options.open(file)
        && error.kind() != std::io::ErrorKind::AlreadyExists
    {
        tracing::warn!(%error, file = %file.display(), "the database file can't be made");
    }
}

/// In microseconds, as PostgreSQL keeps it: what was written then equals what is read back.
pub(super) fn now() -> DateTimeUtc {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    DateTimeUtc::from_timestamp_micros(micros).unwrap_or(DateTimeUtc::MAX_UTC)
}

/// Runs `work`, which may be several statements, within the bound of one call.
pub(super) async fn bounded<T>(
    db: &DatabaseConnection,
    work: impl Future<Output = Result<T, DbErr>>,
) -> Result<T, StoreError> {
    let limit = 2 * acquire_timeout(db);
    match tokio::time::timeout(limit, work).await {
        Ok(outcome) => outcome.map_err(classify),
        Err(_) => Err(unavailable(TimedOut(limit))),
    }
}

/// Runs a statement within the bound of one call, and once more if its connection turned out to be dead. Only for what may
/// run twice: the first run may have reached the database.
pub(super) async fn call<T, F>(
    db: &DatabaseConnection,
    statement: impl Fn() -> F,
) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, DbErr>>,
{
    bounded(db, retried(db, statement)).await
}

/// Begins a transaction on a connection that is alive, for what must not run twice. On SQLite it holds the write lock from
/// the start: a transaction that first reads and then writes fails as soon as somebody else wrote in between.
pub(super) async fn begin(db: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    retried(db, || db.begin_with_options(options)).await
}

async fn retried<T, F>(db: &DatabaseConnection, statement: impl Fn() -> F) -> Result<T, DbErr>
where
    F: Future<Output = Result<T, DbErr>>,
{
    match statement().await {
        Err(error) if failure::is_dead_connection(&error) => {
            tracing::debug!(%error, "a database connection was dead; trying another");
            forget_idle(db);
            statement().await
        }
        outcome => outcome,
    }
}

/// Drops the idle connections. After a restart of the server they are all as dead as the one that was just met, and a second
/// try on one of them would be none; after a failover they all lead to the server that may only be read now.
fn forget_idle(db: &DatabaseConnection) {
    if db.get_database_backend() == DbBackend::Postgres {
        let pool = db.get_postgres_connection_pool();
        while let Some(connection) = pool.try_acquire() {
            drop(connection.detach());
        }
    }
}

/// Whether the database can be written to. On PostgreSQL that is one question, on SQLite a change that is taken back, which
/// stays in memory.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if it can't.
pub(super) async fn ping(db: &DatabaseConnection) -> Result<(), StoreError> {
    if db.get_database_backend() == DbBackend::Sqlite {
        return bounded(db, async {
            // To take the write lock is not enough: of a file that can only be read SQLite silently takes the read lock.
            let transaction = begin(db).await?;
            transaction
                .execute_unprepared("PRAGMA user_version = 1")
                .await?;
            transaction.rollback().await
        })
        .await;
    }
    let row = call(db, || {
        db.query_one_raw(Statement::from_string(DbBackend::Postgres, READ_ONLY))
    })
    .await?;
    let read_only: Option<String> = row
        .map(|row| row.try_get_by_index(0))
        .transpose()
        .map_err(classify)?;
    if read_only.as_deref() == Some("on") {
        forget_idle(db);
        return Err(unavailable(ReadOnly));
    }
    Ok(())
}

/// What time it is on the server; `None` for SQLite, which has no other clock than this process.
///
/// # Errors
///
/// [`StoreError::Unavailable`] if it can't be asked.
pub async fn clock(db: &DatabaseConnection) -> Result<Option<SystemTime>, StoreError> {
    if db.get_database_backend() == DbBackend::Sqlite {
        return Ok(None);
    }
    let question = "SELECT clock_timestamp()";
    let row = call(db, || {
        db.query_one_raw(Statement::from_string(DbBackend::Postgres, question))
    })
    .await?;
    let clock: Option<DateTimeUtc> = row
        .map(|row| row.try_get_by_index(0))
        .transpose()
        .map_err(classify)?;
    Ok(clock.map(SystemTime::from))
}

/// How many connections `db` has at the moment.
pub fn pool_status(db: &DatabaseConnection) -> PoolStatus {
    let (open, idle, max) = if db.get_database_backend() == DbBackend::Sqlite {
        let pool = db.get_sqlite_connection_pool();
        (
            pool.size(),
            pool.num_idle(),
            pool.options().get_max_connections(),
        )
    } else {
        let pool = db.get_postgres_connection_pool();
        (
            pool.size(),
            pool.num_idle(),
            pool.options().get_max_connections(),
        )
    };
    PoolStatus {
        open: open as usize,
        idle,
        max: max as usize,
    }
}

pub(super) fn acquire_timeout(db: &DatabaseConnection) -> Duration {
    if db.get_database_backend() == DbBackend::Sqlite {
        db.get_sqlite_connection_pool()
            .options()
            .get_acquire_timeout()
    } else {
        db.get_postgres_connection_pool()
            .options()
            .get_acquire_timeout()
    }
}

fn unavailable(source: impl std::error::Error + Send + Sync + 'static) -> StoreError {
    StoreError::Unavailable {
        dependency: Dependency::Database,
        source: Box::new(source),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use secrecy::SecretString;

    use super::*;
    use crate::config::Config;

    fn settings(url: &str) -> config::Database {
        config::Database {
            url: SecretString::from(url),
            ..Config::default().database
        }
    }

    #[test]
    fn a_url_that_is_refused_is_not_repeated() {
        for url in [
            "mysql://root:hunter2@db/claviger",
            "hunter2",
            "hunter2:",
            "",
            "postgres://root:hunter2@db:port/claviger",
            "postgres://root@db/claviger?sslmode=hunter2",
            "sqlite://hunter2.db?mode=hunter2",
            "sqlite://",
        ] {
            let text = check_url(&settings(url)).unwrap_err().to_string();
            assert!(text.starts_with("expected "), "{url}: {text}");
            assert!(!text.contains("hunter2"), "{url}: {text}");
        }
    }

    #[test]
    fn the_directory_is_where_the_driver_puts_the_file() {
        for (url, directory) in [
            ("sqlite://claviger.db?mode=rwc", ""),
            ("sqlite:var/lib/claviger.db", "var/lib"),
            ("sqlite:///var/lib/claviger.db?mode=rwc", "/var/lib"),
            ("sqlite://////var//a%20b%3F/claviger.db", "////var//a b?"),
            ("sqlite::memory:", ""),
            ("postgres://u@db/x", ""),
        ] {
            assert_eq!(
                self::directory(&settings(url)),
                Path::new(directory),
                "{url}"
            );
        }
    }

    #[tokio::test]
    async fn connecting_asks_nobody() {
        // Port 9 of a documentation address: nothing could answer.
        let db = connect(&settings("postgres://nobody@192.0.2.1:9/claviger"))
            .await
            .unwrap();
        let unused = PoolStatus {
            open: 0,
            idle: 0,
            max: 10,
        };
        assert_eq!(pool_status(&db), unused);
    }

    #[tokio::test]
    async fn a_new_file_belongs_to_its_owner_only() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("new.db");
        let db = connect(&settings(&format!("sqlite://{}?mode=rwc", file.display())))
            .await
            .unwrap();
        ping(&db).await.unwrap();
        assert_eq!(
            std::fs::metadata(&file).unwrap().permissions().mode() & 0o777,
            0o600
        );
        let log = folder.path().join("new.db-wal");
        assert_eq!(
            std::fs::metadata(&log).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[tokio::test]
    async fn without_mode_rwc_no_file_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("absent.db");
        let db = connect(&settings(&format!("sqlite://{}", file.display())))
            .await
            .unwrap();
        assert!(matches!(
            ping(&db).await,
            Err(StoreError::Unavailable { .. })
        ));
        assert!(!file.exists());
    }

    #[tokio::test]
    async fn a_read_only_file_is_unavailable() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("read.db");
        let writable = connect(&settings(&format!("sqlite://{}?mode=rwc", file.display())))
            .await
            .unwrap();
        ping(&writable).await.unwrap();
        let db = connect(&settings(&format!("sqlite://{}?mode=ro", file.display())))
            .await
            .unwrap();
        let error = ping(&db).await.unwrap_err();
        assert!(is_read_only(&error), "{error:?}");
    }

    #[tokio::test]
    async fn memory_is_one_database() {
        let db = connect(&settings("sqlite::memory:")).await.unwrap();
        let pool = db.get_sqlite_connection_pool();
        sqlx::query("CREATE TABLE t (x)")
            .execute(pool)
            .await
            .unwrap();
        sqlx::query("SELECT x FROM t").execute(pool).await.unwrap();
        assert_eq!(pool_status(&db).open, 1);
    }

    #[tokio::test]
    async fn settings_of_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let url = format!(
            "sqlite://{}?mode=rwc",
            folder.path().join("set.db").display()
        );
        let db = connect(&settings(&url)).await.unwrap();
        let pool = db.get_sqlite_connection_pool();
        let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
            .fetch_one(pool)
            .await
            .unwrap();
        assert_eq!(journal, "wal");
        for (pragma, wanted) in [
            ("PRAGMA foreign_keys", 1),
            ("PRAGMA synchronous", 1),
            ("PRAGMA busy_timeout", 2000),
        ] {
            let value: i64 = sqlx::query_scalar(pragma).fetch_one(pool).await.unwrap();
            assert_eq!(value, wanted, "{pragma}");
        }
    }
}
