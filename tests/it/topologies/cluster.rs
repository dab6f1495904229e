//! Redis Cluster: three masters, and a replica of the first.

use std::time::Instant;

use claviger::store::tokens::Tokens;
use futures_util::future::join_all;
use redis::Value;

use super::{RECOVERY, a_session_comes_and_goes, app_on, app_with, until_it_lives};
use crate::common::{RedisCluster, TestApp};

/// Tokens of alice, one at least on each master: the first of the list is on the first, and so on.
async fn tokens(cluster: &RedisCluster, app: &TestApp) -> [String; 3] {
    let mut tokens = [const { None }; 3];
    while tokens.iter().any(Option::is_none) {
        let token = app.token("alice").await;
        let master = cluster.of(&key(app, &token)).await;
        tokens[master] = Some(token);
    }
    tokens.map(Option::unwrap)
}

fn key(app: &TestApp, token: &str) -> String {
    [&app.config.tokens.key_prefix, token].concat()
}

#[tokio::test]
async fn sessions_are_spread_over_all_masters() {
    let cluster = RedisCluster::start().await;
    let app = app_on(&cluster.url()).await;
    app.user("alice").await;
    let tokens = tokens(&cluster, &app).await;
    for _ in 0..10 {
        a_session_comes_and_goes(&app, "alice").await;
    }
    // Some of each master come together.
    let together = tokens.iter().cycle().take(100);
    for answer in join_all(together.map(|token| app.check(token))).await {
        assert_eq!(answer.status, 200);
    }
    for (master, token) in cluster.masters.iter().zip(&tokens) {
        let id: String = master.ask(&["GET", &key(&app, token)]).await;
        assert_eq!(app.check(token).await.json()["user_id"].to_string(), id);
    }
    assert_eq!(app.ops("/readyz").await.status, 200);
    assert_eq!(app.metric("claviger_tokens_may_be_evicted").await, 0);

    // One that any of them would do is enough.
    cluster.masters[2]
        .command(&["CONFIG", "SET", "maxmemory", "1gb"])
        .await;
    cluster.masters[2]
        .command(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
        .await;
    app.ops("/readyz").await;
    assert_eq!(app.metric("claviger_tokens_may_be_evicted").await, 1);
}

#[tokio::test]
async fn all_sessions_of_all_masters_are_ended() {
    let cluster = RedisCluster::start().await;
    let app = app_on(&cluster.url()).await;
    let alice = app.user("alice").await;
    app.user("bob").await;
    let tokens = tokens(&cluster, &app).await;
    let other = app.token("bob").await;
    let store = Tokens::open(&app.config.tokens).unwrap();
    let installation = claviger::store::schema::Schema::new(app.database.connect().await)
        .installation_id()
        .await
        .unwrap();
    store.belong_to(&installation.unwrap());

    assert!(store.sessions(alice).await.unwrap().len() >= 3);
    assert!(store.end_all(alice, None, None).await.unwrap() >= 3);
    for token in &tokens {
        app.check(token).await.problem(401, "invalid-token");
    }
    assert_eq!(app.check(&other).await.status, 200);

    let many = self::tokens(&cluster, &app).await;
    assert!(store.clear().await.unwrap() >= 4);
    for token in many.iter().chain([&other]) {
        app.check(token).await.problem(401, "invalid-token");
    }
    for master in &cluster.masters {
        let mut keys: Vec<String> = master.ask(&["KEYS", "*"]).await;
        // Those of the throttle, which have an end.
        keys.retain(|key| !key.ends_with(":attempts"));
        assert!(keys.is_empty(), "{keys:?}");
    }
}

#[tokio::test]
async fn a_master_dies() {
    let mut cluster = RedisCluster::start().await;
    let app = app_on(&cluster.url()).await;
    app.user("alice").await;
    let [token, second, third] = tokens(&cluster, &app).await;
    let revoked = tokens(&cluster, &app).await[0].clone();
    assert_eq!(app.log_out(&revoked).await.status, 204);
    cluster.masters[0].wait_for_replica(&cluster.replica).await;

    cluster.masters[0].kill();
    let begin = Instant::now();
    app.check(&token)
        .await
        .problem(503, "dependency-unavailable");
    app.log_out(&token)
        .await
        .problem(503, "dependency-unavailable");
    app.check(&revoked)
        .await
        .problem(503, "dependency-unavailable");
    let ready = app.ops("/readyz").await;
    assert_eq!(ready.json()["failing"], serde_json::json!(["tokens"]));

    cluster.replica.wait_to_be_master().await;
    let promoted = begin.elapsed();
    let mut recovery = until_it_lives(&app, &token).await;
    // The others refuse meanwhile, since the cluster is not whole.
    for token in [&second, &third] {
        recovery += until_it_lives(&app, token).await;
    }
    eprintln!("promoted after {promoted:?}, recovered {recovery:?} later");
    assert!(recovery < RECOVERY, "{recovery:?}");
    app.check(&revoked).await.problem(401, "invalid-token");
    assert_eq!(app.ops("/readyz").await.status, 200);
    for _ in 0..10 {
        a_session_comes_and_goes(&app, "alice").await;
    }

    // It comes back as a replica of the other.
    cluster.masters[0].again();
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);
    app.check(&token).await.problem(401, "invalid-token");
}

