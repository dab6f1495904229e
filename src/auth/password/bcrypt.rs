//! bcrypt: `$2b$10$SALT-AND-OUTPUT`, and `$2a$` and `$2y$`, which mean the same in all that wrote UTF-8. `$2x$` marks the
//! hashes of a bug of 2011, and is not understood.

use base64::Engine as _;
use base64::alphabet::BCRYPT;
use base64::engine::{GeneralPurpose, GeneralPurposeConfig};
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::stored::{Unusable, number};

/// What is hashed of a password, in bytes. The rest is not looked at, as in the originals.
const LONGEST_KEY: usize = 72;

/// Each step doubles the time. About two seconds.
const MAX_COST: u32 = 15;

/// Kept by some that made the salt out of any 22 characters: the last bits of the last character say nothing.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &BCRYPT,
    GeneralPurposeConfig::new()
        .with_encode_padding(false)
        .with_decode_padding_mode(base64::engine::DecodePaddingMode::RequireNone)
        .with_decode_allow_trailing_bits(true),
);

/// A bcrypt hash.
#[derive(Clone)]
pub struct BcryptHash {
    cost: u32,
    salt: [u8; 16],
    output: [u8; 23],
}

impl BcryptHash {
    /// Of a string whose kind was recognised.
    pub(super) fn parse(stored: &str) -> Result<Self, Unusable> {
        let parts: Vec<&str> = stored.splitn(5, '$').collect();
        let &["", _, cost, rest] = parts.as_slice() else {
            return Err(Unusable::Malformed);
        };
        // Always two digits: 04 to 31.
        let cost = match cost.strip_prefix('0') {
            Some(cost) if cost.len() == 1 => number(cost)?,
            None if cost.len() == 2 => number(cost)?,
            _ => return Err(Unusable::Malformed),
        };
        let (salt, output) = rest.split_at_checked(22).ok_or(Unusable::Malformed)?;
        let decode = |text: &str| BASE64.decode(text).map_err(|_| Unusable::Malformed);
        let salt = decode(salt)?.try_into().map_err(|_| Unusable::Malformed)?;
        let output = decode(output)?.try_into();
        let output = output.map_err(|_| Unusable::Malformed)?;
        match cost {
            4..=MAX_COST => Ok(Self { cost, salt, output }),
            16..=31 => Err(Unusable::BeyondBounds),
            _ => Err(Unusable::Malformed),
        }
    }

    /// Runs bcrypt over `input` and compares in constant time.
    pub(super) fn matches(&self, input: &[u8]) -> bool {
        // The password, the NUL that ends it in C, and cut where bcrypt stops to look.
        let mut key = Zeroizing::new(input.to_vec());
        key.push(0);
        key.truncate(LONGEST_KEY);
        let output = Zeroizing::new(::bcrypt::bcrypt(self.cost, self.salt, &key));
        // The originals leave the last byte out.
        output
            .get(..self.output.len())
            .is_some_and(|output| output.ct_eq(&self.output).into())
    }
}
