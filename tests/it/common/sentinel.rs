//! A sentinel, which watches a master and makes its replica the master when it fails.

use std::process::Child;

use futures_util::StreamExt as _;
use redis::aio::PubSub;
use secrecy::{ExposeSecret as _, SecretString};
use tempfile::TempDir;

use super::RedisServer;
use super::redis::{spawn, start_on_free_port, tls_port};

/// The name under which it watches the master.
const MASTER: &str = "main";

/// It ends when this is dropped.
pub(crate) struct Sentinel {
    /// Leads to the master.
    pub(crate) url: SecretString,
    pub(crate) port: u16,
    address: String,
    child: Child,
    arguments: Vec<String>,
    password: String,
    _folder: TempDir,
}

impl Sentinel {
    /// Watches `master`, with what `settings` say beside the usual: lines of its configuration. The replicas have to be there
    /// already, as it looks for others every ten seconds only.
    pub(crate) fn watch(master: &RedisServer, settings: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // It writes what it finds out into it.
        let file = folder.path().join("sentinel.conf");
        let dir = folder.path().display();
        let is_tls = settings.contains(&"tls-replication yes");
        let master_port = if is_tls {
            tls_port(master.port)
        } else {
            master.port
        };
        let (port, (arguments, child)) = start_on_free_port(|port| {
            let mut lines = vec![
                format!("port {port}"),
                "bind 127.0.0.1".to_owned(),
                format!("dir {dir}"),
                format!("sentinel monitor {MASTER} 127.0.0.1 {master_port} 1"),
                format!("sentinel down-after-milliseconds {MASTER} 500"),
                format!("sentinel failover-timeout {MASTER} 5000"),
            ];
            let tls = tls_port(port).to_string();
            lines.extend(settings.iter().map(|line| line.replace("TLS_PORT", &tls)));
            std::fs::write(&file, lines.join("\n")).unwrap();
            let arguments = vec![file.to_str().unwrap().to_owned(), "--sentinel".to_owned()];
            let child = spawn(&arguments, "+monitor")?;
            Some((arguments, child))
        });
        let address = format!("127.0.0.1:{port}");
        let password = settings
            .iter()
            .find_map(|line| line.strip_prefix("requirepass "));
        Self {
            url: format!("redis+sentinel://{address}/{MASTER}/0").into(),
            port,
            address,
            child,
            arguments,
            password: password.unwrap_or_default().to_owned(),
            _folder: folder,
        }
    }

    /// The URL with something before the hosts: a user and a password, or more sentinels.
    pub(crate) fn url_with(&self, before: &str) -> SecretString {
        let url = self.url.expose_secret();
        url.replace("://", &format!("://{before}")).into()
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(format!("redis://:{}@{}", self.password, self.address)).unwrap()
    }

    /// Waits until it knows a replica, without which nothing can be switched.
    pub(crate) async fn wait_for_a_replica(&self) {
        let mut connection = self
            .client()
            .get_multiplexed_async_connection()
            .await
            .unwrap();
        for _ in 0..super::redis::MOST_LOOKS {
            let replicas: Vec<redis::Value> = redis::cmd("SENTINEL")
                .arg("REPLICAS")
                .arg(MASTER)
                .query_async(&mut connection)
                .await
                .unwrap();
            if !replicas.is_empty() {
                return;
            }
        }
        panic!("the sentinel knows no replica");
    }

    /// What it will say of a switch, to be listened to before it comes.
    pub(crate) async fn switches(&self) -> Switches {
        let mut events = self.client().get_async_pubsub().await.unwrap();
        events.subscribe("+switch-master").await.unwrap();
        Switches(events)
    }

    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.arguments, "+monitor").expect("the sentinel starts again");
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The switches of a sentinel.
pub(crate) struct Switches(PubSub);

impl Switches {
    /// Waits until another server is the master.
    pub(crate) async fn next(&mut self) {
        self.0.on_message().next().await.expect("a switch comes");
    }
}
