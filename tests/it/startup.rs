//! What the start does: the schema, and the first administrator.

use std::sync::{Arc, Mutex};

use claviger::config::{MigrateMode, Mode};
use claviger::store::revocations::Revocation;
use claviger::store::schema::{Schema, SchemaError, Target};
use rstest::rstest;
use sea_orm::{ConnectionTrait, SqliteTransactionMode, TransactionOptions, TransactionTrait};
use secrecy::ExposeSecret;
use serde_json::json;

use crate::common::{Backend, Deployment, PASSWORD, Proxy, TestApp, wait_for_a_lock};

async fn version(app: &TestApp) -> usize {
    Schema::new(app.database.connect().await)
        .status()
        .await
        .unwrap()
        .version
}

#[rstest]
#[tokio::test]
async fn auto_migrates_and_check_only_looks(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    assert_eq!(version(&app).await, 4);

    let app = TestApp::start_with(backend, |config| {
        config.database.migrate = Some(MigrateMode::Check);
    })
    .await;
    assert_eq!(version(&app).await, 0);
    assert_eq!(
        app.ops("/readyz").await.json()["failing"],
        json!(["schema"])
    );
    app.log_in("alice", PASSWORD)
        .await
        .problem(503, "dependency-unavailable");
}

#[rstest]
#[tokio::test]
async fn the_start_goes_to_the_version_that_is_set(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::start_with(backend, |config| {
        config.database.migrate = Some(MigrateMode::Check);
        config.database.schema_version = Some(1);
    })
    .await;
    assert_eq!(version(&app).await, 1);
    // Once: what an operator does later is not undone.
    Schema::new(app.database.connect().await)
        .up()
        .await
        .unwrap();
    app.startup.round().await.unwrap();
    assert_eq!(version(&app).await, 4);
}

/// The next migration writes the row that somebody else has written, so it is surely at work when its connection breaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_migration_whose_connection_breaks_is_tried_again() {
    let mut deployment = Deployment::new(Backend::External).await;
    let database = deployment.database.connect().await;
    Schema::new(database.clone())
        .to(Target::Version(1), async || Ok::<(), SchemaError>(()))
        .await
        .unwrap();
    let other = database.begin().await.unwrap();
    other
        .execute_unprepared("UPDATE installation SET id = id")
        .await
        .unwrap();
    let (proxy, url) = Proxy::before(&deployment.database.url).await;
    deployment.set("CLAVIGER_DATABASE__URL", url.expose_secret());
    deployment.set("CLAVIGER_DATABASE__MIGRATE", "auto");
    let mut service = deployment.start_unready();
    wait_for_a_lock(&database).await;

    proxy.cut();
    let trouble = service.wait_for("the start is not done, and will be tried again");
    let cause = trouble["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("migration m20261124_000002_create_users failed: "),
        "{cause}"
    );
    let ready = service.ops("/readyz").await;
    assert_eq!(ready.json()["failing"], json!(["database"]));

    proxy.heal();
    other.commit().await.unwrap();
    service.wait_for("ready");
    assert_eq!(service.ops("/readyz").await.status, 200);
    let status = Schema::new(database).status().await.unwrap();
    assert_eq!(status.version, 4);
}

#[tokio::test]
async fn what_keeps_the_start_from_being_done_is_logged_once_for_each_change() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("late.db");
    let url = format!("sqlite://{}", file.display());
    let mut app = TestApp::build_with(Backend::Embedded, |config| {
        config.database.url = url.clone().into();
        config.database.acquire_timeout = std::time::Duration::from_millis(200);
    })
    .await;
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let lines = || {
        let text = log.text();
        let lines = text
            .lines()
            .filter(|line| line.contains("the start is not done"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };

    for _ in 0..2 {
        app.startup.round().await.unwrap();
    }
    let [missing] = &lines()[..] else {
        panic!("{:?}", lines())
    };
    assert!(
        missing.contains("WARN") && missing.contains("unable to open database file"),
        "{missing}"
    );

    // It is there, and somebody else is at it.
    let options = TransactionOptions {
        sqlite_transaction_mode: Some(SqliteTransactionMode::Immediate),
        ..Default::default()
    };
    let other = sea_orm::Database::connect(format!("{url}?mode=rwc"))
        .await
        .unwrap();
    let lock = other.begin_with_options(options).await.unwrap();
    for _ in 0..2 {
        app.startup.round().await.unwrap();
    }
    let [_, locked] = &lines()[..] else {
        panic!("{:?}", lines())
    };
    assert!(
        locked.contains("another instance holds the migration lock"),
        "{locked}"
    );

    lock.rollback().await.unwrap();
    app.startup.round().await.unwrap();
    drop(guard);
    assert_eq!(lines().len(), 2, "{:?}", lines());
    assert_eq!(app.ops("/readyz").await.status, 200);
}

/// What is logged in this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl std::io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        std::io::Write::write(&mut *self.0.lock().unwrap(), bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[rstest]
#[tokio::test]
async fn a_start_that_would_undo_what_it_does_not_know_fails(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::build_with(backend, |config| {
        config.database.schema_version = Some(1);
    })
    .await;
    let db = app.database.connect().await;
    Schema::new(db.clone())
        .to(Target::Latest, async || Ok::<(), SchemaError>(()))
        .await
        .unwrap();
    let sql =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&db, sql)
        .await
        .unwrap();
    assert!(matches!(
        app.startup.round().await,
        Err(SchemaError::Ahead { .. })
    ));
}

