//! What a gateway is told when the service can't tell: 503, whatever it is that failed.

use std::time::Duration;

use claviger::auth::token::Token;
use redis::AsyncCommands;
use rstest::rstest;

use super::{ask, understood};
use crate::common::{Backend, Proxy, RedisServer, TestApp, redis_url};

#[rstest]
#[tokio::test]
async fn a_token_store_that_is_away_is_503_and_comes_back(#[values(true, false)] cut: bool) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url;
        config.tokens.timeout = Duration::from_secs(1);
    })
    .await;
    let id = app.user("alice").await.to_string();
    let token = app.token("alice").await;
    let ended = app.token("alice").await;
    app.log_out(&ended).await;

    if cut {
        proxy.cut();
    } else {
        proxy.stall();
    }
    // Nobody is told that he is not logged in.
    for token in [&token, &ended, Token::generate().expose()] {
        let answer = ask(&app, token).await;
        understood(&answer, 503);
        let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
        assert!((1..=10).contains(&retry_after));
    }
    // But this needs no store.
    understood(&ask(&app, "clv_x").await, 401);

    proxy.heal();
    assert_eq!(understood(&ask(&app, &token).await, 200), Some(id.as_str()));
    understood(&ask(&app, &ended).await, 401);
    let unavailable = "claviger_token_checks_total{outcome=\"unavailable\"}";
    assert_eq!(app.metric(unavailable).await, 3);
    let requests =
        r#"claviger_http_requests_total{method="GET",route="/v1.0/forward-auth",status="503"}"#;
    assert_eq!(app.metric(requests).await, 3);
}

#[tokio::test]
async fn a_store_that_is_a_replica_is_503() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    // What a replica says is believed until a probe has found out what it is.
    assert_eq!(app.ops("/readyz").await.status, 503);
    understood(&ask(&app, &token).await, 503);
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(app.ops("/readyz").await.status, 200);
    understood(&ask(&app, &token).await, 200);
}

#[tokio::test]
async fn a_corrupt_value_is_503() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        config.tokens.key_prefix = String::new();
    })
    .await;
    let mut connection = redis.connect().await;
    let (no_number, no_string) = (Token::generate(), Token::generate());
    connection
        .set_ex::<_, _, ()>(no_number.expose(), "admin", 60)
        .await
        .unwrap();
    connection
        .hset::<_, _, _, ()>(no_string.expose(), "user", 1)
        .await
        .unwrap();
    for token in [no_number, no_string] {
        understood(&ask(&app, token.expose()).await, 503);
        // A client is told the difference.
        app.check(token.expose()).await.problem(500, "internal");
    }
    let errors = "claviger_token_checks_total{outcome=\"error\"}";
    assert_eq!(app.metric(errors).await, 4);
}

#[rstest]
#[tokio::test]
async fn a_check_that_takes_too_long_is_503(#[values(true, false)] with_body: bool) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url;
        config.tokens.timeout = Duration::from_mins(1);
        config.server.request_timeout = Duration::from_millis(300);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    proxy.stall();
    // A body that never comes would make it 408, elsewhere.
    let body = if with_body {
        axum::body::Body::from_stream(futures_util::stream::pending::<
            Result<String, std::io::Error>,
        >())
    } else {
        axum::body::Body::empty()
    };
    let request = axum::http::Request::post("/v1.0/forward-auth/x")
        .header("authorization", format!("Bearer {token}"));
    let answer = app.send(request.body(body).unwrap()).await;
    understood(&answer, 503);
    proxy.heal();
    // What was asked before the heal is answered first; the next one is not late.
    understood(&ask(&app, &token).await, 200);
}
