//! Any version from any other, by one of many, with the way back.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use claviger::store::StoreError;
use claviger::store::schema::{Comparison, Schema, SchemaError, Status, Target};
use migration::{
    MigrationName, MigrationTrait, Migrator, MigratorTrait, SchemaManager, async_trait,
};
use rstest::rstest;
use sea_orm::sqlx::{self, AssertSqlSafe};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait};
use secrecy::ExposeSecret;
use tokio::task::JoinSet;

use crate::common::{Backend, TestDatabase, database, server};

const INSTALLATION: &str = "m20261124_000001_create_installation";
const USERS: &str = "m20261124_000002_create_users";
const REVOCATIONS: &str = "m20261124_000003_create_pending_revocations";
const AUDIT: &str = "m20261125_000004_create_audit_events";

/// The end of sessions, for tests in which there are none.
async fn no_sessions() -> Result<(), Infallible> {
    Ok(())
}

/// A migration that makes and drops a table of its name.
#[derive(Clone)]
struct Table {
    name: &'static str,
    /// What up does in the end instead of succeeding.
    fails: bool,
    transaction: Option<bool>,
}

impl Table {
    fn boxed(name: &'static str) -> Box<dyn MigrationTrait> {
        Box::new(Self {
            name,
            fails: false,
            transaction: None,
        })
    }
}

impl MigrationName for Table {
    fn name(&self) -> &str {
        self.name
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Table {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let table = format!("CREATE TABLE {} (id integer NOT NULL)", self.name);
        manager.get_connection().execute_unprepared(&table).await?;
        if self.fails {
            manager
                .get_connection()
                .execute_unprepared("INSERT INTO no_such_table VALUES (1)")
                .await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared(&format!("DROP TABLE {}", self.name))
            .await?;
        Ok(())
    }

    fn use_transaction(&self) -> Option<bool> {
        self.transaction
    }
}

const FIVE: [&str; 5] = ["m1", "m2", "m3", "m4", "m5"];

fn tables(names: &[&'static str]) -> Vec<Box<dyn MigrationTrait>> {
    names.iter().map(|name| Table::boxed(name)).collect()
}

async fn schema(database: &TestDatabase, names: &[&'static str]) -> Schema {
    Schema::with_migrations(database.connect().await, tables(names))
}

async fn column(db: &DatabaseConnection, query: &str) -> Vec<String> {
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), query))
        .await
        .unwrap();
    rows.iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect()
}

/// All that the database consists of, in its own words, except for rows.
async fn dump(db: &DatabaseConnection) -> Vec<String> {
    let query = match db.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT type || ' ' || name || ' ' || coalesce(sql, '') FROM sqlite_master WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1"
        }
        _ => {
            "SELECT concat_ws(' ', 'column', table_name, ordinal_position, column_name, data_type, is_nullable, column_default, \
                 identity_generation) FROM information_schema.columns WHERE table_schema = 'public'
             UNION ALL SELECT concat_ws(' ', 'index', indexdef) FROM pg_indexes WHERE schemaname = 'public'
             UNION ALL SELECT concat_ws(' ', 'constraint', conname, pg_get_constraintdef(c.oid)) FROM pg_constraint c
                 JOIN pg_namespace n ON n.oid = connamespace WHERE nspname = 'public'
             UNION ALL SELECT concat_ws(' ', 'sequence', sequencename, start_value) FROM pg_sequences WHERE schemaname = 'public'
             ORDER BY 1"
        }
    };
    column(db, query).await
}

async fn table_names(db: &DatabaseConnection) -> Vec<String> {
    let query = match db.get_database_backend() {
        DbBackend::Sqlite => {
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 1"
        }
        _ => "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1",
    };
    column(db, query).await
}

