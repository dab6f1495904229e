//! The slots of a cluster: which of them a key is in, and which server has it.

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::{FromRedisValue as _, RedisResult, Value};

use super::failure::{Failure, unexpected};
use super::node::Node;
use super::place::Address;
use super::topology::most;

/// How many there are.
pub(super) const SLOTS: u16 = 16_384;

/// Slots that follow each other, and the master that has them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: u16,
    pub(super) last: u16,
    pub(super) address: Address,
}

/// What a server knows of the cluster.
struct View {
    epoch: u64,
    ranges: Vec<Range>,
}

/// The slot of `key`: what stands in its first braces, if that is something, decides alone (Redis Cluster specification).
pub(super) fn of(key: &[u8]) -> u16 {
    let position = |bytes: &[u8], wanted| bytes.iter().position(|byte| *byte == wanted);
    let tag = position(key, b'{')
        .and_then(|open| key.get(open + 1..))
        .and_then(|rest| rest.get(..position(rest, b'}')?))
        .filter(|tag| !tag.is_empty());
    crc16::State::<crc16::XMODEM>::calculate(tag.unwrap_or(key)) % SLOTS
}

/// A key whose slot is from `first` to `last`, and whose name begins with `name`.
pub(super) fn key_between(name: &str, first: u16, last: u16) -> String {
    let mut keys = (0_u32..).map(|number| format!("{name}:{number}"));
    let fits = |key: &String| (first..=last).contains(&of(key.as_bytes()));
    // Among so many numbers, each slot comes up.
    keys.find(fits).unwrap_or_default()
}

/// Asks which server has which slots. A server that was cut off from most of the others says so, and is not believed; of the
/// others the one that has heard of the latest change is.
pub(super) async fn ask(nodes: &[Arc<Node>], patience: Duration) -> RedisResult<Vec<Range>> {
    let mut asked = Vec::new();
    for node in nodes {
        asked.push(view(node).boxed());
    }
    let (views, error) = most(asked, patience).await;
    let latest = views.into_iter().max_by_key(|view| view.epoch);
    match (latest, error) {
        (Some(view), _) => Ok(view.ranges),
        (None, Some(error)) => match Failure::of(&error) {
            refused @ Failure::Refused(_) => Err(refused.into()),
            other => Err(Failure::NoNode(other.to_string()).into()),
        },
        (None, None) => Err(Failure::Uncovered.into()),
    }
}

async fn view(node: &Node) -> RedisResult<View> {
    let mut commands = redis::pipe();
    commands.cmd("CLUSTER").arg("INFO");
    commands.cmd("CLUSTER").arg("SLOTS");
    let answers = node.share(&commands).await?;
    let mut answers = answers.into_iter();
    let (Some(info), Some(slots)) = (answers.next(), answers.next()) else {
        return Err(unexpected("an answer is missing"));
    };
    let info = String::from_redis_value(info.extract_error()?)?;
    let field = |name: &str| {
        info.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    if field("cluster_state") != Some("ok") {
        return Err(Failure::Refused("CLUSTERDOWN".to_owned()).into());
    }
    let epoch = field("cluster_current_epoch").and_then(|epoch| epoch.parse().ok());
    Ok(View {
        epoch: epoch.unwrap_or_default(),
        ranges: ranges(slots.extract_error()?, node.address()),
    })
}

/// The answer to `CLUSTER SLOTS` of the server at `asked`. What can't be read is left out: the slots then have no server.
fn ranges(slots: Value, asked: &Address) -> Vec<Range> {
    let Value::Array(slots) = slots else {
        return Vec::new();
    };
    let mut ranges: Vec<Range> = slots
        .iter()
        .filter_map(|entry| {
            let Value::Array(entry) = entry else {
                return None;
            };
            let (Value::Int(first), Value::Int(last), Value::Array(master)) =
                (entry.first()?, entry.get(1)?, entry.get(2)?)
            else {
                return None;
            };
            let host = match master.first()? {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                _ => "",
            };
            let Value::Int(port) = master.get(1)? else {
                return None;
            };
            let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
            Some(Range {
                first,
                last,
                address: address(host, u16::try_from(*port).ok()?, asked)?,
            })
            .filter(|range| range.first <= range.last && range.last < SLOTS)
        })
        .collect();
    ranges.sort_by_key(|range| range.first);
    ranges
}

/// Where the server at `asked` says that another is.
pub(super) fn address(host: &str, port: u16, asked: &Address) -> Option<Address> {
    let host = match host {
        // It does not know its own name.
        "" => asked.host.clone(),
        // It does not know the other's.
        "?" => return None,
        host => host.to_owned(),
    };
    Some(Address { host, port })
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

    /// The examples of the specification, and what redis-server 7.0 says to `CLUSTER KEYSLOT`.
    #[test]
    fn the_slot_is_that_of_the_specification() {
        assert_eq!(of(b"123456789"), 0x31C3);
        assert_eq!(of(b"foo"), 12_182);
        assert_eq!(of(b"{user1000}.following"), of(b"{user1000}.followers"));
        assert_eq!(of(b"{user1000}.following"), of(b"user1000"));
        assert_eq!(of(b"foo{}{bar}"), 8_363);
        assert_eq!(of(b"foo{{bar}}zap"), of(b"{bar"));
        assert_eq!(of(b"foo{bar}{zap}"), of(b"bar"));
        assert_eq!(of(b"foo{bar"), crc16_of(b"foo{bar"));
    }

    fn crc16_of(key: &[u8]) -> u16 {
        crc16::State::<crc16::XMODEM>::calculate(key) % SLOTS
    }

    #[test]
    fn a_key_is_found_for_each_slot() {
        for slot in [0, 1, 8_000, SLOTS - 1] {
            let key = key_between("claviger:probe", slot, slot);
            assert!(key.starts_with("claviger:probe:"), "{key}");
            assert_eq!(of(key.as_bytes()), slot);
        }
    }

    #[test]
    fn the_servers_of_the_slots_are_read() {
        let entry = |first, last, host: Value, port| {
            let node = Value::Array(vec![host, Value::Int(port), Value::Nil]);
            let replica = Value::Array(vec![Value::Nil, Value::Int(1)]);
            Value::Array(vec![Value::Int(first), Value::Int(last), node, replica])
        };
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let slots = Value::Array(vec![
            entry(100, 16_383, text("other"), 2),
            entry(0, 9, text(""), 1),
            entry(10, 19, Value::Nil, 3),
            entry(20, 29, text("?"), 4),
            entry(30, 70_000, text("no slots"), 5),
            Value::Okay,
        ]);
        let range = |first, last, address| Range {
            first,
            last,
            address,
        };
        assert_eq!(
            ranges(slots, &at("me", 9)),
            [
                range(0, 9, at("me", 1)),
                range(10, 19, at("me", 3)),
                range(100, 16_383, at("other", 2))
            ]
        );
    }
}
