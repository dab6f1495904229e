//! A Redis Cluster whose clients meet a disturbed way to each of its masters.

use secrecy::{ExposeSecret, SecretString};

use crate::common::{DelayingProxy, RedisCluster};

/// How often the servers are looked at before they are given up: far longer than it takes.
const MOST_LOOKS: u32 = 100_000;

pub(super) struct Cluster {
    /// Names the proxies, and so do the servers.
    pub(super) url: SecretString,
    pub(super) proxies: Vec<DelayingProxy>,
    servers: RedisCluster,
}

impl Cluster {
    pub(super) async fn start(lost_one_in: u32) -> Self {
        let servers = RedisCluster::start().await;
        let mut proxies = Vec::new();
        let mut addresses = Vec::new();
        for master in &servers.masters {
            let (proxy, url) = DelayingProxy::before(&master.url, 0, lost_one_in).await;
            let port = url::Url::parse(url.expose_secret()).unwrap().port();
            let port = port.unwrap().to_string();
            let announce = ["CONFIG", "SET", "cluster-announce-port", &port];
            master.command(&announce).await;
            addresses.push(format!("127.0.0.1:{port}"));
            proxies.push(proxy);
        }
        // They tell each other.
        for master in &servers.masters {
            let mut looks = 0;
            loop {
                let nodes: String = master.ask(&["CLUSTER", "NODES"]).await;
                let mut named = addresses.iter().map(|address| format!(" {address}@"));
                if named.all(|address| nodes.contains(&address)) {
                    break;
                }
                looks += 1;
                assert!(looks < MOST_LOOKS, "the proxies are never named: {nodes}");
            }
        }
        Self {
            url: format!("redis+cluster://{}", addresses.join(",")).into(),
            proxies,
            servers,
        }
    }

    /// The URL of each master.
    pub(super) fn masters(&self) -> Vec<SecretString> {
        let masters = self.servers.masters.iter();
        masters.map(|master| master.url.clone()).collect()
    }

    /// Begins a run: the proxies choose by this seed from now on.
    pub(super) fn choose_by(&self, seed: u64) {
        for (proxy, place) in self.proxies.iter().zip(0..) {
            proxy.choose_by(seed.wrapping_add(place));
        }
    }
}