/// Every version of the real schema from every other. The database looks the same each time that it comes to a version.
#[rstest]
#[tokio::test]
async fn every_version_from_every_other(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = Schema::new(db.clone());
    // On the way up, one step at a time.
    let mut dumps = Vec::new();
    for version in 0..=schema.latest() {
        schema
            .to(Target::Version(version), no_sessions)
            .await
            .unwrap();
        if version > 0 {
            dumps.push(dump(&db).await);
        }
    }
    schema.to(Target::Zero, no_sessions).await.unwrap();
    dumps.insert(0, dump(&db).await);

    for from in 0..=schema.latest() {
        for (to, expected) in dumps.iter().enumerate() {
            schema.to(Target::Version(from), no_sessions).await.unwrap();
            let status = schema.to(Target::Version(to), no_sessions).await.unwrap();
            assert_eq!(status.version, to);
            assert_eq!(status, schema.status().await.unwrap());
            assert_eq!(&dump(&db).await, expected, "{from} to {to}");
        }
    }
    schema.to(Target::Zero, no_sessions).await.unwrap();
    assert_eq!(table_names(&db).await, ["seaql_migrations"]);
    assert_eq!(
        column(&db, "SELECT version FROM seaql_migrations").await,
        Vec::<String>::new()
    );
}

#[rstest]
#[tokio::test]
async fn every_one_of_five_from_every_other(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let schema = schema(&database, &FIVE).await;
    let db = database.connect().await;
    schema.up().await.unwrap();
    for from in 0..=5 {
        for to in 0..=5 {
            schema.to(Target::Version(from), no_sessions).await.unwrap();
            let status = schema.to(Target::Version(to), no_sessions).await.unwrap();
            assert_eq!(status.applied, FIVE[..to]);
            assert_eq!(status.missing, FIVE[to..]);
            assert_eq!(status.version, to);
            assert_eq!(status.known, 5);
            let expected = [&FIVE[..to], &["seaql_migrations"]].concat();
            assert_eq!(table_names(&db).await, expected, "{from} to {to}");
        }
    }
}

#[rstest]
#[tokio::test]
async fn one_down_at_a_time(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = database(backend).await;
    let schema = Schema::new(database.connect().await);
    assert_eq!(schema.up().await.unwrap().comparison, Comparison::Current);
    assert_eq!(schema.up().await.unwrap().version, 4);
    assert_eq!(
        schema.down(no_sessions).await.unwrap().applied,
        [INSTALLATION, USERS, REVOCATIONS]
    );
    assert_eq!(
        schema.down(no_sessions).await.unwrap().applied,
        [INSTALLATION, USERS]
    );
    assert_eq!(
        schema.down(no_sessions).await.unwrap().applied,
        [INSTALLATION]
    );
    assert_eq!(
        schema.down(no_sessions).await.unwrap().applied,
        Vec::<String>::new()
    );
    // Nothing left to undo.
    assert_eq!(schema.down(no_sessions).await.unwrap().version, 0);
    assert_eq!(
        schema
            .to(Target::Latest, no_sessions)
            .await
            .unwrap()
            .applied,
        [INSTALLATION, USERS, REVOCATIONS, AUDIT]
    );
}

#[rstest]
#[tokio::test]
async fn status_of_an_empty_database_leaves_it_empty(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = Schema::new(db.clone());
    let status = schema.status().await.unwrap();
    assert_eq!(
        status,
        Status {
            applied: vec![],
            unknown: vec![],
            missing: [INSTALLATION, USERS, REVOCATIONS, AUDIT]
                .map(str::to_owned)
                .to_vec(),
            known: 4,
            version: 0,
            comparison: Comparison::Behind,
        }
    );
    assert_eq!(schema.installation_id().await.unwrap(), None);
    schema.to(Target::Zero, no_sessions).await.unwrap();
    schema.down(no_sessions).await.unwrap();
    assert_eq!(dump(&db).await, Vec::<String>::new());
}

/// Eight instances start at once, each with a pool of its own.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_at_once(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = database(backend).await;
    let mut race = JoinSet::new();
    for _ in 0..8 {
        let schema = Schema::new(database.connect().await);
        race.spawn(async move { schema.up().await.unwrap() });
    }
    for status in race.join_all().await {
        assert_eq!(status.comparison, Comparison::Current);
    }
    let db = database.connect().await;
    assert_eq!(
        column(&db, "SELECT version FROM seaql_migrations ORDER BY 1").await,
        [INSTALLATION, USERS, REVOCATIONS, AUDIT]
    );
    assert_eq!(column(&db, "SELECT id FROM installation").await.len(), 1);
}

