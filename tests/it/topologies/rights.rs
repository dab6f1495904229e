//! The rights that the service needs in Redis, as docs/operations.md has them.

use rstest::rstest;
use secrecy::{ExposeSecret as _, SecretString};

use super::{a_session_comes_and_goes, app_with};
use crate::common::{RedisCluster, RedisServer, Sentinel};

/// For one server.
const RIGHTS: &str = "+get +mget +set +pttl +pexpire +del +exists +hget +hgetall +hvals +hset +hdel +setrange \
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

/// Logs in, checks and logs out with all that can be set, and sees that nothing was refused.
async fn all_is_done(url: &SecretString, idle: bool, replicas: u32, servers: &[&RedisServer]) {
    let app = app_with(&as_user(url), |tokens| {
        tokens.key_prefix = String::new();
        tokens.idle_ttl = idle.then_some(std::time::Duration::from_mins(10));
        tokens.wait_replicas = replicas;
    })
    .await;
    app.user("alice").await;
    assert_eq!(app.ops("/readyz").await.status, 200);
    // On each server, so that each may be asked.
    for _ in 0..12 {
        a_session_comes_and_goes(&app, "alice").await;
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
