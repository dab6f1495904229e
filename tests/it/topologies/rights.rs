//! The rights that the service needs in Redis, as docs/operations.md has them.

use std::time::Duration;

use claviger::store::tokens::SessionId;
use rstest::rstest;
use secrecy::{ExposeSecret as _, SecretString};

use super::a_session_comes_and_goes;
use crate::common::{Backend, PASSWORD, RedisCluster, RedisServer, Sentinel, TestApp};

/// For one server.
const RIGHTS: &str = "+get +mget +set +pttl +pexpire +del +hget +hgetall +hset +hdel +setrange \
                      +evalsha +eval +time +scan +ping +info +role";

/// With `tokens.wait_replicas`.
const TO_WAIT: &str = "+wait +multi +exec";

/// In a cluster.
const CLUSTER: &str = "+cluster|info +cluster|slots +asking";

async fn grant(server: &RedisServer, rights: &[&str]) {
    let rights = rights.join(" ");
    let user = "ACL SETUSER claviger on >secret resetkeys ~clv_* ~claviger:* resetchannels -@all";
    let words: Vec<&str> = user.split(' ').chain(rights.split(' ')).collect();
    server.command(&words).await;
}

fn as_user(url: &SecretString) -> SecretString {
    let url = url.expose_secret();
    url.replace("://", "://claviger:secret@").into()
}

/// Does all that is done with tokens, with all that can be set, and sees that nothing was refused.
async fn all_is_done(url: &SecretString, idle: bool, replicas: u32, servers: &[&RedisServer]) {
    let app = TestApp::start_with(Backend::External, |config| {
        let tokens = &mut config.tokens;
        tokens.url = as_user(url);
        tokens.timeout = Duration::from_secs(3);
        tokens.key_prefix = String::new();
        tokens.idle_ttl = idle.then_some(Duration::from_mins(10));
        tokens.wait_replicas = replicas;
        tokens.max_sessions_per_user = 3;
        config.limits.login_per_ip.count = 1;
    })
    .await;
    let id = app.user("alice").await;
    app.user("bob").await;
    assert_eq!(app.ops("/readyz").await.status, 200);
    // On each server, so that each may be asked.
    for _ in 0..12 {
        a_session_comes_and_goes(&app, "alice").await;
        let (mine, other) = (app.token("alice").await, app.token("alice").await);
        // More than may be: the oldest ends.
        app.token("alice").await;
        assert_eq!(app.sessions(&mine).await.len(), 3);
        let path = format!("/v1.0/user/sessions/{}", SessionId::of(id, &other));
        let ended = app.call_with("DELETE", &path, &mine).await;
        assert_eq!(ended.status, 204, "{}", ended.text());
        let ended = app.call_with("DELETE", "/v1.0/user/sessions", &mine).await;
        assert_eq!(ended.status, 204, "{}", ended.text());
    }
    // What is counted, and what is refused when there was too much of it.
    let wrong = app.log_in("bob", "not the password").await;
    wrong.problem(401, "invalid-credentials");
    for _ in 0..2 {
        let refused = app.log_in("bob", PASSWORD).await;
        refused.problem(429, "too-many-attempts");
    }
    for server in servers {
        let refused: Vec<redis::Value> = server.ask(&["ACL", "LOG"]).await;
        // Its name, which the library wants to tell, is of no use.
        let refused: Vec<String> = refused
            .iter()
            .map(|entry| format!("{entry:?}"))
            .filter(|entry| !entry.contains("client|setinfo"))
            .collect();
        assert_eq!(refused, Vec::<String>::new());
    }
}

#[rstest]
#[tokio::test]
async fn of_one_server(#[values(false, true)] idle: bool) {
    let redis = RedisServer::start();
    grant(&redis, &[RIGHTS]).await;
    all_is_done(&redis.url, idle, 0, &[&redis]).await;
}

#[tokio::test]
async fn of_a_master_with_a_replica_and_a_sentinel() {
    let (master, replica) = (RedisServer::start(), RedisServer::start());
    grant(&master, &[RIGHTS, TO_WAIT]).await;
    master.has_replica(&replica).await;
    let sentinel = Sentinel::watch(&master, &[]);
    all_is_done(&sentinel.url, false, 1, &[&master]).await;
}

#[rstest]
#[tokio::test]
async fn of_a_cluster(#[values(false, true)] idle: bool) {
    let cluster = RedisCluster::start().await;
    let servers: Vec<&RedisServer> = cluster.masters.iter().chain([&cluster.replica]).collect();
    let rights = RIGHTS.replace(" +role", "");
    for server in &servers {
        grant(server, &[&rights, CLUSTER]).await;
    }
    all_is_done(&cluster.url(), idle, 0, &servers).await;
}
