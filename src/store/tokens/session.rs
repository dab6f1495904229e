//! Sessions: what is known of a token beside whom it stands for.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use sha2::{Digest as _, Sha256};

/// Characters of the second part of a [`SessionId`].
const NAME_LENGTH: usize = 22;

/// Bytes of the hash that it is made of.
const NAME_BYTES: usize = 16;

/// The most characters of a user agent that are kept.
const USER_AGENT_LENGTH: usize = 256;

/// Names a session: the id of its user, a dot, and 22 characters of base64url that come from a hash of the token.
///
/// It is no secret. The token can't be found from it, nor the hash of the token that may be its key in Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionId {
    user_id: i64,
    name: String,
}

/// The text names no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a session id is the id of a user, a dot and {NAME_LENGTH} characters")]
pub struct InvalidSessionId;

impl SessionId {
    /// The session of this user's `token`.
    pub fn of(user_id: i64, token: &str) -> Self {
        // Another hash than that of `tokens.key = "sha256"`, so that the id does not tell the key either.
        let hash = Sha256::new()
            .chain_update(b"claviger session\0")
            .chain_update(token)
            .finalize();
        let (start, _) = hash.split_at(NAME_BYTES);
        Self {
            user_id,
            name: URL_SAFE_NO_PAD.encode(start),
        }
    }

    pub(super) fn named(user_id: i64, name: &str) -> Self {
        Self {
            user_id,
            name: name.to_owned(),
        }
    }

    /// Whose session it is.
    pub fn user_id(&self) -> i64 {
        self.user_id
    }

    /// What tells it from the other sessions of the user.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.user_id, self.name)
    }
}

impl FromStr for SessionId {
    type Err = InvalidSessionId;

    /// Takes exactly what [`Display`](fmt::Display) writes, so that a session has one id.
    fn from_str(text: &str) -> Result<Self, InvalidSessionId> {
        let (user_id, name) = text.split_once('.').ok_or(InvalidSessionId)?;
        let id: i64 = user_id.parse().map_err(|_| InvalidSessionId)?;
        let is_plain = id > 0 && id.to_string() == user_id;
        let decoded = URL_SAFE_NO_PAD.decode(name).map_err(|_| InvalidSessionId)?;
        if is_plain && decoded.len() == NAME_BYTES {
            Ok(Self::named(id, name))
        } else {
            Err(InvalidSessionId)
        }
    }
}

/// What was seen of the client that logged in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device {
    address: Option<IpAddr>,
    user_agent: String,
}

impl Device {
    /// Cuts the user agent to 256 characters and leaves out control characters: it is shown to people.
    pub fn new(address: Option<IpAddr>, user_agent: &str) -> Self {
        let shown = user_agent
            .chars()
            .filter(|character| !character.is_control());
        Self {
            address,
            user_agent: shown.take(USER_AGENT_LENGTH).collect(),
        }
    }

    /// Where the client was.
    pub fn address(&self) -> Option<IpAddr> {
        self.address
    }

    /// What the client said that it is; empty if it said nothing.
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }
}

/// A living session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Names it.
    pub id: SessionId,
    /// The name at log-in, in the form in which names are compared.
    pub username: String,
    /// When the log-in was.
    pub created_at: DateTime<Utc>,
    /// When it ends at the latest.
    pub expires_at: DateTime<Utc>,
    /// When the token was last checked, to the minute.
    pub last_seen_at: DateTime<Utc>,
    /// Who logged in.
    pub device: Device,
}

/// A state of a user's sessions as a whole: a log-in reads it before it looks at the password, and its session comes about only
/// if it is still the same then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation(pub(super) String);

/// What came of issuing a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Issued {
    /// The session came about. It may be over already, if newer ones took its place.
    Done,
    /// All sessions of the user were ended since the generation was read: nothing is left of the token.
    Lost,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written() {
        let id = SessionId::of(7, "clv_a");
        assert_eq!(id.to_string().parse(), Ok(id.clone()));
        assert_eq!(id.name().len(), NAME_LENGTH);
        assert_ne!(id, SessionId::of(7, "clv_b"));
        assert_eq!(id.name(), SessionId::of(8, "clv_a").name());
    }

    #[test]
    fn there_is_one_way_to_write_an_id() {
        let name = "AAAAAAAAAAAAAAAAAAAAAA";
        assert!(format!("7.{name}").parse::<SessionId>().is_ok());
        for text in [
            format!("07.{name}"),
            format!("+7.{name}"),
            format!("-7.{name}"),
            format!("0.{name}"),
            format!(".{name}"),
            format!("7{name}"),
            format!("7.{name}="),
            format!("7.{name}A"),
            // The last character carries two bits only.
            "7.AAAAAAAAAAAAAAAAAAAAAB".to_owned(),
            "7.".to_owned(),
            String::new(),
            format!("99999999999999999999.{name}"),
        ] {
            assert_eq!(text.parse::<SessionId>(), Err(InvalidSessionId), "{text}");
        }
    }

    #[test]
    fn an_id_holds_neither_the_token_nor_its_plain_hash() {
        let token = "clv_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA000000";
        let plain = URL_SAFE_NO_PAD.encode(Sha256::digest(token));
        let id = SessionId::of(7, token);
        assert!(!plain.contains(id.name()));
        assert!(!token.contains(id.name()));
    }

    #[test]
    fn a_user_agent_is_cut_by_characters_and_holds_no_line_end() {
        let device = Device::new(None, &format!("a\n\u{7f}{}", "\u{e4}".repeat(300)));
        assert_eq!(device.user_agent().chars().count(), 256);
        assert!(device.user_agent().starts_with("a\u{e4}"));
    }
}