/// Some want the top, some the bottom: each finds its goal reached at some moment, and the end is whole.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn eight_at_once_in_both_directions(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let mut race = JoinSet::new();
    for number in 0..8 {
        let schema = schema(&database, &FIVE).await;
        let target = if number % 2 == 0 {
            Target::Latest
        } else {
            Target::Version(1)
        };
        race.spawn(async move { schema.to(target, no_sessions).await.unwrap() });
    }
    race.join_all().await;
    let version = schema(&database, &FIVE)
        .await
        .status()
        .await
        .unwrap()
        .version;
    assert!(version == 1 || version == 5, "{version}");
}

#[rstest]
#[tokio::test]
async fn ahead(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = database(backend).await;
    schema(&database, &FIVE).await.up().await.unwrap();
    let old = schema(&database, &FIVE[..3]).await;

    let status = old.status().await.unwrap();
    assert_eq!(
        (status.comparison, status.version, status.known),
        (Comparison::Ahead, 3, 3)
    );
    assert_eq!(status.unknown, ["m4", "m5"]);
    // Up has nothing to do, and says so.
    assert_eq!(old.up().await.unwrap(), status);
    assert_eq!(old.to(Target::Latest, no_sessions).await.unwrap(), status);
    assert_eq!(
        old.to(Target::Version(3), no_sessions).await.unwrap(),
        status
    );
    // Back is only for who knows how.
    let ended = AtomicUsize::new(0);
    let count = async || {
        ended.fetch_add(1, Ordering::Relaxed);
        Ok::<(), Infallible>(())
    };
    assert!(
        matches!(old.down(count).await, Err(SchemaError::Ahead { unknown }) if unknown == ["m4", "m5"])
    );
    for target in [Target::Zero, Target::Version(0), Target::Version(2)] {
        assert!(
            matches!(old.to(target, count).await, Err(SchemaError::Ahead { .. })),
            "{target:?}"
        );
    }
    assert_eq!(ended.load(Ordering::Relaxed), 0);
    assert_eq!(old.status().await.unwrap(), status);
}

#[rstest]
#[tokio::test]
async fn unknown_and_missing_together_are_behind(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    schema(&database, &["m1", "m9"]).await.up().await.unwrap();
    let mine = schema(&database, &FIVE[..3]).await;

    let status = mine.status().await.unwrap();
    assert_eq!((status.comparison, status.version), (Comparison::Behind, 1));
    assert_eq!(
        (status.missing.as_slice(), status.unknown.as_slice()),
        (
            &["m2".to_owned(), "m3".to_owned()][..],
            &["m9".to_owned()][..]
        )
    );
    assert!(matches!(
        mine.to(Target::Version(2), no_sessions).await,
        Err(SchemaError::Ahead { .. })
    ));
    assert_eq!(mine.up().await.unwrap().comparison, Comparison::Ahead);
}

#[rstest]
#[tokio::test]
async fn up_fills_a_gap(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = database(backend).await;
    schema(&database, &["m1", "m3"]).await.up().await.unwrap();
    let all = schema(&database, &FIVE).await;
    let status = all.status().await.unwrap();
    assert_eq!((status.comparison, status.version), (Comparison::Behind, 1));
    // Down undoes what was last, whatever lies before it.
    assert_eq!(all.down(no_sessions).await.unwrap().applied, ["m1"]);
    schema(&database, &["m1", "m3"]).await.up().await.unwrap();
    // Undoes the third, applies the second.
    assert_eq!(
        all.to(Target::Version(2), no_sessions)
            .await
            .unwrap()
            .applied,
        ["m1", "m2"]
    );
    schema(&database, &["m1", "m2", "m4"])
        .await
        .up()
        .await
        .unwrap();
    assert_eq!(all.up().await.unwrap().applied, FIVE);
}

