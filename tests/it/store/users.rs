//! The table `users` through [`Users`].

use std::io::Write;
use std::sync::{Arc, Mutex};

use claviger::store::StoreError;
use claviger::store::revocations::{Revocation, Revocations};
use claviger::store::users::{NewUser, User, Users};
use claviger::store::{database, schema::Schema};
use futures_util::FutureExt;
use rstest::rstest;
use sea_orm::ConnectionTrait;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

use tracing_subscriber::fmt::format::FmtSpan;

use super::{connected, named, users};
use crate::common::{Backend, TestDatabase};

fn hash(user: &User) -> Option<&str> {
    user.password_hash.as_ref().map(SecretString::expose_secret)
}

async fn found(users: &Users, username: &str) -> User {
    users.find(username).await.unwrap().unwrap()
}

async fn revocations(database: &TestDatabase) -> Revocations {
    Revocations::new(database.connect().await)
}

#[rstest]
#[tokio::test]
async fn a_user_is_read_as_it_was_inserted(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (_database, users) = users(backend).await;
    let new = NewUser {
        username: "zoë".to_owned(),
        password_hash: None,
        is_admin: true,
        disabled: true,
    };
    let inserted = users.insert(new).await.unwrap();
    let read = found(&users, "zoë").await;

    assert_eq!(read.id, 1);
    assert_eq!(hash(&read), None);
    assert!(read.is_admin);
    assert_eq!(read.disabled_at, Some(read.created_at));
    assert_eq!(read.updated_at, read.created_at);
    assert_eq!((read.last_login_at, read.password_changed_at), (None, None));
    // Not a digit of the time is lost on the way.
    assert_eq!(read.created_at, inserted.created_at);

    let with_password = users.insert(named("bob")).await.unwrap();
    assert_eq!(hash(&with_password), Some("$argon2id$old"));
    assert_eq!(
        with_password.password_changed_at,
        Some(with_password.created_at)
    );
    assert_eq!(with_password.disabled_at, None);
    assert!(users.find("ZOË").await.unwrap().is_none());
}

#[rstest]
#[tokio::test]
async fn a_taken_name_is_a_conflict(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (_database, users) = users(backend).await;
    users.insert(named("alice")).await.unwrap();
    assert!(matches!(
        users.insert(named("alice")).await,
        Err(StoreError::Conflict)
    ));
    // And the connection works on.
    users.insert(named("bob")).await.unwrap();
    assert_eq!(users.list(0, 10).await.unwrap().len(), 2);
}

#[rstest]
#[tokio::test]
async fn an_id_is_never_given_twice(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (_database, users) = users(backend).await;
    users.insert(named("alice")).await.unwrap();
    let last = users.insert(named("bob")).await.unwrap().id;
    assert!(
        users
            .delete(last, &Revocation::of_user(last))
            .await
            .unwrap()
    );
    assert!(users.insert(named("bob")).await.unwrap().id > last);
}

#[rstest]
#[tokio::test]
async fn the_name_alone_makes_a_user(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (database, users) = users(backend).await;
    let db = database.connect().await;
    let before = users.insert(named("alice")).await.unwrap();
    db.execute_unprepared("INSERT INTO users(username) VALUES ('bob')")
        .await
        .unwrap();
    let after = users.insert(named("carol")).await.unwrap();

    let bare = found(&users, "bob").await;
    assert_eq!(hash(&bare), None);
    assert!(!bare.is_admin);
    assert_eq!(
        (
            bare.disabled_at,
            bare.last_login_at,
            bare.password_changed_at
        ),
        (None, None, None)
    );
    assert_eq!(bare.created_at, bare.updated_at);
    // What the database fills in is the same time, to the precision of SQLite's clock.
    let millisecond = std::time::Duration::from_millis(1);
    assert!(
        before.created_at - millisecond <= bare.created_at
            && bare.created_at <= after.created_at + millisecond
    );
}

