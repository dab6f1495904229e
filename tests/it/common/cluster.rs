//! A Redis Cluster: three masters, and a replica of the first.

use redis::Value;
use secrecy::SecretString;

use super::RedisServer;
use super::redis::MOST_LOOKS;

/// How many slots there are.
const SLOTS: usize = 16_384;

/// It ends when this is dropped.
pub(crate) struct RedisCluster {
    pub(crate) masters: Vec<RedisServer>,
    /// Of the first master.
    pub(crate) replica: RedisServer,
}

impl RedisCluster {
    pub(crate) async fn start() -> Self {
        let server =
            || RedisServer::with(&["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]);
        let masters: Vec<RedisServer> = (0..3).map(|_| server()).collect();
        let replica = server();
        for (index, server) in masters.iter().enumerate() {
            // Without this all would begin with the same one, and have to agree on others first.
            let epoch = (index + 1).to_string();
            server
                .command(&["CLUSTER", "SET-CONFIG-EPOCH", &epoch])
                .await;
            let first = (SLOTS * index / masters.len()).to_string();
            let last = (SLOTS * (index + 1) / masters.len() - 1).to_string();
            server
                .command(&["CLUSTER", "ADDSLOTSRANGE", &first, &last])
                .await;
        }
        let port = masters[0].port.to_string();
        for other in masters[1..].iter().chain([&replica]) {
            other
                .command(&["CLUSTER", "MEET", "127.0.0.1", &port])
                .await;
        }
        let cluster = Self { masters, replica };
        cluster.wait_for("cluster_known_nodes:4").await;
        cluster.wait_for("cluster_state:ok").await;
        let id: String = cluster.masters[0].ask(&["CLUSTER", "MYID"]).await;
        cluster
            .replica
            .command(&["CLUSTER", "REPLICATE", &id])
            .await;
        cluster.masters[0].wait_for_replica(&cluster.replica).await;
        cluster
    }

    /// Names all of its servers.
    pub(crate) fn url(&self) -> SecretString {
        let servers = self.masters.iter().chain([&self.replica]);
        let hosts: Vec<String> = servers
            .map(|server| format!("127.0.0.1:{}", server.port))
            .collect();
        format!("redis+cluster://{}", hosts.join(",")).into()
    }

    /// Waits until all of its servers say this of the cluster.
    pub(crate) async fn wait_for(&self, line: &str) {
        for server in self.masters.iter().chain([&self.replica]) {
            server.wait_for_cluster(line).await;
        }
    }

    /// The master that has the slot of a key.
    pub(crate) async fn of(&self, key: &str) -> usize {
        let slot: usize = self.masters[0].ask(&["CLUSTER", "KEYSLOT", key]).await;
        slot * self.masters.len() / SLOTS
    }
}

impl RedisServer {
    /// Waits until it says this of the cluster that it is in.
    pub(crate) async fn wait_for_cluster(&self, line: &str) {
        let mut connection = self.connect().await;
        for _ in 0..MOST_LOOKS {
            let mut info = redis::cmd("CLUSTER");
            let info: String = info.arg("INFO").query_async(&mut connection).await.unwrap();
            if info.lines().any(|other| other == line) {
                return;
            }
        }
        panic!("the server never says {line}");
    }

    /// Waits until it is a master.
    pub(crate) async fn wait_to_be_master(&self) {
        let mut connection = self.connect().await;
        for _ in 0..MOST_LOOKS {
            let role: Vec<Value> = redis::cmd("ROLE")
                .query_async(&mut connection)
                .await
                .unwrap();
            if role.first() == Some(&Value::BulkString(b"master".to_vec())) {
                return;
            }
        }
        panic!("the server never becomes a master");
    }
}
