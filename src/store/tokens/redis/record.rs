//! How a session is written into the hash of its user: a text of lines, which people can read and the scripts take apart.
//!
//! ```text
//! 1               alive; x: it is being ended
//! 1790000040      last seen: seconds since 1970, a whole minute
//! 1790000012345   created: milliseconds since 1970
//! 1790086412345   ends at the latest
//! clv_...         the key of the token, as it was then: with its prefix
//! 192.0.2.1       the client's address, or nothing
//! alice           the username
//! curl/8.5.0      the user agent, or nothing
//! ```

use chrono::{DateTime, Utc};

use crate::store::tokens::session::{Device, Session, SessionId};

/// The lines that do not depend on the server's clock.
pub(super) fn tail(key: &str, username: &str, device: &Device) -> String {
    let address = device.address().map(|address| address.to_string());
    let address = address.unwrap_or_default();
    let lines = [key, &address, username, device.user_agent()];
    lines.join("\n")
}

/// A record as it was read.
pub(super) struct Record {
    /// The key of the token.
    pub(super) key: String,
    /// The session, which may be being ended.
    pub(super) session: Session,
}

/// Reads a record; `None` for what is none.
pub(super) fn read(user_id: i64, name: &str, text: &str) -> Option<Record> {
    let mut lines = text.splitn(8, '\n');
    let mut line = || lines.next();
    if !matches!(line()?, "1" | "x") {
        return None;
    }
    let last_seen_at = DateTime::from_timestamp_secs(line()?.parse().ok()?)?;
    let created_at = DateTime::from_timestamp_millis(line()?.parse().ok()?)?;
    let expires_at: DateTime<Utc> = DateTime::from_timestamp_millis(line()?.parse().ok()?)?;
    let key = line()?.to_owned();
    let address = line()?;
    let username = line()?.to_owned();
    let device = Device::new(address.parse().ok(), line()?);
    let session = Session {
        id: SessionId::named(user_id, name),
        username,
        created_at,
        expires_at,
        last_seen_at,
        device,
    };
    Some(Record { key, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_it_is_written() {
        let device = Device::new("2001:db8::1".parse().ok(), "a browser");
        let written = tail("clv_x", "alice", &device);
        let text = format!("1\n1790000040\n1790000012345\n1790086412345\n{written}");
        let record = read(7, "name", &text).unwrap();
        assert_eq!(record.key, "clv_x");
        let session = record.session;
        assert_eq!(session.device, device);
        assert_eq!(session.username, "alice");
        assert_eq!(session.created_at.timestamp_millis(), 1_790_000_012_345);
        assert_eq!(session.expires_at.timestamp_millis(), 1_790_086_412_345);
        assert_eq!(session.last_seen_at.timestamp(), 1_790_000_040);

        let marked = read(7, "name", &text.replacen('1', "x", 1)).unwrap();
        assert_eq!(marked.key, "clv_x");
        assert_eq!(marked.session, session);
    }

    #[test]
    fn what_is_unknown_stays_unknown() {
        let text = format!("1\n0\n0\n0\n{}", tail("k", "alice", &Device::default()));
        let session = read(7, "name", &text).unwrap().session;
        assert_eq!(session.device, Device::default());
    }

    #[test]
    fn what_is_no_record_is_left_alone() {
        for text in [
            "",
            "1",
            "2\n0\n0\n0\nk\n\na\n",
            "1\nx\n0\n0\nk\n\na\n",
            "17",
        ] {
            assert!(read(7, "name", text).is_none(), "{text:?}");
        }
    }
}