/// Text sorts as time does, whether the service or the database wrote it, with any number of decimals.
#[rstest]
#[tokio::test]
async fn times_sort(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (database, users) = users(backend).await;
    let db = database.connect().await;
    users.insert(named("written-by-the-service")).await.unwrap();
    db.execute_unprepared("INSERT INTO users(username) VALUES ('written-by-the-database')")
        .await
        .unwrap();
    for (name, time) in [
        ("none", "2020-01-02T03:04:05+00:00"),
        ("three", "2020-01-02T03:04:05.600+00:00"),
        ("six", "2020-01-02T03:04:05.600001+00:00"),
        ("next", "2020-01-02T03:04:06+00:00"),
    ] {
        let insert = format!("INSERT INTO users(username, created_at) VALUES ('{name}', '{time}')");
        db.execute_unprepared(&insert).await.unwrap();
    }

    let mut rows = users.list(0, 10).await.unwrap();
    rows.sort_by_key(|user| user.created_at);
    let by_time: Vec<String> = rows.into_iter().map(|user| user.username).collect();
    let query = "SELECT username FROM users ORDER BY created_at";
    let rows = db
        .query_all_raw(sea_orm::Statement::from_string(
            db.get_database_backend(),
            query,
        ))
        .await
        .unwrap();
    let by_database: Vec<String> = rows
        .iter()
        .map(|row| row.try_get("", "username").unwrap())
        .collect();
    assert_eq!(by_database, by_time);
    assert_eq!(by_time[..4], ["none", "three", "six", "next"]);
}

#[rstest]
#[tokio::test]
async fn a_login_is_recorded(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (_database, users) = users(backend).await;
    let before = users.insert(named("alice")).await.unwrap();
    users.insert(named("bob")).await.unwrap();
    assert!(users.record_login(&before, None).await.unwrap());

    let after = found(&users, "alice").await;
    assert!(after.last_login_at.unwrap() >= before.created_at);
    assert_eq!(hash(&after), Some("$argon2id$old"));
    assert_eq!(after.updated_at, before.updated_at);
    assert_eq!(found(&users, "bob").await.last_login_at, None);
}

/// What somebody else does between the look at the password and the end of the login.
#[rstest]
#[case::deleted("DELETE FROM users WHERE id = 1", false)]
#[case::disabled("UPDATE users SET disabled_at = CURRENT_TIMESTAMP WHERE id = 1", false)]
#[case::without_password("UPDATE users SET password_hash = NULL WHERE id = 1", false)]
#[case::changed(
    "UPDATE users SET password_hash = 'other', password_changed_at = '2020-01-01T00:00:00+00:00' WHERE id = 1",
    false
)]
#[case::of_another_cost("UPDATE users SET password_hash = 'current' WHERE id = 1", true)]
#[case::changed_by_hand_to_the_same(
    "UPDATE users SET password_changed_at = '2020-01-01T00:00:00+00:00' WHERE id = 1",
    true
)]
#[case::renamed("UPDATE users SET username = 'alicia' WHERE id = 1", true)]
#[tokio::test]
async fn a_login_is_recorded_only_for_who_is_as_he_was(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] meanwhile: &str,
    #[case] recorded: bool,
) {
    let (database, users) = users(backend).await;
    let before = users.insert(named("alice")).await.unwrap();
    assert_eq!(before.id, 1);
    let db = database.connect().await;
    db.execute_unprepared(meanwhile).await.unwrap();
    let new = SecretString::from("$argon2id$new");
    assert_eq!(
        users.record_login(&before, Some(&new)).await.unwrap(),
        recorded
    );
    if let Some(after) = users.find_by_id(1).await.unwrap() {
        assert_eq!(after.last_login_at.is_some(), recorded);
    }
}

#[rstest]
#[tokio::test]
async fn a_login_stores_the_new_hash(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (_database, users) = users(backend).await;
    let before = users.insert(named("alice")).await.unwrap();
    let new = SecretString::from("$argon2id$new");
    assert!(users.record_login(&before, Some(&new)).await.unwrap());

    let after = found(&users, "alice").await;
    assert_eq!(hash(&after), Some("$argon2id$new"));
    // It is the same password.
    assert_eq!(after.password_changed_at, before.password_changed_at);
}

#[rstest]
#[tokio::test]
async fn a_login_leaves_a_changed_password(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (_database, users) = users(backend).await;
    let before = users.insert(named("alice")).await.unwrap();
    // Between the comparison and here.
    let revocation = Revocation::of_user(before.id);
    let changed = SecretString::from("$argon2id$changed");
    let found_user = users.set_password(before.id, &changed, &revocation).await;
    assert!(found_user.unwrap());
    let new = SecretString::from("$argon2id$new");
    assert!(!users.record_login(&before, Some(&new)).await.unwrap());

    let after = found(&users, "alice").await;
    assert_eq!(hash(&after), Some("$argon2id$changed"));
    assert_eq!(after.last_login_at, None);
}