#[rstest]
#[tokio::test]
async fn a_version_that_is_not(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = Schema::new(db.clone());
    let error = schema
        .to(Target::Version(5), no_sessions)
        .await
        .unwrap_err();
    assert!(matches!(
        error,
        SchemaError::UnknownVersion {
            wanted: 5,
            latest: 4
        }
    ));
    assert_eq!(
        error.to_string(),
        "there is no schema version 5: this binary knows 0 to 4"
    );
    assert_eq!(dump(&db).await, Vec::<String>::new());
}

/// Those before it stay, it leaves nothing behind, and those after it don't run.
#[rstest]
#[tokio::test]
async fn a_failure_in_the_middle(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let database = database(backend).await;
    let db = database.connect().await;
    let mut migrations = tables(&FIVE);
    migrations[2] = Box::new(Table {
        name: "m3",
        fails: true,
        transaction: None,
    });
    let broken = Schema::with_migrations(db.clone(), migrations);
    let error = broken.up().await.unwrap_err();
    assert!(
        matches!(&error, SchemaError::Migration { name, .. } if name == "m3"),
        "{error}"
    );
    assert_eq!(broken.status().await.unwrap().applied, ["m1", "m2"]);
    assert_eq!(table_names(&db).await, ["m1", "m2", "seaql_migrations"]);
    // The lock is free, and the mended version goes on from there.
    let mended = schema(&database, &FIVE).await.lock_wait(Duration::ZERO);
    assert_eq!(mended.up().await.unwrap().applied, FIVE);
}

#[rstest]
#[tokio::test]
async fn a_failure_on_the_way_down(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = schema(&database, &FIVE).await;
    schema.up().await.unwrap();
    // Somebody was faster, by hand.
    db.execute_unprepared("DROP TABLE m3").await.unwrap();
    let error = schema.to(Target::Zero, no_sessions).await.unwrap_err();
    assert!(
        matches!(&error, SchemaError::Migration { name, .. } if name == "m3"),
        "{error}"
    );
    assert_eq!(schema.status().await.unwrap().applied, ["m1", "m2", "m3"]);
    assert_eq!(table_names(&db).await, ["m1", "m2", "seaql_migrations"]);
}

/// What PostgreSQL refuses inside a transaction works in a migration that wants none.
#[tokio::test]
async fn without_a_transaction() {
    struct Index;
    impl MigrationName for Index {
        fn name(&self) -> &'static str {
            "m2_index"
        }
    }
    #[async_trait::async_trait]
    impl MigrationTrait for Index {
        async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            let index = "CREATE INDEX CONCURRENTLY m1_id ON m1 (id)";
            manager
                .get_connection()
                .execute_unprepared(index)
                .await
                .map(|_| ())
        }
        async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
            manager
                .get_connection()
                .execute_unprepared("DROP INDEX CONCURRENTLY m1_id")
                .await
                .map(|_| ())
        }
        fn use_transaction(&self) -> Option<bool> {
            Some(false)
        }
    }
    let list = || -> Vec<Box<dyn MigrationTrait>> { vec![Table::boxed("m1"), Box::new(Index)] };
    let database = database(Backend::External).await;
    // With others that wait for the lock: a blocking lock would stop the index for ever.
    let mut race = JoinSet::new();
    for _ in 0..4 {
        let schema = Schema::with_migrations(database.connect().await, list());
        race.spawn(async move { schema.up().await.unwrap() });
    }
    race.join_all().await;
    let schema = Schema::with_migrations(database.connect().await, list());
    assert_eq!(
        schema.to(Target::Zero, no_sessions).await.unwrap().version,
        0
    );
}

/// SQLite's lock is a transaction, so there is none without.
#[tokio::test]
async fn without_a_transaction_on_sqlite() {
    let database = database(Backend::Embedded).await;
    let db = database.connect().await;
    let migrations: Vec<Box<dyn MigrationTrait>> = vec![
        Table::boxed("m1"),
        Box::new(Table {
            name: "m2",
            fails: true,
            transaction: Some(false),
        }),
    ];
    Schema::with_migrations(db.clone(), migrations)
        .up()
        .await
        .unwrap_err();
    assert_eq!(table_names(&db).await, ["m1", "seaql_migrations"]);
}

