//! A change while something is away, or goes away in the middle of it.

use std::time::Duration;

use axum::body::Body;
use claviger::store::revocations::Revocations;
use claviger::store::schema::Schema;
use futures_util::future::join_all;
use rstest::rstest;
use sea_orm::{ConnectionTrait, TransactionTrait};
use secrecy::ExposeSecret;

use super::NEW;
use crate::common::{Backend, PASSWORD, Proxy, TestApp, redis_url, wait_for_a_lock};

async fn pending(app: &TestApp) -> usize {
    let revocations = Revocations::new(app.database.connect().await);
    revocations.pending(100, 0).await.unwrap().len()
}

/// The change waits for a lock when Redis goes away: the password is another one then, and the promise to end the other
/// sessions is kept as soon as it can be.
#[rstest]
#[tokio::test]
async fn sessions_that_can_not_end_at_once_end_later(#[values(true, false)] stalls: bool) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let mut app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url;
        config.tokens.timeout = Duration::from_secs(1);
    })
    .await;
    app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let database = app.database.connect().await;
    let held = database.begin().await.unwrap();
    held.execute_unprepared("SELECT 1 FROM users FOR UPDATE")
        .await
        .unwrap();
    let cut = async {
        wait_for_a_lock(&database).await;
        if stalls {
            proxy.stall();
        } else {
            proxy.cut();
        }
        held.commit().await.unwrap();
    };
    let (answer, ()) = tokio::join!(app.change_password(&token, PASSWORD, NEW), cut);

    answer.problem(503, "dependency-unavailable");
    assert_eq!(pending(&app).await, 1);
    // A round that can do nothing keeps the promise for the next.
    app.startup.round().await.unwrap();
    assert_eq!(pending(&app).await, 1);

    proxy.heal();
    app.startup.round().await.unwrap();
    assert_eq!(pending(&app).await, 0);
    app.check(&other).await.problem(401, "invalid-token");
    assert_eq!(app.check(&token).await.status, 200, "this one is kept");
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 1);
    app.log_in("alice", PASSWORD)
        .await
        .problem(401, "invalid-credentials");
    assert_eq!(app.log_in("alice", NEW).await.status, 200);
}

#[tokio::test]
async fn nothing_is_changed_or_hashed_while_a_store_is_away() {
    let database = crate::common::database(Backend::External).await;
    let (database, database_url) = Proxy::before(&database.url).await;
    let (tokens, tokens_url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.database.url = database_url;
        config.database.acquire_timeout = Duration::from_secs(1);
        config.tokens.url = tokens_url;
        config.tokens.timeout = Duration::from_secs(1);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    for proxy in [&database, &tokens] {
        let runs = app.hash_runs();
        proxy.cut();
        app.change_password(&token, PASSWORD, NEW)
            .await
            .problem(503, "dependency-unavailable");
        assert_eq!(app.hash_runs(), runs);
        proxy.heal();
        assert_eq!(app.check(&token).await.status, 200);
        assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
    }
    let answer = app.change_password(&token, PASSWORD, NEW).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[rstest]
#[tokio::test]
async fn nothing_is_hashed_while_the_schema_is_behind(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let schema = Schema::new(app.database.connect().await);
    // The table of promises goes; the users stay.
    schema
        .down(async || Ok::<(), std::io::Error>(()))
        .await
        .unwrap();
    app.ops("/readyz").await;
    if backend == Backend::External {
        let runs = app.hash_runs();
        app.change_password(&token, PASSWORD, NEW)
            .await
            .problem(503, "dependency-unavailable");
        assert_eq!(app.hash_runs(), runs);
    }
    schema.up().await.unwrap();
    app.ops("/readyz").await;
    let token = app.token("alice").await;
    let answer = app.change_password(&token, PASSWORD, NEW).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// A queue of one behind one worker, and a hash that keeps it busy: of many changes at once most are refused.
#[rstest]
#[tokio::test]
async fn more_than_can_be_hashed_is_refused(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.password.workers = Some(1);
        config.password.queue = Some(1);
        // A busy machine is no reason to refuse the one that waits.
        config.password.queue_timeout = Duration::from_mins(2);
        config.server.request_timeout = Duration::from_mins(3);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let database = app.database.connect().await;
    let set_hash = async |hash: &str| {
        let sql = format!("UPDATE users SET password_hash = '{hash}'");
        database.execute_unprepared(&sql).await.unwrap();
    };
    let slow = "$argon2id$v=19$m=8,t=50000,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
    set_hash(slow).await;

    let changes = (0..20).map(|_| app.change_password(&token, PASSWORD, NEW));
    let answers = join_all(changes).await;
    let (overloaded, refused): (Vec<_>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 503);
    assert!(overloaded.len() >= 10, "{}", overloaded.len());
    assert!(!refused.is_empty());
    for answer in overloaded {
        answer.problem(503, "overloaded");
    }
    for answer in refused {
        answer.problem(403, "invalid-credentials");
    }

    set_hash(app.hash(PASSWORD).await.expose_secret()).await;
    let answer = app.change_password(&token, PASSWORD, NEW).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[tokio::test]
async fn a_client_that_is_slow_to_send_its_body_is_told_so() {
    let app = TestApp::start_with(Backend::Embedded, |config| {
        config.server.request_timeout = Duration::from_millis(200);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let never = futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>();
    app.put_password(&token, "application/json", Body::from_stream(never))
        .await
        .problem(408, "request-timeout");
}
