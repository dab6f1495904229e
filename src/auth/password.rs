//! Passwords: what is accepted as one. The rule for new ones is in [`policy`], the stored hashes are read in [`stored`].

mod bcrypt;
mod common_passwords;
mod pbkdf2;
pub mod phc;
mod policy;
mod scrypt;
pub mod stored;

use std::borrow::Cow;
use std::fmt;

use precis_profiles::OpaqueString;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;
use secrecy::{ExposeSecret as _, SecretString};

pub use self::policy::{Policy, PolicyError};

/// The longest password, in bytes of UTF-8 as sent.
pub const MAX_BYTES: usize = 1024;

/// A password as somebody typed it, in two forms. Both are wiped from memory when it is dropped.
#[derive(Clone)]
pub struct Password {
    sent: SecretString,
    /// `None` where the profile changed nothing, which is nearly always.
    prepared: Option<SecretString>,
}

/// Why a password can't be one. It never holds the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PasswordError {
    /// Nothing was typed.
    #[error("must not be empty")]
    Empty,
    /// More than 1024 bytes as sent.
    #[error("must have at most {MAX_BYTES} bytes")]
    TooLong,
    /// Holds a control character or a code point that PRECIS doesn't know; it knows those of Unicode 6.3.
    #[error("contains characters that are not allowed in a password, such as control characters")]
    RefusedByProfile,
}

impl Password {
    /// Takes a password by the PRECIS profile OpaqueString (RFC 8265, 4.2): composed and decomposed spellings are one, any
    /// space is an ordinary one, and nothing is cut, folded or trimmed.
    ///
    /// The bytes as sent are kept beside the prepared form, because hashes that were made elsewhere are of those.
    pub fn parse(sent: SecretString) -> Result<Self, PasswordError> {
        let text = sent.expose_secret();
        if text.is_empty() {
            return Err(PasswordError::Empty);
        }
        // Before the profile runs: the profile is what a long string would make slow.
        if text.len() > MAX_BYTES {
            return Err(PasswordError::TooLong);
        }
        let prepared =
            match OpaqueString::enforce(text).map_err(|_| PasswordError::RefusedByProfile)? {
                Cow::Owned(form) if form != text => Some(SecretString::from(form)),
                Cow::Owned(form) => {
                    drop(SecretString::from(form));
                    None
                }
                Cow::Borrowed(_) => None,
            };
        Ok(Self { sent, prepared })
    }

    /// The bytes as sent. Hashes from elsewhere are compared with these.
    pub fn sent(&self) -> &[u8] {
        self.sent.expose_secret().as_bytes()
    }

    /// The form that is hashed and measured.
    pub fn prepared(&self) -> &[u8] {
        self.text().as_bytes()
    }

    /// Whether both forms are the same bytes.
    pub fn is_prepared_as_sent(&self) -> bool {
        self.prepared.is_none()
    }

    /// Code points of the prepared form.
    pub fn code_points(&self) -> usize {
        self.text().chars().count()
    }

    fn text(&self) -> &str {
        self.prepared.as_ref().unwrap_or(&self.sent).expose_secret()
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn parse(text: &str) -> Result<Password, PasswordError> {
        Password::parse(SecretString::from(text))
    }

    #[test]
    fn length_is_counted_in_bytes_as_sent() {
        assert_eq!(parse("").unwrap_err(), PasswordError::Empty);
        assert!(parse("a").is_ok());
        assert!(parse(&"a".repeat(1024)).is_ok());
        assert_eq!(
            parse(&"a".repeat(1025)).unwrap_err(),
            PasswordError::TooLong
        );
        assert!(parse(&"\u{e9}".repeat(512)).is_ok());
        assert_eq!(
            parse(&"\u{e9}".repeat(513)).unwrap_err(),
            PasswordError::TooLong
        );
    }

    #[rstest]
    #[case::nul("pass\0word")]
    #[case::tab("pass\tword")]
    #[case::newline("password\n")]
    #[case::unassigned("password\u{378}")]
    fn refused(#[case] text: &str) {
        assert_eq!(parse(text).unwrap_err(), PasswordError::RefusedByProfile);
    }

    #[test]
    fn composed_and_decomposed_are_one() {
        let composed = parse("p\u{e4}ssword").unwrap();
        let decomposed = parse("pa\u{308}ssword").unwrap();
        assert_eq!(composed.prepared(), decomposed.prepared());
        assert_eq!(composed.code_points(), 8);
        assert_eq!(decomposed.code_points(), 8);
        assert_eq!(decomposed.sent(), "pa\u{308}ssword".as_bytes());
        assert!(composed.is_prepared_as_sent());
        assert!(!decomposed.is_prepared_as_sent());
    }

    #[test]
    fn spaces_and_capitals_count() {
        let forms = [
            "pass word",
            "pass  word",
            " pass word",
            "pass word ",
            "Pass word",
            "password",
        ];
        for (i, one) in forms.iter().enumerate() {
            for other in &forms[i + 1..] {
                assert_ne!(
                    parse(one).unwrap().prepared(),
                    parse(other).unwrap().prepared()
                );
            }
        }
        // An ideographic space is a space.
        assert_eq!(parse("pass\u{3000}word").unwrap().prepared(), b"pass word");
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", parse("pa\u{308}ssword").unwrap()),
            "Password([REDACTED])"
        );
    }

    proptest! {
        #[test]
        fn any_string_is_survived(text: String) {
            if let Ok(password) = parse(&text) {
                prop_assert_eq!(password.sent(), text.as_bytes());
            }
        }

        #[test]
        fn printable_ascii_is_taken_as_it_is(text in "[ -~]{1,1024}") {
            let password = parse(&text).unwrap();
            prop_assert!(password.is_prepared_as_sent());
            prop_assert_eq!(password.prepared(), text.as_bytes());
        }
    }
}
