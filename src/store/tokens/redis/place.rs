//! What `tokens.url` says: which servers there are, and how each of them is reached.

use std::fmt;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo,
    RedisConnectionInfo, RedisResult,
};
use secrecy::ExposeSecret;

use crate::config;
use crate::store::tokens::InvalidTokensUrl;

/// The port of a sentinel for which the URL names none.
const SENTINEL_PORT: u16 = 26_379;

/// Below this a busy network would be taken for a dead one.
const MIN_USER_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port } = self;
        write!(formatter, "{host}:{port}")
    }
}

/// How the servers are reached, wherever they are.
#[derive(Clone)]
pub(super) struct Access {
    tls: bool,
    login: RedisConnectionInfo,
    tcp: TcpSettings,
    timeout: Duration,
}

impl Access {
    /// Connects. The connection itself knows no time-out: whoever asks sets one.
    pub(super) async fn connect(&self, address: &Address) -> RedisResult<MultiplexedConnection> {
        let Address { host, port } = address.clone();
        let address = if self.tls {
            ConnectionAddr::TcpTls {
                host,
                port,
                insecure: false,
                tls_params: None,
            }
        } else {
            ConnectionAddr::Tcp(host, port)
        };
        let info = address
            .into_connection_info()?
            .set_tcp_settings(self.tcp.clone())
            .set_redis_settings(self.login.clone());
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.timeout))
            .set_response_timeout(None);
        Client::open(info)?
            .get_multiplexed_async_connection_with_config(&config)
            .await
    }

    /// The same without user, password and database.
    pub(super) fn anonymous(&self) -> Self {
        Self {
            login: RedisConnectionInfo::default(),
            ..self.clone()
        }
    }

    /// The same with user and password, but without a database.
    pub(super) fn without_database(&self) -> Self {
        Self {
            login: self.login.clone().set_db(0),
            ..self.clone()
        }
    }

    /// Whether a user or a password is known.
    pub(super) fn has_login(&self) -> bool {
        self.login.password().is_some()
    }

    /// The longest wait for a connection.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }
}

/// The servers that the URL names.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Servers {
    /// The one that holds the tokens, or what leads to it.
    Single(Address),
    /// Those who know which one it is.
    Sentinels {
        addresses: Vec<Address>,
        /// The name of the master among those that they watch.
        master: String,
    },
    /// Some of those that share the tokens.
    Cluster(Vec<Address>),
}

/// Reads `tokens.url`. Nobody is asked.
pub(super) fn read(settings: &config::Tokens) -> Result<(Servers, Access), InvalidTokensUrl> {
    let (servers, info) = read_url(settings.url.expose_secret()).ok_or(InvalidTokensUrl)?;
    // A dead peer that never says goodbye is given up after this long, so that the next check gets a new connection.
    let tcp = TcpSettings::default()
        .set_nodelay(true)
        .set_user_timeout(settings.timeout.max(MIN_USER_TIMEOUT) * 2);
    let access = Access {
        tls: matches!(info.addr(), ConnectionAddr::TcpTls { .. }),
        login: info.redis_settings().clone(),
        tcp,
        timeout: settings.timeout,
    };
    Ok((servers, access))
}

fn read_url(url: &str) -> Option<(Servers, ConnectionInfo)> {
    let (scheme, rest) = url.split_once("://")?;
    let (plain, kind) = match scheme.split_once('+') {
        None => {
            let info = info(url)?;
            return Some((Servers::Single(address(&info)?), info));
        }
        Some((plain @ ("redis" | "rediss"), kind @ ("sentinel" | "cluster"))) => (plain, kind),
        Some(_) => return None,
    };
    if rest.contains('#') {
        return None;
    }
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
    let (login, hosts) = authority.rsplit_once('@').unwrap_or(("", authority));
    let path = path.trim_end_matches('/');
    let (master, database) = path.split_once('/').unwrap_or((path, ""));
    // A cluster has one database only.
    if kind == "cluster" && !path.is_empty() {
        return None;
    }

    // Each host as if it were the only one, so that the parts mean what they mean there.
    let mut infos = Vec::new();
    for host in hosts.split(',') {
        let url = format!("{plain}://{login}@{host}/{database}?{query}");
        infos.push(info(&url)?);
    }
    let mut addresses = infos.iter().map(address).collect::<Option<Vec<_>>>()?;
    let servers = if kind == "cluster" {
        Servers::Cluster(addresses)
    } else {
        for (address, host) in addresses.iter_mut().zip(hosts.split(',')) {
            if !has_port(host) {
                address.port = SENTINEL_PORT;
            }
        }
        let name = percent_encoding::percent_decode_str(master).decode_utf8();
        let master = name.ok().filter(|name| !name.is_empty())?.into_owned();
        Servers::Sentinels { addresses, master }
    };
    Some((servers, infos.into_iter().next()?))
}

