//! Who is at the other end, seen through the proxies that are trusted.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::header::USER_AGENT;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue};
use ipnet::IpNet;

use crate::api::AppState;
use crate::store::tokens::Device;

/// What a session remembers of the client that logged in.
#[derive(Debug)]
pub struct Client(pub Device);

impl FromRequestParts<AppState> for Client {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Infallible> {
        let trusted = &state.config().server.trusted_proxies;
        let address = ClientAddress::of(&parts.extensions, &parts.headers, trusted);
        let user_agent = parts.headers.get(USER_AGENT).map(HeaderValue::as_bytes);
        let user_agent = String::from_utf8_lossy(user_agent.unwrap_or_default());
        let address = address.map(|client| client.address);
        Ok(Self(Device::new(address, &user_agent)))
    }
}

/// The address of the client.
///
/// `X-Forwarded-For` is believed only from a trusted proxy, and read from right to left: each trusted proxy vouches for
/// the hop before it, so the first hop that is not one of them is the client. All to the left of it the client may have
/// made up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddress {
    /// The address, an IPv4-mapped one folded to IPv4.
    pub address: IpAddr,
    /// `X-Forwarded-For` came from a peer that is not trusted, and was ignored.
    pub ignored_header: bool,
}

impl ClientAddress {
    /// The client of a request; `None` when the connection has no address, as in a test without a socket.
    pub fn of(extensions: &Extensions, headers: &HeaderMap, trusted: &[IpNet]) -> Option<Self> {
        let ConnectInfo(peer) = extensions.get::<ConnectInfo<SocketAddr>>()?;
        Some(Self::resolve(peer.ip(), headers, trusted))
    }

    fn resolve(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNet]) -> Self {
        let is_trusted = |address: &IpAddr| trusted.iter().any(|network| network.contains(address));
        let mut address = peer.to_canonical();
        let forwarded = headers.get_all("x-forwarded-for");
        if !is_trusted(&address) {
            return Self {
                address,
                ignored_header: forwarded.iter().next().is_some(),
            };
        }
        // Several headers are one list (RFC 9110, section 5.3).
        let mut hops: Vec<&str> = Vec::new();
        for header in forwarded {
            match header.to_str() {
                Ok(value) => hops.extend(value.split(',')),
                // A hop that is no text is a hop that is no address.
                Err(_) => hops.push(""),
            }
        }
        for hop in hops.into_iter().rev() {
            // A hop that is no address stops the walk at the last good one.
            let Some(hop) = parse_hop(hop.trim()) else {
                break;
            };
            address = hop;
            if !is_trusted(&address) {
                break;
            }
        }
        Self {
            address,
            ignored_header: false,
        }
    }
}

/// An address with or without a port, as proxies write it: `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]:80`.
fn parse_hop(hop: &str) -> Option<IpAddr> {
    let bare = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(hop);
    let address = bare
        .parse()
        .ok()
        .or_else(|| hop.parse().ok().map(|socket: SocketAddr| socket.ip()))?;
    Some(IpAddr::to_canonical(&address))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(peer: &str, headers: &[&str], trusted: &[&str]) -> String {
        let mut map = HeaderMap::new();
        for value in headers {
            map.append(
                "x-forwarded-for",
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            );
        }
        let trusted: Vec<IpNet> = trusted
            .iter()
            .map(|network| network.parse().unwrap())
            .collect();
        let client = ClientAddress::resolve(peer.parse().unwrap(), &map, &trusted);
        format!(
            "{}{}",
            client.address,
            if client.ignored_header {
                " ignored"
            } else {
                ""
            }
        )
    }

    #[test]
    fn the_peer_counts_without_trust() {
        assert_eq!(resolve("192.0.2.1", &[], &[]), "192.0.2.1");
        assert_eq!(
            resolve("192.0.2.1", &["198.51.100.7"], &[]),
            "192.0.2.1 ignored"
        );
        assert_eq!(
            resolve("192.0.2.1", &["198.51.100.7"], &["10.0.0.0/8"]),
            "192.0.2.1 ignored"
        );
    }

    #[test]
    fn the_right_most_untrusted_hop_counts() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        assert_eq!(
            resolve("10.0.0.1", &["198.51.100.7"], &trusted),
            "198.51.100.7"
        );
        assert_eq!(
            resolve("10.0.0.1", &["6.6.6.6, 198.51.100.7"], &trusted),
            "198.51.100.7"
        );
        assert_eq!(
            resolve("10.0.0.1", &["6.6.6.6, 198.51.100.7, 10.0.0.9"], &trusted),
            "198.51.100.7"
        );
        assert_eq!(
            resolve(
                "10.0.0.1",
                &["6.6.6.6", "198.51.100.7", "fd00::1"],
                &trusted
            ),
            "198.51.100.7"
        );
        assert_eq!(
            resolve("10.0.0.1", &["10.0.0.2,10.0.0.3"], &trusted),
            "10.0.0.2"
        );
        assert_eq!(resolve("10.0.0.1", &[], &trusted), "10.0.0.1");
    }

    #[test]
    fn a_hop_that_is_no_address_stops_the_walk() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(
            resolve("10.0.0.1", &["198.51.100.7, junk"], &trusted),
            "10.0.0.1"
        );
        assert_eq!(
            resolve("10.0.0.1", &["198.51.100.7, junk, 10.0.0.2"], &trusted),
            "10.0.0.2"
        );
        assert_eq!(resolve("10.0.0.1", &[""], &trusted), "10.0.0.1");
        assert_eq!(
            resolve("10.0.0.1", &["198.51.100.7, \u{e4}"], &trusted),
            "10.0.0.1"
        );
    }

    #[test]
    fn addresses_are_read_as_proxies_write_them() {
        let trusted = ["10.0.0.0/8"];
        assert_eq!(
            resolve("::ffff:10.0.0.1", &["::ffff:192.0.2.4"], &trusted),
            "192.0.2.4"
        );
        assert_eq!(
            resolve("10.0.0.1", &["192.0.2.4:5000"], &trusted),
            "192.0.2.4"
        );
        assert_eq!(
            resolve("10.0.0.1", &["[2001:DB8::1]:80"], &trusted),
            "2001:db8::1"
        );
        assert_eq!(
            resolve("10.0.0.1", &["[2001:db8::1]"], &trusted),
            "2001:db8::1"
        );
        assert_eq!(
            resolve("10.0.0.1", &["2001:0db8:0::0001"], &trusted),
            "2001:db8::1"
        );
    }
}
