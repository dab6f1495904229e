//! Stored hashes of every kind that is understood: argon2, which is made here, and what other programs left behind.
//!
//! A stored string is read and measured against [`Bounds`] first, so that a tampered row with a cost of gigabytes or years is
//! refused before any memory is touched. Hashes of other kinds than argon2 are of the bytes as sent, and are replaced at the
//! next login.

use std::fmt;

use argon2::Block;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::bcrypt::BcryptHash;
use super::pbkdf2::Pbkdf2Hash;
use super::phc::{Argon2Hash, Cost, MAX_STORED_LENGTH};
use super::scrypt::ScryptHash;

/// The cost that a stored argon2 hash may have beyond the current one: memory in KiB times passes. 1 GiB in four passes, the
/// most that libsodium suggests to anybody; about two seconds.
const MAX_WORK: u64 = 4 * 1024 * 1024;

/// The lanes that a stored hash may have beyond the current number. They are computed one after another here.
const MAX_LANES: u32 = 64;

/// The fewest bytes of output that count as a hash. Below this a wrong password might match by chance.
pub(super) const MIN_OUTPUT_LENGTH: usize = 16;

/// The most bytes of output of a hash from elsewhere.
const MAX_OUTPUT_LENGTH: usize = 64;

/// What a stored hash may cost at most. The bounds of bcrypt and PBKDF2, which need no memory to speak of, depend on no
/// setting and stand beside them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    memory_kib: u32,
    work: u64,
    lanes: u32,
}

impl Bounds {
    /// The current cost is always within the bounds; hashes from elsewhere may need up to `foreign_kib` KiB.
    pub fn new(current: Cost, foreign_kib: u32) -> Self {
        Self {
            memory_kib: foreign_kib.max(current.memory_kib()),
            work: MAX_WORK.max(current.work()),
            lanes: MAX_LANES.max(current.parallelism()),
        }
    }

    pub(super) fn allow(&self, cost: Cost) -> bool {
        cost.memory_kib() <= self.memory_kib
            && cost.work() <= self.work
            && cost.parallelism() <= self.lanes
    }

    /// In KiB.
    pub(super) fn memory_kib(&self) -> u64 {
        u64::from(self.memory_kib)
    }
}

/// Why a stored string can't be run against any password. It never holds the string.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// None of argon2, bcrypt, scrypt and PBKDF2.
    #[error("of an unknown kind")]
    UnknownKind,
    /// Not in a spelling of its kind, or without salt or output.
    #[error("malformed")]
    Malformed,
    /// It would need more memory, time or lanes than the bounds allow.
    #[error("beyond the bounds")]
    BeyondBounds,
}

/// A stored hash that can be run against a password.
#[derive(Clone)]
pub enum StoredHash {
    /// argon2id, argon2i and argon2d (RFC 9106).
    Argon2(Argon2Hash),
    /// bcrypt.
    Bcrypt(BcryptHash),
    /// scrypt (RFC 7914).
    Scrypt(ScryptHash),
    /// PBKDF2 (RFC 8018, 5.2) with HMAC-SHA-256 or HMAC-SHA-512.
    Pbkdf2(Pbkdf2Hash),
}

/// A hash could not be run: a bug.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    #[error(transparent)]
    Argon2(#[from] argon2::Error),
    #[error("the memory for the hash is too small")]
    Memory,
}

