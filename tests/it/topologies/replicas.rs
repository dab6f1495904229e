//! `tokens.wait_replicas`: a session is ended on the replicas too, or nobody says that it is.

use rstest::rstest;

use super::{a_session_comes_and_goes, app_with};
use crate::common::{RedisCluster, RedisServer};

#[tokio::test]
async fn a_revocation_waits_for_the_replicas() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.has_replica(&replica).await;
    let app = app_with(&master.url, |tokens| tokens.wait_replicas = 1).await;
    app.user("alice").await;
    a_session_comes_and_goes(&app, "alice").await;
    let token = app.token("alice").await;
    let other = app.token("alice").await;
    master.wait_for_replica(&replica).await;

    replica.hold();
    let unavailable = "dependency-unavailable";
    app.log_out(&token).await.problem(503, unavailable);
    // The key is gone already, but the replica, which may be the next master, still has it.
    app.log_out(&token).await.problem(503, unavailable);
    assert_eq!(
        app.check(&other).await.status,
        200,
        "a check waits for nobody"
    );
    app.token("alice").await;

    replica.go_on();
    app.log_out(&token).await.problem(401, "invalid-token");
    assert_eq!(app.log_out(&other).await.status, 204);
    let keys: u64 = replica
        .ask(&["EXISTS", &[&app.config.tokens.key_prefix, &*token].concat()])
        .await;
    assert_eq!(keys, 0);
}

#[rstest]
#[case::enough(1, 204)]
#[case::more_than_there_are(2, 503)]
#[tokio::test]
async fn as_many_replicas_as_are_asked_for(#[case] wanted: u32, #[case] status: u16) {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.has_replica(&replica).await;
    let app = app_with(&master.url, |tokens| tokens.wait_replicas = wanted).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.log_out(&token).await.status.as_u16(), status);
    app.check(&token).await.problem(401, "invalid-token");
}

/// Each is asked about its own replicas.
#[tokio::test]
async fn a_revocation_in_a_cluster_waits_for_the_replicas_of_the_tokens_master() {
    let cluster = RedisCluster::start().await;
    let app = app_with(&cluster.url(), |tokens| tokens.wait_replicas = 1).await;
    // The record of a session is ended too, so a user whose records are on the first, which alone has a replica.
    let mut name = String::new();
    for number in 0.. {
        name = format!("alice{number}");
        let id = app.user(&name).await;
        if cluster.of(&format!("u:{id}")).await == 0 {
            break;
        }
    }
    let mut seen = [false; 3];
    while seen.contains(&false) {
        let token = app.token(&name).await;
        let key = [&app.config.tokens.key_prefix, &*token].concat();
        let master = cluster.of(&key).await;
        let expected = if master == 0 { 204 } else { 503 };
        let answer = app.log_out(&token).await;
        assert_eq!(answer.status, expected, "of master {master}");
        app.check(&token).await.problem(401, "invalid-token");
        seen[master] = true;
    }
    cluster.replica.hold();
    loop {
        let token = app.token(&name).await;
        let key = [&app.config.tokens.key_prefix, &*token].concat();
        if cluster.of(&key).await == 0 {
            let answer = app.log_out(&token).await;
            answer.problem(503, "dependency-unavailable");
            break;
        }
    }
}

/// Nothing more can be written to it, but what was deleted can still be waited for.
#[tokio::test]
async fn a_revocation_waits_also_if_the_memory_is_full() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.has_replica(&replica).await;
    let app = app_with(&master.url, |tokens| tokens.wait_replicas = 1).await;
    app.user("alice").await;
    let (one, two) = (app.token("alice").await, app.token("alice").await);
    master.wait_for_replica(&replica).await;
    master.command(&["CONFIG", "SET", "maxmemory", "1"]).await;

    assert_eq!(app.log_out(&one).await.status, 204);
    replica.hold();
    app.log_out(&two)
        .await
        .problem(503, "dependency-unavailable");
    replica.go_on();
}
