//! The username: one form of it is stored, compared and limited.
//!
//! The form is that of the PRECIS profile UsernameCaseMapped (RFC 8265, 3.3): full-width characters become ordinary ones,
//! capitals become small, and composed and decomposed spellings become one. So `Alice`, `alice` and `Ａlice` are one user.

use std::borrow::Cow;
use std::fmt;

use precis_profiles::UsernameCaseMapped;
use precis_profiles::precis_core::profile::PrecisFastInvocation as _;

/// The most code points of a username, counted in the form that is stored.
pub const MAX_LENGTH: usize = 254;

/// The most code points that are looked at. A typed name may be longer than the stored form, since up to four code points
/// compose into one. What is longer than this can't become short enough, so it is refused before the profile runs.
const MAX_TYPED_LENGTH: usize = 4 * MAX_LENGTH;

/// The most code points with a contextual rule (RFC 8264, 9.6 and 9.8) in a name. The profile walks over the whole name
/// for each of them: a thousand katakana middle dots cost more than an argon2 run would, on a thread that serves requests.
const MAX_CONTEXTUAL: usize = 32;

/// The profile isn't idempotent for every string, so it is applied until nothing changes any more (RFC 8264, 7). A name
/// that is still changing after this many rounds is refused. So is one whose own form is refused: the small Cherokee
/// letters, for example, are younger than the Unicode version of PRECIS (6.3), the capitals are not.
const MAX_ROUNDS: usize = 4;

/// A name in the form that is stored and compared. Two spellings of one user are equal here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Username(String);

/// Why a name is refused. It never holds the name: people type passwords into this field.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UsernameError {
    /// Nothing was typed.
    #[error("must not be empty")]
    Empty,
    /// More than 254 code points.
    #[error("must have at most {MAX_LENGTH} characters")]
    TooLong,
    /// Holds what PRECIS allows in no username: spaces, control characters, symbols, unassigned code points, or mixed
    /// writing directions.
    #[error("contains characters that are not allowed in a username")]
    Refused,
}

impl Username {
    /// Brings a typed name into its one form.
    pub fn parse(typed: &str) -> Result<Self, UsernameError> {
        if typed.is_empty() {
            return Err(UsernameError::Empty);
        }
        if typed.chars().nth(MAX_TYPED_LENGTH).is_some() {
            return Err(UsernameError::TooLong);
        }
        if typed
            .chars()
            .filter(|c| is_contextual(*c))
            .nth(MAX_CONTEXTUAL)
            .is_some()
        {
            return Err(UsernameError::Refused);
        }
        let form = stable_form(typed)?;
        if form.chars().nth(MAX_LENGTH).is_some() {
            return Err(UsernameError::TooLong);
        }
        Ok(Self(form.into_owned()))
    }

    /// The form that is stored.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn stable_form(typed: &str) -> Result<Cow<'_, str>, UsernameError> {
    let mut form = UsernameCaseMapped::enforce(typed).map_err(|_| UsernameError::Refused)?;
    for _ in 1..MAX_ROUNDS {
        let next =
            UsernameCaseMapped::enforce(form.as_ref()).map_err(|_| UsernameError::Refused)?;
        if next == form {
            return Ok(form);
        }
        form = Cow::Owned(next.into_owned());
    }
    Err(UsernameError::Refused)
}

/// Whether PRECIS allows the character only beside certain others (CONTEXTJ and CONTEXTO in RFC 5892, appendix A).
fn is_contextual(c: char) -> bool {
    matches!(c,
        '\u{b7}' | '\u{375}' | '\u{5f3}' | '\u{5f4}' | '\u{660}'..='\u{669}' | '\u{6f0}'..='\u{6f9}'
        | '\u{200c}' | '\u{200d}' | '\u{30fb}'
        // Half-width katakana middle dot: the width mapping makes U+30FB of it.
        | '\u{ff65}')
}

impl AsRef<str> for Username {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Username {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Hides the name, because a failed login's name may be a password.
impl fmt::Debug for Username {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Username([REDACTED])")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    fn form(typed: &str) -> Result<String, UsernameError> {
        Username::parse(typed).map(|name| name.as_str().to_owned())
    }

    #[rstest]
    #[case("alice", "alice")]
    #[case("Alice", "alice")]
    #[case("\u{ff21}lice", "alice")]
    #[case("alice@Example.com", "alice@example.com")]
    // Composed and decomposed.
    #[case("Zo\u{eb}", "zo\u{eb}")]
    #[case("Zoe\u{308}", "zo\u{eb}")]
    // Character by character: no final sigma.
    #[case("\u{391}\u{3a3}", "\u{3b1}\u{3c3}")]
    // One capital that becomes two code points.
    #[case("\u{130}", "i\u{307}")]
    #[case("\u{5d0}\u{5d1}1", "\u{5d0}\u{5d1}1")]
    fn forms(#[case] typed: &str, #[case] stored: &str) {
        assert_eq!(form(typed).as_deref(), Ok(stored));
    }

