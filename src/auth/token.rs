//! The token: the secret string that a login is answered with.
//!
//! `clv_`, then 32 bytes from the operating system as base64url without padding (43 characters), then the CRC-32 of these
//! 47 characters as six digits of base 62. The checksum keeps no secret and proves nothing; it lets secret scanners, and
//! the service itself, refuse a mistyped or made-up token without asking a store.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::{Zeroize as _, Zeroizing};

/// What every token looks like, as a regular expression. Anchor it at both ends.
pub const PATTERN: &str = "clv_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}";

/// Length of a token in bytes, which are ASCII characters.
pub const LENGTH: usize = PREFIX.len() + BODY_LENGTH + CHECKSUM_LENGTH;

const PREFIX: &str = "clv_";
const RANDOM_LENGTH: usize = 32;
const BODY_LENGTH: usize = 43;
const CHECKSUM_LENGTH: usize = 6;

const BASE62: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// The characters that may end the body. 43 characters carry 258 bits; the last two are no part of the 256 and are zero.
/// Without this check four spellings would decode to the same bytes, and only one of them was ever issued.
const LAST_OF_BODY: &[u8] = b"AEIMQUYcgkosw048";

/// A well-formed token. Whether it is alive only the token store knows.
///
/// It can't be compared: the store looks it up, and nothing else has to know whether two of them are equal.
#[derive(Clone)]
pub struct Token([u8; LENGTH]);

/// The string isn't a token: of the wrong length, prefix or alphabet, or mistyped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed token")]
pub struct InvalidToken;

impl Token {
    /// A new token with 256 bits from the operating system's random source.
    ///
    /// # Panics
    ///
    /// If the operating system has no randomness to give. No token can be made then, and one made otherwise would be
    /// guessable. Linux never fails here once it has started.
    #[expect(
        clippy::expect_used,
        reason = "without randomness there is no safe answer; see Panics"
    )]
    pub fn generate() -> Self {
        let mut random = Zeroizing::new([0; RANDOM_LENGTH]);
        getrandom::fill(&mut *random).expect("the operating system gives random bytes");
        Self::from_random(&random)
    }

    #[expect(
        clippy::expect_used,
        reason = "the lengths are constants, and the tests take this path"
    )]
    fn from_random(random: &[u8; RANDOM_LENGTH]) -> Self {
        let mut text = [0; LENGTH];
        let (head, tail) = text.split_at_mut(PREFIX.len());
        head.copy_from_slice(PREFIX.as_bytes());
        let (body, _) = tail.split_at_mut(BODY_LENGTH);
        URL_SAFE_NO_PAD
            .encode_slice(random, body)
            .expect("32 bytes are 43 characters");
        let (covered, digits) = text.split_at_mut(PREFIX.len() + BODY_LENGTH);
        digits.copy_from_slice(&checksum(covered));
        Self(text)
    }

    /// Checks length, prefix, alphabet and checksum. It asks no store and takes constant memory whatever it is given.
    pub fn parse(text: &str) -> Result<Self, InvalidToken> {
        let bytes: [u8; LENGTH] = text.as_bytes().try_into().map_err(|_| InvalidToken)?;
        // From here on the copy is wiped on every way out.
        let token = Self(bytes);
        let (covered, digits) = token.0.split_at(PREFIX.len() + BODY_LENGTH);
        let body = covered
            .strip_prefix(PREFIX.as_bytes())
            .ok_or(InvalidToken)?;
        let in_alphabet = body
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
        let canonical = body.last().is_some_and(|last| LAST_OF_BODY.contains(last));
        if in_alphabet && canonical && digits == checksum(covered) {
            Ok(token)
        } else {
            Err(InvalidToken)
        }
    }

    /// The token as the client sends it. Only the answer to a login and the token store may see it.
    ///
    /// # Panics
    ///
    /// Never.
    #[expect(
        clippy::expect_used,
        reason = "both constructors let ASCII only through"
    )]
    pub fn expose(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a token is ASCII")
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Token([REDACTED])")
    }
}

