//! The routes of sessions while the token store, or the database, is away.

use std::time::Duration;

use claviger::store::tokens::SessionId;
use rstest::rstest;

use super::{ROUTE, end_session, end_sessions};
use crate::common::{Backend, Proxy, TestApp, redis_url};

#[rstest]
#[tokio::test]
async fn the_token_store_is_away(#[values(true, false)] stalls: bool) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url;
        config.tokens.timeout = Duration::from_secs(1);
    })
    .await;
    let id = app.user("alice").await;
    let tokens = [
        app.token("alice").await,
        app.token("alice").await,
        app.token("alice").await,
    ];
    let second = SessionId::of(id, &tokens[1]).to_string();

    if stalls {
        proxy.stall();
    } else {
        proxy.cut();
    }
    for answer in [
        app.call_with("GET", ROUTE, &tokens[0]).await,
        end_session(&app, &tokens[0], &second).await,
        end_session(&app, &tokens[0], "x").await,
        end_sessions(&app, &tokens[0], "").await,
        end_sessions(&app, &tokens[0], "?keep=current").await,
    ] {
        answer.problem(503, "dependency-unavailable");
    }

    proxy.heal();
    assert_eq!(
        app.sessions(&tokens[0]).await.len(),
        3,
        "nothing was claimed"
    );
    assert_eq!(end_session(&app, &tokens[0], &second).await.status, 204);
    app.check(&tokens[1]).await.problem(401, "invalid-token");
    let answer = end_sessions(&app, &tokens[0], "?keep=current").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    app.check(&tokens[2]).await.problem(401, "invalid-token");
    assert_eq!(app.sessions(&tokens[0]).await.len(), 1);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 2);
}

#[tokio::test]
async fn without_the_database_sessions_are_listed_and_ended() {
    let database = crate::common::database(Backend::External).await;
    let (proxy, url) = Proxy::before(&database.url).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.database.url = url;
        config.database.acquire_timeout = Duration::from_secs(1);
    })
    .await;
    let id = app.user("alice").await;
    let tokens = [
        app.token("alice").await,
        app.token("alice").await,
        app.token("alice").await,
    ];
    proxy.cut();
    assert_eq!(app.ops("/readyz").await.status, 503);
    assert_eq!(app.sessions(&tokens[0]).await.len(), 3);
    let second = SessionId::of(id, &tokens[1]).to_string();
    assert_eq!(end_session(&app, &tokens[0], &second).await.status, 204);
    assert_eq!(end_sessions(&app, &tokens[0], "").await.status, 204);
    for token in &tokens {
        app.check(token).await.problem(401, "invalid-token");
    }
    proxy.heal();
    assert_eq!(app.ops("/readyz").await.status, 200);
    let token = app.token("alice").await;
    assert_eq!(app.sessions(&token).await.len(), 1);
}

/// The name under which sessions are kept is in the database. Until it was read, checks and log-outs are possible, and the rest
/// is said to be unavailable.
#[tokio::test]
async fn a_start_without_the_database_lists_nothing_and_claims_nothing() {
    let database = crate::common::database(Backend::External).await;
    let (proxy, url) = Proxy::before(&database.url).await;
    let prefix = crate::common::unique("test-");
    let start = async || {
        TestApp::start_with(Backend::External, |config| {
            config.database.url = url.clone();
            config.database.acquire_timeout = Duration::from_secs(1);
            config.tokens.key_prefix = prefix.clone();
        })
        .await
    };
    let app = start().await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);

    proxy.cut();
    let mut restarted = start().await;
    assert_eq!(restarted.check(&token).await.status, 200);
    let session = SessionId::of(id, &other).to_string();
    for answer in [
        restarted.call_with("GET", ROUTE, &token).await,
        end_session(&restarted, &token, &session).await,
        end_sessions(&restarted, &token, "").await,
    ] {
        answer.problem(503, "dependency-unavailable");
    }
    assert_eq!(restarted.check(&other).await.status, 200);

    proxy.heal();
    restarted.startup.round().await.unwrap();
    assert_eq!(restarted.sessions(&token).await.len(), 2);
    assert_eq!(end_session(&restarted, &token, &session).await.status, 204);
    restarted.check(&other).await.problem(401, "invalid-token");
}
