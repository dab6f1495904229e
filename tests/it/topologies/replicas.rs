//! `tokens.wait_replicas`: a session is ended on the replicas too, or nobody says that it is.

use claviger::auth::accounts::{Accounts, Change};
use claviger::store::audit::Author;
use claviger::store::revocations::Revocations;
use claviger::store::tokens::SessionId;
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

/// The other ways to end sessions. Who tries again waits again, though the keys are gone on the master.
#[rstest]
#[case::one("one")]
#[case::all("all")]
#[case::of_the_account("disable")]
#[tokio::test]
async fn whoever_tries_again_waits_again(#[case] way: &str) {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    master.has_replica(&replica).await;
    let mut app = app_with(&master.url, |tokens| tokens.wait_replicas = 1).await;
    let id = app.user("alice").await;
    let (asker, other) = (app.token("alice").await, app.token("alice").await);
    let own = SessionId::of(id, &other);
    let accounts = Accounts::new(
        app.users.clone(),
        Revocations::new(app.database.connect().await),
        app.state.authenticator().tokens().clone(),
    );
    master.wait_for_replica(&replica).await;

    replica.hold();
    for _ in 0..2 {
        match way {
            "one" => {
                let path = format!("/v1.0/user/sessions/{own}");
                let answer = app.call_with("DELETE", &path, &asker).await;
                answer.problem(503, "dependency-unavailable");
            }
            "all" => {
                let path = "/v1.0/user/sessions?keep=current";
                let answer = app.call_with("DELETE", path, &asker).await;
                answer.problem(503, "dependency-unavailable");
            }
            _ => {
                let author = Author::command();
                let change = accounts.set_disabled(id, true, &author).await.unwrap();
                assert!(matches!(change, Change::Pending(_)), "{change:?}");
                // The same promise, over and over, as the watch keeps it.
                accounts.settle_pending().await.unwrap_err();
            }
        }
        app.check(&other).await.problem(401, "invalid-token");
    }
    // What began after the first try is not ended by those who try again as the same revocation.
    let mut later = None;
    if way == "disable" {
        assert!(app.users.enable(id).await.unwrap());
        later = Some(app.token("alice").await);
        accounts.settle_pending().await.unwrap_err();
    }
    replica.go_on();
    match way {
        "one" => {
            let path = format!("/v1.0/user/sessions/{own}");
            assert_eq!(app.call_with("DELETE", &path, &asker).await.status, 204);
        }
        "all" => {
            let path = "/v1.0/user/sessions?keep=current";
            assert_eq!(app.call_with("DELETE", path, &asker).await.status, 204);
        }
        _ => {
            app.startup.round().await.unwrap();
            accounts.settle_pending().await.unwrap();
        }
    }
    if let Some(later) = later {
        assert_eq!(app.check(&later).await.status, 200);
    } else {
        assert_eq!(app.check(&asker).await.status, 200);
    }
    let key = [&app.config.tokens.key_prefix, &*other].concat();
    assert_eq!(replica.ask::<u64>(&["EXISTS", &key]).await, 0);
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

/// Who tries again waits for the master of the token, though it has nothing to delete there any more.
#[tokio::test]
async fn whoever_tries_again_in_a_cluster_waits_for_the_master_of_the_token() {
    let cluster = RedisCluster::start().await;
    let app = app_with(&cluster.url(), |tokens| tokens.wait_replicas = 1).await;
    // The user's records are on the first, which alone has a replica, and the token on one that has none.
    let mut number = 0;
    let (id, token) = loop {
        number += 1;
        let name = format!("alice{number}");
        let id = app.user(&name).await;
        let token = app.token(&name).await;
        let key = [&app.config.tokens.key_prefix, &*token].concat();
        if cluster.of(&format!("u:{id}")).await == 0 && cluster.of(&key).await != 0 {
            break (id, token);
        }
    };
    let tokens = app.state.authenticator().tokens();
    let revocation = format!("{:032x}", 7);
    for _ in 0..3 {
        let ended = tokens.end_all(id, None, Some(&revocation)).await;
        ended.unwrap_err();
        app.check(&token).await.problem(401, "invalid-token");
    }
    for _ in 0..2 {
        let ended = tokens.end(&SessionId::of(id, &token)).await;
        ended.unwrap_err();
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