#[tokio::test]
async fn a_master_hangs() {
    let cluster = RedisCluster::start().await;
    let app = app_on(&cluster.url()).await;
    app.user("alice").await;
    let [token, ..] = tokens(&cluster, &app).await;
    cluster.masters[0].wait_for_replica(&cluster.replica).await;

    cluster.masters[0].hold();
    app.check(&token)
        .await
        .problem(503, "dependency-unavailable");
    cluster.replica.wait_to_be_master().await;
    let recovery = until_it_lives(&app, &token).await;
    eprintln!("recovered after {recovery:?}");
    assert!(recovery < RECOVERY, "{recovery:?}");
    assert_eq!(app.ops("/readyz").await.status, 200);
    for _ in 0..10 {
        a_session_comes_and_goes(&app, "alice").await;
    }

    cluster.masters[0].go_on();
    assert_eq!(app.log_out(&token).await.status, 204);
    app.check(&token).await.problem(401, "invalid-token");
}

/// While a slot is on its way, and after it has arrived, before the service has heard of it.
#[rstest::rstest]
#[tokio::test]
async fn a_slot_moves(#[values(false, true)] idle: bool) {
    let cluster = RedisCluster::start().await;
    let app = app_with(&cluster.url(), |tokens| {
        tokens.idle_ttl = idle.then_some(std::time::Duration::from_mins(10));
    })
    .await;
    app.user("alice").await;
    let [moves, ends, _] = {
        let [first, ..] = tokens(&cluster, &app).await;
        let [second, ..] = tokens(&cluster, &app).await;
        [first, second, String::new()]
    };
    let [from, to, _] = &cluster.masters[..] else {
        panic!("three masters")
    };
    let ids: [String; 2] = [
        from.ask(&["CLUSTER", "MYID"]).await,
        to.ask(&["CLUSTER", "MYID"]).await,
    ];
    let port = to.port.to_string();
    let mut slots = Vec::new();
    for token in [&moves, &ends] {
        let slot: u16 = from.ask(&["CLUSTER", "KEYSLOT", &key(&app, token)]).await;
        let slot = slot.to_string();
        to.command(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]])
            .await;
        from.command(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]])
            .await;
        let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "10"]).await;
        assert_eq!(keys.len(), if idle { 2 } else { 1 });
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "1000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        from.command(&migrate).await;
        slots.push(slot);
    }

    assert_eq!(app.check(&moves).await.status, 200, "asked ahead");
    assert_eq!(app.log_out(&ends).await.status, 204);
    let answer = app.check(&ends).await;
    if idle {
        // Of two keys that are not there, none of the servers says which of them has them: TRYAGAIN.
        answer.problem(503, "dependency-unavailable");
    } else {
        answer.problem(401, "invalid-token");
    }

    for slot in &slots {
        for server in [to, from] {
            server
                .command(&["CLUSTER", "SETSLOT", slot, "NODE", &ids[1]])
                .await;
        }
    }
    assert_eq!(app.check(&moves).await.status, 200);
    app.check(&ends).await.problem(401, "invalid-token");
    assert_eq!(app.log_out(&moves).await.status, 204);
    app.check(&moves).await.problem(401, "invalid-token");
    assert_eq!(app.ops("/readyz").await.status, 200);
}

/// One server of it is enough to find the others.
#[tokio::test]
async fn the_url_may_name_a_replica_alone() {
    let cluster = RedisCluster::start().await;
    let url = format!(
        "redis+cluster://127.0.0.1:1,127.0.0.1:{}",
        cluster.replica.port
    );
    let app = app_on(&url.into()).await;
    app.user("alice").await;
    for token in tokens(&cluster, &app).await {
        assert_eq!(app.check(&token).await.status, 200);
    }
    // It is no way to read what a replica has.
    let role: Vec<Value> = cluster.replica.ask(&["ROLE"]).await;
    assert_eq!(role[0], Value::BulkString(b"slave".to_vec()));
}