#[rstest]
#[tokio::test]
async fn the_administrator_of_the_settings_is_created_once(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::start_with(backend, |config| {
        config.bootstrap.username = Some("Root".to_owned());
        config.bootstrap.password = Some(PASSWORD.into());
    })
    .await;
    let root = app.users.find("root").await.unwrap().unwrap();
    assert!(root.is_admin);
    app.token("root").await;
    // Who deletes it meant it.
    let revocation = Revocation::of_user(root.id);
    app.users.delete(root.id, &revocation).await.unwrap();
    app.startup.round().await.unwrap();
    assert!(app.users.is_empty().await.unwrap());
}

#[rstest]
#[tokio::test]
async fn no_administrator_is_created_beside_other_users(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::build_with(backend, |config| {
        config.bootstrap.username = Some("root".to_owned());
        config.bootstrap.password = Some(PASSWORD.into());
    })
    .await;
    Schema::new(app.database.connect().await)
        .up()
        .await
        .unwrap();
    app.user("alice").await;
    app.startup.round().await.unwrap();
    assert!(app.users.find("root").await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn production_has_no_account_of_its_own(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    assert!(app.users.is_empty().await.unwrap());
}

#[tokio::test]
async fn development_has_an_administrator_with_a_random_password_in_a_private_file() {
    use std::os::unix::fs::PermissionsExt;

    let app = TestApp::start_with(Backend::Embedded, |config| config.mode = Mode::Dev).await;
    let file = app.database.folder().join("claviger-admin-password");
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let content = std::fs::read_to_string(&file).unwrap();
    let password = content.strip_suffix('\n').unwrap();
    assert!(password.len() >= 32, "at least 192 bits");
    assert_eq!(app.log_in("admin", password).await.status, 200);
}

/// Only one of them makes the account, and its password is the one that is told.
#[tokio::test]
async fn of_two_instances_that_start_at_once_the_one_with_the_account_tells_its_password() {
    let mut app = TestApp::build_with(Backend::Embedded, |config| config.mode = Mode::Dev).await;
    Schema::new(app.database.connect().await)
        .up()
        .await
        .unwrap();
    let other = claviger::app::App::build(app.config.clone(), || 0)
        .await
        .unwrap();
    let (_, _, _, mut startup) = other.into_parts();
    let (one, two) = tokio::join!(app.startup.round(), startup.round());
    one.unwrap();
    two.unwrap();

    let folder = app.database.folder();
    let content = std::fs::read_to_string(folder.join("claviger-admin-password")).unwrap();
    let password = content.strip_suffix('\n').unwrap();
    assert_eq!(app.log_in("admin", password).await.status, 200);
    let files = std::fs::read_dir(&folder).unwrap();
    let left = files
        .map(|file| file.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with("claviger-admin-password"))
        .count();
    assert_eq!(left, 1);
}

#[rstest]
#[case::short(
    "root",
    "short",
    "bootstrap.password",
    "must have at least 15 characters"
)]
#[case::name("no name", PASSWORD, "bootstrap.username", "contains characters ")]
#[tokio::test]
async fn an_administrator_that_can_not_be_stops_the_start(
    #[case] username: &str,
    #[case] password: &str,
    #[case] key: &str,
    #[case] expected: &str,
) {
    let config = claviger::config::Config {
        bootstrap: claviger::config::Bootstrap {
            username: Some(username.to_owned()),
            password: Some(password.into()),
        },
        ..claviger::config::Config::default()
    };
    let error = claviger::app::App::build(config, || 0).await.err().unwrap();
    assert_eq!(error.keys().first(), Some(&key));
    let error = error.to_string();
    assert!(error.starts_with(expected), "{error}");
    assert!(!error.contains(password), "{error}");
}
