//! The table `pending_revocations`: what was promised with a change to an account is carried out once, by whoever finds it.

use std::time::{Duration, Instant};

use claviger::store::revocations::Revocations;
use claviger::store::tokens::SessionId;
use redis::AsyncCommands;
use rstest::rstest;
use sea_orm::ConnectionTrait;

use super::Kept;
use crate::common::{Backend, Proxy, TestApp, redis_url};

/// Notes a promise by hand, as a command would that ended before it could do more.
async fn note(app: &TestApp, id: &str, user_id: i64, only: Option<&str>, keep: Option<&str>) {
    let text = |value: Option<&str>| value.map_or("NULL".to_owned(), |value| format!("'{value}'"));
    let sql = format!(
        "INSERT INTO pending_revocations (id, user_id, only_session, keep_session) \
         VALUES ('{id}', {user_id}, {}, {})",
        text(only),
        text(keep)
    );
    let database = app.database.connect().await;
    database.execute_unprepared(&sql).await.unwrap();
}

async fn pending(app: &TestApp) -> usize {
    let revocations = Revocations::new(app.database.connect().await);
    revocations.pending(1000, 0).await.unwrap().len()
}

#[rstest]
#[tokio::test]
async fn a_promise_is_kept_by_the_next_round_and_struck(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values("all", "only", "others")] extent: &str,
) {
    let mut app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    app.user("bob").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let of_bob = app.token("bob").await;
    let session = SessionId::of(id, &token).to_string();
    let (only, keep) = match extent {
        "only" => (Some(session.as_str()), None),
        "others" => (None, Some(session.as_str())),
        _ => (None, None),
    };
    note(&app, "a-promise", id, only, keep).await;
    assert_eq!(app.check(&token).await.status, 200);

    app.startup.round().await.unwrap();

    assert_eq!(pending(&app).await, 0);
    let alive = [
        app.check(&token).await.status == 200,
        app.check(&other).await.status == 200,
    ];
    let (expected, ended) = match extent {
        "only" => ([false, true], 1),
        "others" => ([true, false], 1),
        _ => ([false, false], 2),
    };
    assert_eq!(alive, expected);
    assert_eq!(app.check(&of_bob).await.status, 200);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, ended);
    app.startup.round().await.unwrap();
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, ended);
}

/// The watch waits for the round, and with it all that it tells: so many promises must not each wait for the store by itself.
#[tokio::test]
async fn many_promises_do_not_hold_up_the_watch_while_the_store_hangs() {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let mut app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url;
        config.tokens.timeout = Duration::from_secs(1);
    })
    .await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;
    let database = app.database.connect().await;
    let sql = format!(
        "INSERT INTO pending_revocations (id, user_id) SELECT 'promise-' || n, {id} FROM generate_series(1, 60) n"
    );
    database.execute_unprepared(&sql).await.unwrap();

    proxy.stall();
    let start = Instant::now();
    app.startup.round().await.unwrap();
    // A minute, if each waited for its own time-out.
    assert!(start.elapsed() < Duration::from_secs(30));
    assert_eq!(pending(&app).await, 60);

    proxy.heal();
    app.startup.round().await.unwrap();
    assert_eq!(pending(&app).await, 0);
    app.check(&token).await.problem(401, "invalid-token");
}

/// It was carried out, and whoever did it ended before it was struck: what began since then is not meant.
#[rstest]
#[tokio::test]
async fn a_promise_that_was_kept_ends_nothing_newer(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let before = app.token("alice").await;
    note(&app, "a-promise", id, None, None).await;
    app.startup.round().await.unwrap();
    app.check(&before).await.problem(401, "invalid-token");

    let newer = app.token("alice").await;
    note(&app, "a-promise", id, None, None).await;
    app.startup.round().await.unwrap();
    assert_eq!(app.check(&newer).await.status, 200);
    assert_eq!(pending(&app).await, 0);

    // Another one is.
    note(&app, "another-promise", id, None, None).await;
    app.startup.round().await.unwrap();
    app.check(&newer).await.problem(401, "invalid-token");
}

