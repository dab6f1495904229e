//! `claviger healthcheck`: for containers that have neither a shell nor curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::exit::Failure;
use crate::config::Config;
use crate::store::with_sources;

/// Longer than a look at dependencies that are slow takes.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn run(config: &Config) -> Result<(), Failure> {
    let address = reachable(config.server.ops_listen);
    let unavailable = |error: reqwest::Error| {
        Failure::Unavailable(format!(
            "{address} does not answer: {}",
            with_sources(&error)
        ))
    };
    // Not through a proxy that the environment names for other hosts.
    let client = super::http_client(|client| client.timeout(TIMEOUT).no_proxy())?;
    let response = client
        .get(format!("http://{address}/readyz"))
        .send()
        .await
        .map_err(unavailable)?;
    if response.status().is_success() {
        return Ok(());
    }
    let report = response.text().await.map_err(unavailable)?;
    Err(Failure::Unavailable(format!("not ready: {report}")))
}

/// A service that listens on all addresses is reached on the loopback one.
fn reachable(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