impl StoredHash {
    /// Reads a stored string, and measures what it would cost.
    ///
    /// # Errors
    /// It can't, or must not, be run.
    pub fn parse(stored: &str, bounds: &Bounds) -> Result<Self, Unusable> {
        let kind = match stored.strip_prefix('$') {
            Some(rest) => rest.split_once('$').map(|(kind, _)| kind),
            // Django's strings don't begin with one.
            None => stored.split_once('$').map(|_| stored),
        };
        let long = stored.len() > MAX_STORED_LENGTH;
        match kind.ok_or(Unusable::UnknownKind)? {
            "argon2id" | "argon2i" | "argon2d" => {
                Argon2Hash::parse(stored, bounds).map(Self::Argon2)
            }
            "2a" | "2b" | "2y" => BcryptHash::parse(stored).map(Self::Bcrypt),
            "scrypt" | "pbkdf2-sha256" | "pbkdf2-sha512" if long => Err(Unusable::Malformed),
            "scrypt" => ScryptHash::parse(stored, bounds).map(Self::Scrypt),
            "pbkdf2-sha256" | "pbkdf2-sha512" => Pbkdf2Hash::parse(stored).map(Self::Pbkdf2),
            text if text.starts_with("pbkdf2_sha256$") && !long => {
                Pbkdf2Hash::parse_django(text).map(Self::Pbkdf2)
            }
            text if text.starts_with("pbkdf2_sha256$") => Err(Unusable::Malformed),
            _ => Err(Unusable::UnknownKind),
        }
    }

    /// Whether it is what a new hash would be. Any other is replaced at the next login.
    pub fn is_current(&self, current: Cost) -> bool {
        matches!(self, Self::Argon2(hash) if hash.is_current(current))
    }

    /// Whether it may be of the prepared form of a password. Only argon2 hashes are made here; what is of another kind is of
    /// the bytes as sent.
    pub(crate) fn may_be_of_prepared(&self) -> bool {
        matches!(self, Self::Argon2(_))
    }

    /// The blocks of 1 KiB that a run touches.
    pub(crate) fn blocks(&self) -> usize {
        match self {
            Self::Argon2(hash) => hash.blocks(),
            Self::Scrypt(hash) => hash.blocks(),
            Self::Bcrypt(_) | Self::Pbkdf2(_) => 0,
        }
    }

    /// Runs the hash over `input`, in memory that has at least [`blocks`](Self::blocks), and compares in constant time.
    pub(crate) fn matches(&self, input: &[u8], memory: &mut [Block]) -> Result<bool, RunError> {
        match self {
            Self::Argon2(hash) => Ok(hash.matches(&hash.run(input, memory)?)),
            Self::Bcrypt(hash) => Ok(hash.matches(input)),
            Self::Scrypt(hash) => hash.matches(input, memory),
            Self::Pbkdf2(hash) => Ok(hash.matches(input)),
        }
    }
}

impl fmt::Debug for StoredHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("StoredHash([REDACTED])")
    }
}

/// A number without sign and leading zeros: only one spelling is right.
pub(super) fn number(text: &str) -> Result<u32, Unusable> {
    let number: u32 = text.parse().map_err(|_| Unusable::Malformed)?;
    if number.to_string() == text {
        Ok(number)
    } else {
        Err(Unusable::Malformed)
    }
}

/// The values of exactly these parameters, in this order: `NAME=NUMBER,NAME=NUMBER`.
pub(super) fn numbers<const N: usize>(text: &str, names: [&str; N]) -> Result<[u32; N], Unusable> {
    let mut numbers = [0; N];
    let mut given = text.split(',');
    for (value, name) in numbers.iter_mut().zip(names) {
        let parameter = given.next().and_then(|given| given.split_once('='));
        *value = match parameter {
            Some((given, value)) if given == name => number(value)?,
            _ => return Err(Unusable::Malformed),
        };
    }
    match given.next() {
        None => Ok(numbers),
        Some(_) => Err(Unusable::Malformed),
    }
}

/// Bytes in base64 without padding, as the PHC string format has them.
pub(super) fn base64(text: &str) -> Result<Vec<u8>, Unusable> {
    let bytes = STANDARD_NO_PAD.decode(text);
    bytes.map_err(|_| Unusable::Malformed)
}

/// Salt and output, if they can be those of a hash.
pub(super) fn salted(salt: Vec<u8>, output: Vec<u8>) -> Result<(Vec<u8>, Vec<u8>), Unusable> {
    let right = !salt.is_empty() && (MIN_OUTPUT_LENGTH..=MAX_OUTPUT_LENGTH).contains(&output.len());
    if right {
        Ok((salt, output))
    } else {
        Err(Unusable::Malformed)
    }
}

#[cfg(test)]
mod tests;