/// Dropped: the text of an error can quote the URL.
fn info(url: &str) -> Option<ConnectionInfo> {
    url.into_connection_info().ok()
}

fn address(info: &ConnectionInfo) -> Option<Address> {
    match info.addr() {
        ConnectionAddr::Tcp(host, port) | ConnectionAddr::TcpTls { host, port, .. } => {
            Some(Address {
                host: host.clone(),
                port: *port,
            })
        }
        _ => None,
    }
}

/// An IPv6 address is in brackets, and its colons are no ports.
fn has_port(host: &str) -> bool {
    host.rsplit(']')
        .next()
        .is_some_and(|rest| rest.contains(':'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(host: &str, port: u16) -> Address {
        Address {
            host: host.to_owned(),
            port,
        }
    }

    #[test]
    fn each_form_of_the_url_is_read() {
        let servers = |url| read_url(url).unwrap().0;
        assert_eq!(
            servers("redis://:secret@db/3"),
            Servers::Single(at("db", 6379))
        );
        assert_eq!(
            servers("rediss://[::1]:7000"),
            Servers::Single(at("::1", 7000))
        );
        assert_eq!(
            servers("redis+sentinel://a,b:1,[::1],[::2]:2/my%20master/3"),
            Servers::Sentinels {
                addresses: vec![at("a", 26_379), at("b", 1), at("::1", 26_379), at("::2", 2)],
                master: "my master".into()
            }
        );
        for url in [
            "redis+cluster://a,b:1",
            "redis+cluster://a,b:1/",
            "rediss+cluster://a,b:1?protocol=resp3",
        ] {
            let nodes = vec![at("a", 6379), at("b", 1)];
            assert_eq!(servers(url), Servers::Cluster(nodes), "{url}");
        }
    }

    #[test]
    fn user_password_and_database_are_those_of_the_servers() {
        for url in [
            "redis://me:a%2C%40b@db/3",
            "redis+sentinel://me:a%2C%40b@a,b/main/3",
            "redis+sentinel://me:a,%40b@a,b/main/3/?protocol=resp2",
        ] {
            let info = read_url(url).unwrap().1;
            assert_eq!(info.redis_settings().username(), Some("me"), "{url}");
            assert_eq!(info.redis_settings().password(), Some("a,@b"), "{url}");
            assert_eq!(info.redis_settings().db(), 3, "{url}");
            assert!(matches!(info.addr(), ConnectionAddr::Tcp(..)), "{url}");
        }
        for url in [
            "rediss://db",
            "rediss+sentinel://a/main",
            "rediss+cluster://a,b",
        ] {
            let info = read_url(url).unwrap().1;
            assert!(
                matches!(
                    info.addr(),
                    ConnectionAddr::TcpTls {
                        insecure: false,
                        ..
                    }
                ),
                "{url}"
            );
            assert_eq!(info.redis_settings().username(), None, "{url}");
            assert_eq!(info.redis_settings().password(), None, "{url}");
        }
    }

    #[test]
    fn what_is_no_such_url_is_refused() {
        for url in [
            "redis+sentinel://a",
            "redis+sentinel://a/",
            "redis+sentinel://a,/main",
            "redis+sentinel://a/main/x",
            "redis+sentinel:///main",
            "redis+cluster://a/1",
            "redis+cluster://",
            "redis+cluster://a?protocol=resp4",
            "redis+cluster://a#insecure",
            "rediss+sentinel://a/main#insecure",
            "redis+other://a",
            "http+cluster://a",
            "http://a",
            "redis:a",
        ] {
            assert!(read_url(url).is_none(), "{url}");
        }
    }
}