    #[rstest]
    #[case::space("al ice")]
    #[case::leading_space(" alice")]
    #[case::trailing_space("alice ")]
    #[case::nul("al\0ice")]
    #[case::newline("alice\n")]
    #[case::zero_width("al\u{200b}ice")]
    #[case::direction_override("\u{202e}ecila")]
    #[case::mixed_directions("alice\u{5d0}")]
    #[case::symbol("alice\u{2603}")]
    #[case::unassigned("alice\u{378}")]
    #[case::small_letter_is_younger_than_the_profile("\u{13a0}")]
    #[case::roman_numeral_looks_like_letters("\u{2165}")]
    fn refused(#[case] typed: &str) {
        assert_eq!(form(typed), Err(UsernameError::Refused));
    }

    #[test]
    fn length_is_counted_in_code_points_of_the_stored_form() {
        assert_eq!(form(""), Err(UsernameError::Empty));
        assert_eq!(form(&"a".repeat(254)), Ok("a".repeat(254)));
        assert_eq!(form(&"a".repeat(255)), Err(UsernameError::TooLong));
        // Four bytes each: Deseret capitals and their small letters.
        assert_eq!(form(&"\u{10400}".repeat(254)), Ok("\u{10428}".repeat(254)));
        assert_eq!(form(&"\u{10400}".repeat(255)), Err(UsernameError::TooLong));
        // Decomposed: twice as long when typed. One capital that becomes two: twice as long when stored.
        assert_eq!(form(&"e\u{301}".repeat(254)), Ok("\u{e9}".repeat(254)));
        assert_eq!(
            form(&"\u{130}".repeat(127)).map(|name| name.chars().count()),
            Ok(254)
        );
        assert_eq!(form(&"\u{130}".repeat(128)), Err(UsernameError::TooLong));
    }

    #[test]
    fn what_would_be_slow_is_refused_first() {
        assert_eq!(form(&"a".repeat(16 * 1024)), Err(UsernameError::TooLong));
        // Allowed beside a katakana letter, but each of them makes the profile look for that letter.
        assert_eq!(
            form(&format!("{}\u{30a2}", "\u{30fb}".repeat(32))).map(|name| name.chars().count()),
            Ok(33)
        );
        assert_eq!(
            form(&format!("{}\u{30a2}", "\u{30fb}".repeat(33))),
            Err(UsernameError::Refused)
        );
        assert_eq!(
            form(&format!("{}\u{30a2}", "\u{ff65}".repeat(33))),
            Err(UsernameError::Refused)
        );
    }

    #[test]
    fn every_contextual_character_is_known() {
        use precis_profiles::precis_core::{
            DerivedPropertyValue, IdentifierClass, StringClass as _,
        };
        let class = IdentifierClass::default();
        for c in '\0'..=char::MAX {
            let value = class.get_value_from_char(c);
            if matches!(
                value,
                DerivedPropertyValue::ContextJ | DerivedPropertyValue::ContextO
            ) {
                assert!(is_contextual(c), "U+{:04X}", u32::from(c));
            }
        }
    }

    #[test]
    fn the_form_of_every_single_character_is_stable() {
        for c in '\0'..=char::MAX {
            if let Ok(name) = Username::parse(c.encode_utf8(&mut [0; 4])) {
                assert_eq!(
                    Username::parse(name.as_str()).as_ref(),
                    Ok(&name),
                    "U+{:04X}",
                    u32::from(c)
                );
            }
        }
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", Username::parse("alice").unwrap()),
            "Username([REDACTED])"
        );
    }

    proptest! {
        #[test]
        fn the_form_of_any_string_is_stable_and_within_bounds(typed in "\\PC{1,300}") {
            if let Ok(name) = Username::parse(&typed) {
                prop_assert!((1..=MAX_LENGTH).contains(&name.as_str().chars().count()));
                prop_assert_eq!(Username::parse(name.as_str()), Ok(name.clone()));
            }
        }

        #[test]
        fn the_form_of_letters_and_marks_is_stable(typed in "[\\p{L}\\p{M}]{1,8}") {
            if let Ok(name) = Username::parse(&typed) {
                prop_assert_eq!(Username::parse(name.as_str()), Ok(name.clone()));
            }
        }

        #[test]
        fn capitals_of_ascii_names_are_no_other_user(typed in "[!-~]{1,254}") {
            prop_assert_eq!(form(&typed), form(&typed.to_ascii_uppercase()));
            prop_assert_eq!(form(&typed), Ok(typed.to_ascii_lowercase()));
        }

        #[test]
        fn any_bytes_are_survived(typed: String) {
            let _judged = Username::parse(&typed);
        }
    }
}