#[rstest]
#[tokio::test]
async fn a_login_gives_no_hash_to_who_has_none(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (_database, users) = users(backend).await;
    let before = users.insert(NewUser {
        password_hash: None,
        ..named("alice")
    });
    let before = before.await.unwrap();
    let new = SecretString::from("$argon2id$new");
    assert!(!users.record_login(&before, Some(&new)).await.unwrap());
    assert_eq!(hash(&found(&users, "alice").await), None);
}

#[rstest]
#[tokio::test]
async fn setting_a_password(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (database, users) = users(backend).await;
    let before = users
        .insert(NewUser {
            password_hash: None,
            ..named("alice")
        })
        .await
        .unwrap();
    let new = SecretString::from("$argon2id$new");
    let revocation = Revocation::of_user(before.id);
    let set = users.set_password(before.id, &new, &revocation).await;
    assert!(set.unwrap());

    let after = found(&users, "alice").await;
    assert_eq!(hash(&after), Some("$argon2id$new"));
    assert!(after.password_changed_at.unwrap() >= before.created_at);
    assert_eq!(after.password_changed_at, Some(after.updated_at));
    let nobody = Revocation::of_user(4711);
    assert!(!users.set_password(4711, &new, &nobody).await.unwrap());
    let pending = revocations(&database).await.pending(10, 0).await.unwrap();
    assert_eq!(pending, [revocation], "a promise comes with the change");
}

#[rstest]
#[tokio::test]
async fn disabling_and_enabling(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (database, users) = users(backend).await;
    let id = users.insert(named("alice")).await.unwrap().id;
    let revocation = Revocation::of_user(id);
    assert!(users.disable(id, &revocation).await.unwrap());
    let first = found(&users, "alice").await;
    assert_eq!(first.disabled_at, Some(first.updated_at));

    let again = Revocation::of_user(id);
    assert!(users.disable(id, &again).await.unwrap());
    assert_eq!(found(&users, "alice").await.disabled_at, first.disabled_at);

    assert!(users.enable(id).await.unwrap());
    assert_eq!(found(&users, "alice").await.disabled_at, None);
    let nobody = Revocation::of_user(4711);
    assert!(!users.disable(4711, &nobody).await.unwrap());
    assert!(!users.enable(4711).await.unwrap());
    let pending = revocations(&database).await.pending(10, 0).await.unwrap();
    assert_eq!(pending, [revocation, again]);
}

#[rstest]
#[tokio::test]
async fn deleting(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (database, users) = users(backend).await;
    let id = users.insert(named("alice")).await.unwrap().id;
    assert!(!users.is_empty().await.unwrap());
    let revocation = Revocation::of_user(id);
    assert!(users.delete(id, &revocation).await.unwrap());
    assert!(!users.delete(id, &Revocation::of_user(id)).await.unwrap());
    let pending = revocations(&database).await.pending(10, 0).await.unwrap();
    assert_eq!(pending, [revocation]);
    assert!(users.find("alice").await.unwrap().is_none());
    assert!(users.is_empty().await.unwrap());
}

#[rstest]
#[tokio::test]
async fn listing_in_pages(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (_database, users) = users(backend).await;
    for name in ["e", "d", "c", "b", "a"] {
        users.insert(named(name)).await.unwrap();
    }
    let ids = |page: Vec<User>| page.into_iter().map(|user| user.id).collect::<Vec<_>>();
    assert_eq!(ids(users.list(0, 2).await.unwrap()), [1, 2]);
    assert_eq!(ids(users.list(2, 2).await.unwrap()), [3, 4]);
    assert_eq!(ids(users.list(4, 2).await.unwrap()), [5]);
    assert_eq!(ids(users.list(5, 2).await.unwrap()), Vec::<i64>::new());
}

/// Eight instances, each with a pool of its own, and one name; then eight with a name each.
#[rstest]
#[tokio::test]
async fn one_of_eight_makes_the_first_user(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values(true, false)] same_name: bool,
) {
    let (database, users) = users(backend).await;
    let start = Arc::new(Barrier::new(8));
    let mut race = JoinSet::new();
    for number in 0..8 {
        let start = Arc::clone(&start);
        let db = database.connect().await;
        let name = if same_name {
            "admin".to_owned()
        } else {
            format!("admin-{number}")
        };
        race.spawn(async move {
            connected(&db).await;
            start.wait().await;
            Users::new(db).insert_first(named(&name)).await.unwrap()
        });
    }
    let won: Vec<User> = race.join_all().await.into_iter().flatten().collect();
    assert_eq!(won.len(), 1);
    let all = users.list(0, 10).await.unwrap();
    assert_eq!(all.len(), 1);
    assert_eq!(all[0].username, won[0].username);
    assert!(users.insert_first(named("late")).await.unwrap().is_none());
}

