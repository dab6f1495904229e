//! A database of its own for each test.

use std::time::Duration;

use claviger::config::{self, Config};
use claviger::store::database;
use sea_orm::sqlx::{self, AssertSqlSafe, Connection, PgConnection};
use sea_orm::{ConnectionTrait, DatabaseConnection, Statement};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::{Backend, unique};

/// An empty database, removed when this is dropped.
pub(crate) struct TestDatabase {
    pub(crate) url: SecretString,
    kept: Kept,
}

enum Kept {
    Folder { folder: TempDir },
    Database { _name: DropDatabase },
}

struct DropDatabase(String);

impl Drop for DropDatabase {
    fn drop(&mut self) {
        let drop = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.0);
        // Not on the runtime of the test, which is about to end.
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                sqlx::raw_sql(AssertSqlSafe(drop))
                    .execute(&mut server().await)
                    .await
                    .unwrap()
            });
        });
        thread.join().unwrap();
    }
}

impl TestDatabase {
    /// The settings under which the service would use it.
    pub(crate) fn settings(&self) -> config::Database {
        config::Database {
            url: self.url.clone(),
            ..Config::default().database
        }
    }

    /// The folder of the file; the temporary one for a database of a server.
    pub(crate) fn folder(&self) -> std::path::PathBuf {
        match &self.kept {
            Kept::Folder { folder } => folder.path().to_path_buf(),
            Kept::Database { .. } => std::env::temp_dir(),
        }
    }

    /// A pool of its own, as another instance of the service would have it.
    pub(crate) async fn connect(&self) -> DatabaseConnection {
        let settings = config::Database {
            // A busy machine is no outage.
            acquire_timeout: Duration::from_secs(30),
            ..self.settings()
        };
        database::connect(&settings).await.unwrap()
    }
}

/// How often a condition is looked at before it is given up. Each look is a query, so this is some minutes.
const MOST_LOOKS: u32 = 200_000;

/// Returns when somebody waits for a lock in this database of PostgreSQL.
pub(crate) async fn wait_for_a_lock(database: &DatabaseConnection) {
    wait_for_sessions(database, 1, "wait_event_type = 'Lock'").await;
}

/// Returns when so many sessions in this database of PostgreSQL fulfil a condition on `pg_stat_activity`.
pub(crate) async fn wait_for_sessions(database: &DatabaseConnection, number: i64, condition: &str) {
    let count = Statement::from_string(
        database.get_database_backend(),
        format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE datname = current_database() AND pid <> pg_backend_pid() AND {condition}"
        ),
    );
    for _ in 0..MOST_LOOKS {
        let row = database.query_one_raw(count.clone()).await.unwrap();
        if row.unwrap().try_get_by_index::<i64>(0).unwrap() == number {
            return;
        }
    }
    panic!("there are never {number} sessions where {condition}");
}

/// An empty database.
pub(crate) async fn database(backend: Backend) -> TestDatabase {
    match backend {
        Backend::Embedded => {
            let folder = tempfile::tempdir().unwrap();
            let url = format!(
                "sqlite://{}?mode=rwc",
                folder.path().join("claviger.db").display()
            );
            TestDatabase {
                url: url.into(),
                kept: Kept::Folder { folder },
            }
        }
        Backend::External => {
            let name = unique("claviger_test_");
            let create = format!("CREATE DATABASE {name}");
            let mut server = server().await;
            sqlx::raw_sql(AssertSqlSafe(create))
                .execute(&mut server)
                .await
                .unwrap();
            let mut url = url::Url::parse(server_url().expose_secret()).unwrap();
            url.set_path(&name);
            TestDatabase {
                url: String::from(url).into(),
                kept: Kept::Database {
                    _name: DropDatabase(name),
                },
            }
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its servers are"
)]
fn server_url() -> SecretString {
    std::env::var("TEST_DATABASE_URL")
        .expect("TEST_DATABASE_URL names a PostgreSQL server")
        .into()
}

/// A connection of the test's own to the server, with the right to make databases.
pub(crate) async fn server() -> PgConnection {
    PgConnection::connect(server_url().expose_secret())
        .await
        .unwrap()
}