#[rstest]
#[tokio::test]
async fn sessions_end_before_users_go(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = Schema::new(db.clone());
    schema.up().await.unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    let end = || {
        let (ended, db) = (Arc::clone(&ended), db.clone());
        async move || {
            ended.fetch_add(1, Ordering::Relaxed);
            // All that was there when it was asked for is still there.
            let tables = table_names(&db).await;
            assert!(tables.contains(&"users".to_owned()), "{tables:?}");
            Ok::<(), StoreError>(())
        }
    };
    // To here it is no way down.
    schema.up().await.unwrap();
    schema.to(Target::Latest, end()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 0);
    schema.to(Target::Zero, end()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    schema.up().await.unwrap();
    // The trail goes without them.
    schema.down(end()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    schema.down(end()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 2);
    schema.to(Target::Version(1), end()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 3);
    // Nothing left to undo, nothing to end.
    schema.to(Target::Version(1), end()).await.unwrap();
    assert_eq!(ended.load(Ordering::Relaxed), 3);
}

#[rstest]
#[tokio::test]
async fn sessions_that_cannot_end_stop_it(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let schema = Schema::new(database.connect().await);
    let before = schema.to(Target::Version(3), no_sessions).await.unwrap();
    for target in [Target::Zero, Target::Version(1)] {
        let error = schema
            .to(target, async || Err("the token store is away"))
            .await
            .unwrap_err();
        assert!(
            matches!(&error, SchemaError::EndSessions(source) if source.to_string() == "the token store is away")
        );
    }
    assert!(matches!(
        schema.down(async || Err("away")).await,
        Err(SchemaError::EndSessions(_))
    ));
    assert_eq!(schema.status().await.unwrap(), before);
    // And the lock is free.
    schema
        .lock_wait(Duration::ZERO)
        .down(no_sessions)
        .await
        .unwrap();
}

#[rstest]
#[tokio::test]
async fn the_lock_is_waited_for_so_long(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let mut settings = database.settings();
    if backend == Backend::Embedded {
        // SQLite itself waits so long for its lock before it says that it is taken.
        settings.acquire_timeout = Duration::from_millis(50);
    }
    let late = Schema::new(claviger::store::database::connect(&settings).await.unwrap())
        .lock_wait(Duration::ZERO);

    let first = Schema::new(database.connect().await);
    first.to(Target::Version(1), no_sessions).await.unwrap();
    // While the first one has the lock, and works on the sessions.
    let refused = async || match late.up().await {
        Err(SchemaError::Locked { .. }) => Ok(()),
        other => Err(format!("{other:?}")),
    };
    first.down(refused).await.unwrap();
    late.up().await.unwrap();
}

#[rstest]
#[tokio::test]
async fn the_installation_has_one_id(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = Schema::new(db.clone());
    schema.up().await.unwrap();
    let id = schema.installation_id().await.unwrap().unwrap();
    assert_eq!(id.len(), 32);
    assert!(
        id.bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        "{id}"
    );
    assert_eq!(schema.installation_id().await.unwrap().unwrap(), id);
    // One row, and only of this form.
    let second = "INSERT INTO installation VALUES ('00112233445566778899aabbccddeeff')";
    db.execute_unprepared(second).await.unwrap_err();
    db.execute_unprepared("DELETE FROM installation")
        .await
        .unwrap();
    for malformed in [
        "00112233445566778899AABBCCDDEEFF",
        "00112233445566778899aabbccddee",
        "",
    ] {
        db.execute_unprepared(&format!("INSERT INTO installation VALUES ('{malformed}')"))
            .await
            .unwrap_err();
    }
    db.execute_unprepared(second).await.unwrap();
    // Another one each time that it is made.
    schema.to(Target::Zero, no_sessions).await.unwrap();
    schema.up().await.unwrap();
    assert_ne!(schema.installation_id().await.unwrap().unwrap(), id);
}

/// sea-orm-migration's own runner reads our bookkeeping, and we read its.
#[rstest]
#[tokio::test]
async fn the_bookkeeping_is_the_usual_one(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let database = database(backend).await;
    let db = database.connect().await;
    let schema = Schema::new(db.clone());
    schema.up().await.unwrap();
    assert!(
        Migrator::get_pending_migrations(&db)
            .await
            .unwrap()
            .is_empty()
    );
    let ours = dump(&db).await;
    Migrator::down(&db, None).await.unwrap();
    assert_eq!(schema.status().await.unwrap().version, 0);
    db.execute_unprepared("DROP TABLE seaql_migrations")
        .await
        .unwrap();
    Migrator::up(&db, None).await.unwrap();
    assert_eq!(
        schema.status().await.unwrap().comparison,
        Comparison::Current
    );
    if backend == Backend::External {
        assert_eq!(dump(&db).await, ours);
    }
}

/// The service runs as a role that may read and write rows and nothing else, here even only read.
#[tokio::test]
async fn status_for_a_role_that_may_only_read() {
    let database = database(Backend::External).await;
    let owner = database.connect().await;
    let mut url = url::Url::parse(database.url.expose_secret()).unwrap();
    let name = url.path().trim_start_matches('/').to_owned();
    let role = format!("{name}_reader");
    sqlx::raw_sql(AssertSqlSafe(format!(
        "CREATE ROLE {role} LOGIN PASSWORD 'reader'"
    )))
    .execute(&mut server().await)
    .await
    .unwrap();
    url.set_username(&role).unwrap();
    url.set_password(Some("reader")).unwrap();
    let mut settings = database.settings();
    settings.url = String::from(url).into();
    let reader = Schema::new(claviger::store::database::connect(&settings).await.unwrap());

    // Also before there is anything to read.
    assert_eq!(reader.status().await.unwrap().version, 0);
    assert!(matches!(
        reader.up().await,
        Err(SchemaError::Migration { .. } | SchemaError::Store(_))
    ));
    Schema::new(owner.clone()).up().await.unwrap();
    owner
        .execute_unprepared(&format!(
            "GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}"
        ))
        .await
        .unwrap();
    assert_eq!(
        reader.status().await.unwrap().comparison,
        Comparison::Current
    );
    // The automatic migration of a service that finds nothing to do needs no right to do it.
    assert_eq!(reader.up().await.unwrap().version, 4);
    assert!(reader.installation_id().await.unwrap().is_some());

    owner
        .execute_unprepared(&format!("DROP OWNED BY {role}"))
        .await
        .unwrap();
    sqlx::raw_sql(AssertSqlSafe(format!("DROP ROLE {role}")))
        .execute(&mut server().await)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_migration_may_be_spawned() {
    let database = database(Backend::Embedded).await;
    let schema = Schema::new(database.connect().await);
    let status = tokio::spawn(async move { schema.to(Target::Latest, no_sessions).await.unwrap() })
        .await
        .unwrap();
    assert_eq!(status.version, 4);
}

#[tokio::test]
async fn in_memory() {
    let mut settings = database(Backend::Embedded).await.settings();
    settings.url = "sqlite::memory:".into();
    let db = claviger::store::database::connect(&settings).await.unwrap();
    let schema = Schema::new(db.clone());
    assert_eq!(schema.up().await.unwrap().version, 4);
    assert_eq!(
        schema.to(Target::Zero, no_sessions).await.unwrap().version,
        0
    );
    assert_eq!(schema.up().await.unwrap().version, 4);
    db.begin().await.unwrap().rollback().await.unwrap();
}

#[test]
fn targets_from_text() {
    assert_eq!("zero".parse(), Ok(Target::Zero));
    assert_eq!("latest".parse(), Ok(Target::Latest));
    assert_eq!("0".parse(), Ok(Target::Version(0)));
    assert_eq!("17".parse(), Ok(Target::Version(17)));
    for wrong in ["", "-1", "1.0", "Zero", "up", "99999999999999999999"] {
        assert!(wrong.parse::<Target>().is_err(), "{wrong}");
    }
}
