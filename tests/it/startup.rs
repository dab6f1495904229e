//! What the start does: the schema, and the first administrator.

use claviger::config::{MigrateMode, Mode};
use claviger::store::schema::{Schema, SchemaError, Target};
use rstest::rstest;
use serde_json::json;

use crate::common::{Backend, PASSWORD, TestApp};

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
    assert_eq!(version(&app).await, 2);

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
    assert_eq!(version(&app).await, 2);
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
    app.users.delete(root.id).await.unwrap();
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