/// CRC-32 (IEEE 802.3, as in zlib) in base 62, most significant digit first, leading zeros kept.
fn checksum(covered: &[u8]) -> [u8; CHECKSUM_LENGTH] {
    let mut rest = crc32fast::hash(covered) as usize;
    let mut digits = [b'0'; CHECKSUM_LENGTH];
    for digit in digits.iter_mut().rev() {
        if let Some(character) = BASE62.get(rest % BASE62.len()) {
            *digit = *character;
        }
        rest /= BASE62.len();
    }
    digits
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    /// Made with Python 3: `zlib.crc32(b"clv_" + base64.urlsafe_b64encode(raw).rstrip(b"="))` in base 62.
    const KNOWN: [([u8; 32], &str); 4] = [
        (
            [0; 32],
            "clv_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0TsytA",
        ),
        (
            COUNTING,
            "clv_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh84ZeYhX",
        ),
        (
            [0xff; 32],
            "clv___________________________________________802wp4x",
        ),
        // Two leading zeros in the checksum.
        (
            FIVE,
            "clv_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAU00bUW1",
        ),
    ];
    const COUNTING: [u8; 32] = {
        let mut bytes = [0; 32];
        let mut i = 0;
        while i < 32 {
            bytes[i as usize] = i;
            i += 1;
        }
        bytes
    };
    const FIVE: [u8; 32] = {
        let mut bytes = [0; 32];
        bytes[31] = 5;
        bytes
    };

    /// The pattern, by hand: there is no regular expression engine among the dependencies.
    fn matches_pattern(text: &str) -> bool {
        let word = |c: char| c.is_ascii_alphanumeric();
        text.len() == LENGTH
            && text.starts_with("clv_")
            && text
                .chars()
                .skip(4)
                .take(43)
                .all(|c| word(c) || c == '_' || c == '-')
            && text.chars().skip(47).all(word)
    }

    #[test]
    fn known_tokens() {
        for (random, text) in KNOWN {
            assert_eq!(Token::from_random(&random).expose(), text);
            assert_eq!(Token::parse(text).unwrap().expose(), text);
        }
    }

    #[test]
    fn no_repeat_in_a_hundred_thousand() {
        let tokens: HashSet<String> = (0..100_000)
            .map(|_| Token::generate().expose().to_owned())
            .collect();
        assert_eq!(tokens.len(), 100_000);
        assert!(tokens.iter().all(|token| matches_pattern(token)));
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", Token::from_random(&[0; 32])),
            "Token([REDACTED])"
        );
    }

    #[test]
    fn another_spelling_of_the_same_bytes_is_refused() {
        let (_, known) = KNOWN[0];
        // `B` differs from `A` only in the two bits that are dropped. The checksum is made to fit.
        let mut covered = known[..46].to_owned();
        covered.push('B');
        let digits = checksum(covered.as_bytes());
        let text = format!("{covered}{}", std::str::from_utf8(&digits).unwrap());
        assert!(matches_pattern(&text));
        assert_eq!(Token::parse(&text).unwrap_err(), InvalidToken);
    }

    #[test]
    fn foreign_shapes_are_refused() {
        let (_, known) = KNOWN[1];
        let long = format!("{known}A");
        let spaced = format!(" {known}");
        let lowered = known.to_lowercase();
        let many = "a".repeat(1 << 20);
        for text in [
            "",
            "clv_",
            &known[1..],
            &known[..52],
            &long,
            &spaced,
            &lowered,
            &many,
        ] {
            assert_eq!(Token::parse(text).unwrap_err(), InvalidToken);
        }
        // 53 bytes, but the cut between body and checksum falls into a character.
        let multibyte = format!("clv_{}é{}", "A".repeat(42), "A".repeat(5));
        assert_eq!(multibyte.len(), LENGTH);
        assert_eq!(Token::parse(&multibyte).unwrap_err(), InvalidToken);
    }

    proptest! {
        #[test]
        fn what_is_made_can_be_read(random: [u8; 32]) {
            let token = Token::from_random(&random);
            prop_assert!(matches_pattern(token.expose()));
            let read = Token::parse(token.expose()).unwrap();
            prop_assert_eq!(read.expose(), token.expose());
            prop_assert_eq!(URL_SAFE_NO_PAD.decode(&token.expose()[4..47]).unwrap(), random);
        }

        #[test]
        fn one_wrong_character_is_refused(random: [u8; 32], place in 0..LENGTH, wrong in "[ -~]") {
            let token = Token::from_random(&random);
            let mut text = token.expose().to_owned();
            prop_assume!(text[place..=place] != wrong);
            text.replace_range(place..=place, &wrong);
            prop_assert_eq!(Token::parse(&text).unwrap_err(), InvalidToken);
        }

        #[test]
        fn two_characters_in_the_wrong_order_are_refused(random: [u8; 32], place in 0..LENGTH - 1) {
            let token = Token::from_random(&random);
            let mut bytes = token.expose().as_bytes().to_vec();
            prop_assume!(bytes[place] != bytes[place + 1]);
            bytes.swap(place, place + 1);
            prop_assert!(Token::parse(std::str::from_utf8(&bytes).unwrap()).is_err());
        }

        #[test]
        fn any_string_is_judged_by_its_form(text in ".*") {
            prop_assert!(matches_pattern(&text) || Token::parse(&text).is_err());
        }

        #[test]
        fn any_string_of_the_right_length_is_judged_by_its_form(text in "\\PC{13,53}") {
            let text: String = text.chars().scan(0, |length, c| {
                *length += c.len_utf8();
                (*length <= LENGTH).then_some(c)
            }).collect();
            let text = format!("{text}{}", "A".repeat(LENGTH - text.len()));
            prop_assert!(matches_pattern(&text) || Token::parse(&text).is_err());
        }
    }
}
