//! One server: that becomes a replica, misses its own, or loads its data.

use claviger::auth::token::Token;
use rstest::rstest;

use super::{a_session_comes_and_goes, all_is_unavailable, app_on, until_it_lives};
use crate::common::{Backend, Proxy, RedisServer, TestApp};

/// Also if it may not be asked what it is.
#[rstest]
#[tokio::test]
async fn the_server_becomes_a_replica(#[values(true, false)] tells_its_role: bool) {
    let redis = RedisServer::start();
    if !tells_its_role {
        redis.command(&["ACL", "SETUSER", "default", "-role"]).await;
    }
    let app = app_on(&redis.url).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.check(&token).await.status, 200);

    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let ready = app.ops("/readyz").await;
    assert_eq!(ready.json()["failing"], serde_json::json!(["tokens"]));
    all_is_unavailable(&app, &[&token]).await;

    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(app.ops("/readyz").await.status, 200);
    assert_eq!(app.check(&token).await.status, 200);
    a_session_comes_and_goes(&app, "alice").await;
}

/// It would answer each question, and nobody has written to it yet.
#[tokio::test]
async fn a_replica_from_the_beginning() {
    let redis = RedisServer::start();
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let app = TestApp::build_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    let token = Token::generate();
    let check = app.check(token.expose()).await;
    check.problem(503, "dependency-unavailable");

    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    let check = app.check(token.expose()).await;
    check.problem(401, "invalid-token");
}

/// All but the connection of the checks has followed the name, and that one is not told either.
#[tokio::test]
async fn the_checks_still_lead_to_the_old_master() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let (proxy, url) = Proxy::before(&old.url).await;
    let app = app_on(&url).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.check(&token).await.status, 200);

    proxy.lead_to(&new.url);
    let clients: String = old.ask(&["CLIENT", "LIST"]).await;
    let mut killed = 0;
    for client in clients.lines() {
        let field = |name: &str| {
            let mut words = client.split(' ');
            words.find_map(|word| word.strip_prefix(name)).unwrap()
        };
        // The last that the checks have asked; and this list was asked for by ourselves.
        if !["pttl", "client|list"].contains(&field("cmd=")) {
            killed += old
                .ask::<u64>(&["CLIENT", "KILL", "ID", field("id=")])
                .await;
        }
    }
    assert!(killed > 0, "{clients}");
    old.command(&["REPLICAOF", "127.0.0.1", "1"]).await;

    let ready = app.ops("/readyz").await;
    assert_eq!(ready.json()["failing"], serde_json::json!(["tokens"]));
    assert_eq!(app.ops("/readyz").await.status, 200);
    app.check(&token).await.problem(401, "invalid-token");
    a_session_comes_and_goes(&app, "alice").await;
}

#[tokio::test]
async fn a_master_that_misses_its_replicas() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    app.user("alice").await;
    let token = app.token("alice").await;

    redis
        .command(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await;
    let ready = app.ops("/readyz").await;
    assert_eq!(ready.json()["failing"], serde_json::json!(["tokens"]));
    all_is_unavailable(&app, &[&token]).await;

    redis
        .command(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .await;
    assert_eq!(app.ops("/readyz").await.status, 200);
    a_session_comes_and_goes(&app, "alice").await;
}

#[tokio::test]
async fn the_server_loads_its_data() {
    let mut redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    // Not packed, so that it is much.
    redis
        .command(&["CONFIG", "SET", "rdbcompression", "no"])
        .await;
    let many = "for i = 1, 10000 do redis.call('SET', i, string.rep('x', 100)) end";
    redis.command(&["EVAL", many, "0"]).await;
    redis.command(&["SAVE"]).await;
    redis.kill();
    all_is_unavailable(&app, &[&token]).await;

    redis.again_slowly();
    let mut connection = redis.connect().await;
    let answer: redis::RedisResult<String> = redis::cmd("GET")
        .arg("a")
        .query_async(&mut connection)
        .await;
    assert_eq!(answer.unwrap_err().code(), Some("LOADING"));
    all_is_unavailable(&app, &[&token]).await;

    let quick = ["CONFIG", "SET", "key-load-delay", "0"];
    redis.command(&quick).await;
    until_it_lives(&app, &token).await;
    assert_eq!(app.ops("/readyz").await.status, 200);
    a_session_comes_and_goes(&app, "alice").await;
}