/// A row that somebody else wrote by hand is an error of its own, not a panic and not "no such user".
#[tokio::test]
async fn a_row_that_cannot_be_read() {
    let (database, users) = users(Backend::Embedded).await;
    let db = database.connect().await;
    db.execute_unprepared("INSERT INTO users(username, created_at) VALUES ('alice', 'yesterday')")
        .await
        .unwrap();
    assert!(matches!(
        users.find("alice").await,
        Err(StoreError::Corrupt { .. })
    ));
}

#[rstest]
#[tokio::test]
async fn no_secret_in_debug_output(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (database, users) = users(backend).await;
    let user = users.insert(named("alice")).await.unwrap();
    let text = format!(
        "{user:?} {users:?} {:?} {:?}",
        named("bob"),
        database.settings()
    );
    assert!(
        text.contains("alice") && !text.contains("argon2id"),
        "{text}"
    );
}

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Not even by the libraries, at the level that tells most: neither a hash nor the password of the database.
#[rstest]
#[tokio::test]
async fn no_secret_in_the_log(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let (database, _users) = users(backend).await;
    let mut settings = database.settings();
    if backend == Backend::External {
        let mut url = url::Url::parse(settings.url.expose_secret()).unwrap();
        if url.password().is_none() {
            // For a server that lets everybody in.
            url.set_password(Some("hunter2")).unwrap();
        }
        settings.url = String::from(url).into();
    }
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::NEW)
        .with_writer(move || writer.clone())
        .finish();
    let guard = tracing::subscriber::set_default(subscriber);

    let db = database::connect(&settings).await.unwrap();
    Schema::new(db.clone()).status().await.unwrap();
    let users = Users::new(db);
    let alice = users.insert(named("alice")).await.unwrap();
    users.insert(named("alice")).await.unwrap_err();
    users.find("alice").await.unwrap();
    let new = SecretString::from("$argon2id$new");
    assert!(users.record_login(&alice, Some(&new)).await.unwrap());
    let other = SecretString::from("$argon2id$other");
    let revocation = Revocation::of_user(alice.id);
    let set = users.set_password(alice.id, &other, &revocation).await;
    assert!(set.unwrap());
    users.list(0, 10).await.unwrap();
    users.ping().await.unwrap();
    drop(guard);

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    // It did tell much. SQLite's driver tells its statements from a thread of its own, where nobody listens here.
    let told = match backend {
        Backend::Embedded => "begin_with_options",
        Backend::External => "last_login_at",
    };
    assert!(text.contains(told), "{text}");
    assert!(!text.contains("argon2id"), "{text}");
    let url = url::Url::parse(settings.url.expose_secret()).unwrap();
    if let Some(password) = url.password() {
        assert!(!text.contains(password), "{text}");
    }
}

#[tokio::test]
async fn nothing_is_left_of_a_transaction_that_was_given_up_while_it_began() {
    let database = crate::common::database(Backend::External).await;
    // The proxy is a task of the same thread, so that nothing is answered before this one waits.
    let (_proxy, url) = crate::common::Proxy::before(&database.url).await;
    let settings = claviger::config::Database {
        url,
        max_connections: 1,
        ..database.settings()
    };
    let db = database::connect(&settings).await.unwrap();
    Schema::new(db.clone()).up().await.unwrap();
    let users = Users::new(db.clone());
    let user = users.insert(named("alice")).await.unwrap();

    // The only connection is back, so that the first step sends the BEGIN. Whoever asked leaves before the answer.
    let pool = db.get_postgres_connection_pool();
    while pool.num_idle() == 0 {
        tokio::task::yield_now().await;
    }
    assert!(users.insert(named("bob")).now_or_never().is_none());

    assert!(users.record_login(&user, None).await.unwrap());
    let others = Users::new(database.connect().await);
    let seen = found(&others, "alice").await;
    assert!(
        seen.last_login_at.is_some(),
        "what was written next is seen by others"
    );
}