/// The service that carries it out is another one than the one that did before: what was done is remembered beside the sessions.
#[tokio::test]
async fn what_was_kept_is_remembered_beside_the_sessions() {
    let mut app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;
    let mut kept = Kept::by(&app).await;
    let hash = kept.hash(id);
    kept.redis
        .hset::<_, _, _, ()>(&hash, "r", "an-older-promise a-promise")
        .await
        .unwrap();
    note(&app, "a-promise", id, None, None).await;
    app.startup.round().await.unwrap();
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(pending(&app).await, 0);

    // Another one is not.
    note(&app, "another-promise", id, None, None).await;
    app.startup.round().await.unwrap();
    app.check(&token).await.problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn a_promise_for_nobody_is_struck(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    note(&app, "one", 4_711, None, None).await;
    let nobody = "4711.AAAAAAAAAAAAAAAAAAAAAA";
    note(&app, "two", 4_711, Some(nobody), None).await;
    app.startup.round().await.unwrap();
    assert_eq!(pending(&app).await, 0);
    assert_eq!(app.check(&token).await.status, 200);
}

/// A name of a session that can't be read may mean any.
#[rstest]
#[tokio::test]
async fn a_promise_that_can_not_be_read_means_all(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;
    note(&app, "a-promise", id, Some("junk"), None).await;
    app.startup.round().await.unwrap();
    app.check(&token).await.problem(401, "invalid-token");
    assert_eq!(pending(&app).await, 0);
}

/// More than one look at the table shows.
#[rstest]
#[tokio::test]
async fn many_promises_are_kept_in_one_round(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let mut app = TestApp::start(backend).await;
    let mut tokens = Vec::new();
    let hash = app.hash(crate::common::PASSWORD).await;
    let mut rows = Vec::new();
    for number in 0..230 {
        let user = claviger::store::users::NewUser {
            username: format!("user{number}"),
            password_hash: Some(hash.clone()),
            is_admin: false,
            disabled: false,
        };
        let id = app.insert(user).await;
        rows.push(format!("('promise-{number}', {id})"));
        if number % 23 == 0 {
            tokens.push(app.token(&format!("user{number}")).await);
        }
    }
    let sql = format!(
        "INSERT INTO pending_revocations (id, user_id) VALUES {}",
        rows.join(", ")
    );
    let database = app.database.connect().await;
    database.execute_unprepared(&sql).await.unwrap();
    app.startup.round().await.unwrap();
    assert_eq!(pending(&app).await, 0);
    for token in &tokens {
        app.check(token).await.problem(401, "invalid-token");
    }
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 10);
}

/// Those that can't be kept are the oldest, and more than are looked at in one go; they must not keep others from their turn.
#[tokio::test]
async fn promises_that_can_not_be_kept_do_not_hold_up_others() {
    let redis = crate::common::RedisServer::start();
    let mut app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    let (alice, bob) = (app.user("alice").await, app.user("bob").await);
    let (of_alice, of_bob) = (app.token("alice").await, app.token("bob").await);
    let pattern = format!("*{{u:{alice}}}:sessions");
    let hashes: Vec<String> = redis.ask(&["KEYS", &pattern]).await;
    let hash = hashes.first().unwrap();
    redis.command(&["RENAME", hash, "elsewhere"]).await;
    redis.command(&["SET", hash, "somebody's"]).await;
    let database = app.database.connect().await;
    let sql = format!(
        "INSERT INTO pending_revocations (id, user_id) SELECT 'promise-' || n, {alice} FROM generate_series(1, 230) n"
    );
    database.execute_unprepared(&sql).await.unwrap();
    // The last, also by its id, if it came in the same instant.
    note(&app, "q-promise", bob, None, None).await;

    app.startup.round().await.unwrap();
    app.check(&of_bob).await.problem(401, "invalid-token");
    assert_eq!(pending(&app).await, 230);

    redis.command(&["RENAME", "elsewhere", hash]).await;
    app.startup.round().await.unwrap();
    app.check(&of_alice).await.problem(401, "invalid-token");
    assert_eq!(pending(&app).await, 0);
}
