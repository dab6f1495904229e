//! The rule for new passwords: long, and not one of those that are tried first (NIST SP 800-63B-4, 3.1.1.2). There are no
//! rules of composition, and a password doesn't expire.

use zeroize::Zeroizing;

use super::{Password, common_passwords};

/// What people run a finger along: the alphabet, the rows of a keyboard, and all rows of one from the digits down. Of the
/// keyboards QWERTY, QWERTZ and AZERTY.
const ROWS: [&str; 13] = [
    "0123456789",
    "abcdefghijklmnopqrstuvwxyz",
    "qwertyuiop",
    "asdfghjkl",
    "zxcvbnm",
    "1234567890qwertyuiopasdfghjklzxcvbnm",
    "qwertzuiop",
    "yxcvbnm",
    "1234567890qwertzuiopasdfghjklyxcvbnm",
    "azertyuiop",
    "qsdfghjklm",
    "wxcvbn",
    "1234567890azertyuiopqsdfghjklmwxcvbn",
];

/// What a new password has to fulfil. Passwords that exist are not measured against it.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// The fewest code points of the prepared form (NIST SP 800-63B-4 asks for 15 where a password is the only factor).
    pub min_length: usize,
}

/// Which rule a new password breaks. All but the first are judged in small letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// Fewer code points than the policy asks for.
    #[error("must have at least {min_length} characters")]
    TooShort {
        /// What the policy asks for.
        min_length: usize,
    },
    /// The same character over and over.
    #[error("must not be one character repeated")]
    OneCharacter,
    /// Each character is the next one along the alphabet or a row of the keyboard, in either direction; the first follows the
    /// last.
    #[error("must not be a run along the digits, the alphabet or the keys of a keyboard")]
    Run,
    /// The name of the user, once or several times in a row.
    #[error("must not be the username, also not repeated")]
    Username,
    /// An entry of the list of common passwords.
    #[error("must not be on the list of common passwords")]
    Common,
    /// An entry of the list of common passwords, several times in a row.
    #[error("must not be a common password repeated")]
    RepeatedCommon,
}

impl Policy {
    /// Whether the user of this name may set the password.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn check(
        &self,
        password: &Password,
        username: &(impl AsRef<str> + ?Sized),
    ) -> Result<(), PolicyError> {
        if password.code_points() < self.min_length {
            return Err(PolicyError::TooShort {
                min_length: self.min_length,
            });
        }
        let text = lower(password.text());
        if is_one_character(&text) {
            return Err(PolicyError::OneCharacter);
        }
        if ROWS.iter().any(|row| is_run(row, &text)) {
            return Err(PolicyError::Run);
        }
        let username = lower(username.as_ref());
        for unit in units(&text) {
            if unit == *username {
                return Err(PolicyError::Username);
            }
            if common_passwords::contains(unit) {
                let whole = unit.len() == text.len();
                return Err(if whole {
                    PolicyError::Common
                } else {
                    PolicyError::RepeatedCommon
                });
            }
        }
        Ok(())
    }
}

/// Character by character, as the profile of usernames does it: no final sigma.
fn lower(text: &str) -> Zeroizing<String> {
    // No character becomes more than three times as long, so that no copy is left behind where the text grows.
    let mut lower = Zeroizing::new(String::with_capacity(3 * text.len()));
    lower.extend(text.chars().flat_map(char::to_lowercase));
    lower
}

fn is_one_character(text: &str) -> bool {
    let mut characters = text.chars();
    let first = characters.next();
    characters.all(|next| Some(next) == first)
}

fn is_run(row: &str, text: &str) -> bool {
    follows(row, text.chars()) || follows(row, text.chars().rev())
}

fn follows(row: &str, mut characters: impl Iterator<Item = char>) -> bool {
    let Some(first) = characters.next() else {
        return false;
    };
    row.find(first).is_some_and(|start| {
        // All of a row is ASCII.
        let next = row.chars().cycle().skip(start + 1);
        characters.zip(next).all(|(is, next)| is == next)
    })
}

/// What the text is a repetition of, the shortest first; the text itself is the last.
fn units(text: &str) -> impl Iterator<Item = &str> {
    let whole = text.len();
    let lengths = (1..=whole).filter(move |length| whole.is_multiple_of(*length));
    let units = lengths.filter_map(|length| text.get(..length));
    units.filter(|unit| {
        let mut pieces = text.as_bytes().chunks(unit.len());
        pieces.all(|piece| piece == unit.as_bytes())
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use secrecy::SecretString;

    use super::*;

    const POLICY: Policy = Policy { min_length: 15 };

    fn check(text: &str) -> Result<(), PolicyError> {
        check_with(POLICY, text)
    }

    fn check_with(policy: Policy, text: &str) -> Result<(), PolicyError> {
        let password = Password::parse(SecretString::from(text)).unwrap();
        policy.check(&password, "alice")
    }

    /// Security checklist, 39.
    #[test]
    fn length_is_counted_in_code_points_of_the_prepared_form() {
        let too_short = PolicyError::TooShort { min_length: 15 };
        assert_eq!(check("fifteen letters"), Ok(()));
        assert_eq!(check("fourteen chars"), Err(too_short));
        assert_eq!(check("\u{1f435}\u{1f436}fifteen letter"), Ok(()));
        assert_eq!(
            check("\u{1f435}\u{1f436}\u{1f437}ten letter"),
            Err(too_short)
        );
        // 15 code points as sent, 14 when composed.
        assert_eq!(check("a\u{308}fourteen char"), Err(too_short));
        assert_eq!(check("b\u{308}fourteen char"), Ok(()));
        assert_eq!(too_short.to_string(), "must have at least 15 characters");
    }

    /// Security checklist, 39.
    #[rstest]
    #[case::letters("aaaaaaaaaaaaaaa", PolicyError::OneCharacter)]
    #[case::cases("aAaAaAaAaAaAaAaA", PolicyError::OneCharacter)]
    #[case::spaces("               ", PolicyError::OneCharacter)]
    #[case::of_several_bytes(
        "\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}\u{1f435}",
        PolicyError::OneCharacter
    )]
    #[case::digits("012345678901234", PolicyError::Run)]
    #[case::digits_as_on_the_keyboard("123456789012345678", PolicyError::Run)]
    #[case::digits_down("987654321098765", PolicyError::Run)]
    #[case::alphabet("abcdefghijklmnop", PolicyError::Run)]
    #[case::alphabet_from_within("QRSTUVWXYZABCDEF", PolicyError::Run)]
    #[case::alphabet_down("zyxwvutsrqponmlkj", PolicyError::Run)]
    #[case::row("qwertyuiopqwertyuiop", PolicyError::Run)]
    #[case::row_down("poiuytrewqpoiuytrewq", PolicyError::Run)]
    #[case::row_from_within("zxcvbnmzxcvbnmzx", PolicyError::Run)]
    #[case::middle_row("Asdfghjklasdfghjkl", PolicyError::Run)]
    #[case::rows("qwertyuiopasdfghjkl", PolicyError::Run)]
    #[case::rows_with_digits("67890qwertyuiop", PolicyError::Run)]
    #[case::qwertz("qwertzuiopasdfghjkl", PolicyError::Run)]
    #[case::azerty("azertyuiopqsdfghjklm", PolicyError::Run)]
    #[case::username_thrice("alicealicealice", PolicyError::Username)]
    #[case::username_in_capitals("ALICEalicealiceALICE", PolicyError::Username)]
    #[case::listed("polniypizdec0211", PolicyError::Common)]
    #[case::listed_in_capitals("1QAZ2WSX3EDC4RFV", PolicyError::Common)]
    #[case::listed_and_twice_a_listed_one("passwordpassword", PolicyError::RepeatedCommon)]
    #[case::twice("trustno1trustno1", PolicyError::RepeatedCommon)]
    #[case::in_capitals("Trustno1Trustno1", PolicyError::RepeatedCommon)]
    #[case::five_times("dragonDragondragonDRAGONdragon", PolicyError::RepeatedCommon)]
    fn refused(#[case] text: &str, #[case] error: PolicyError) {
        assert_eq!(check(text), Err(error));
    }

    #[rstest]
    #[case::sentence("correct horse battery staple")]
    #[case::common_and_more("passwordpassword1")]
    #[case::not_whole_repetitions("passwordpasswordpass")]
    #[case::no_run("abcdefghijklmnoo")]
    #[case::no_run_back_and_forth("abcdefghgfedcbabc")]
    #[case::two_words("letmeinplease letmeinplease!")]
    #[case::username_and_more("alicealicealice!")]
    #[case::repetition_of_what_is_not_common(
        "\u{e4}\u{f6}\u{fc}\u{e4}\u{f6}\u{fc}\u{e4}\u{f6}\u{fc}\u{e4}\u{f6}\u{fc}\u{e4}\u{f6}\u{fc}"
    )]
    #[case::no_composition("onlysmallletters")]
    fn allowed(#[case] text: &str) {
        assert_eq!(check(text), Ok(()));
    }

    #[test]
    fn the_username_itself_is_refused_in_any_case() {
        let password = |text: &str| Password::parse(SecretString::from(text)).unwrap();
        let check = |text, username| POLICY.check(&password(text), username);
        let error = Err(PolicyError::Username);
        assert_eq!(check("alice@Example.com", "alice@example.com"), error);
        assert_eq!(
            check(
                "\u{391}\u{3a3}\u{391}\u{3a3}\u{391}\u{3a3}\u{391}\u{3a3}\u{391}\u{3a3}\u{391}\u{3a3}\u{391}\u{3a3}\u{391}\u{3a3}",
                "\u{3b1}\u{3c3}"
            ),
            error
        );
        assert_eq!(check("alice@example.com", "bob"), Ok(()));
        assert_eq!(check("alice@example.com", ""), Ok(()));
    }

    #[test]
    fn a_shorter_minimum_leaves_the_other_rules() {
        let policy = Policy { min_length: 8 };
        assert_eq!(check_with(policy, "trustno1"), Err(PolicyError::Common));
        assert_eq!(check_with(policy, "87654321"), Err(PolicyError::Run));
        assert_eq!(check_with(policy, "k7!fe-2x"), Ok(()));
    }

    #[test]
    fn each_refusal_is_a_sentence_about_the_password() {
        for (error, text) in [
            (
                PolicyError::OneCharacter,
                "must not be one character repeated",
            ),
            (
                PolicyError::Run,
                "must not be a run along the digits, the alphabet or the keys of a keyboard",
            ),
            (
                PolicyError::Username,
                "must not be the username, also not repeated",
            ),
            (
                PolicyError::Common,
                "must not be on the list of common passwords",
            ),
            (
                PolicyError::RepeatedCommon,
                "must not be a common password repeated",
            ),
        ] {
            assert_eq!(error.to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn any_password_and_name_are_survived(text in "\\PC{1,40}", username: String) {
            if let Ok(password) = Password::parse(SecretString::from(text)) {
                let _judged = Policy { min_length: 1 }.check(&password, &username);
            }
        }

        #[test]
        fn the_name_repeated_is_refused(username in "[\\p{Ll}&&[a-z\u{e4}\u{f6}\u{3b1}]]{2,9}", times in 1_usize..9) {
            let password = Password::parse(SecretString::from(username.repeat(times))).unwrap();
            let refused = Policy { min_length: 1 }.check(&password, &username).is_err();
            prop_assert!(refused);
        }

        #[test]
        fn a_run_of_any_length_from_any_place_is_refused(row in 0..ROWS.len(), skip in 0_usize..40, length in 15_usize..99) {
            let run: String = ROWS[row].chars().cycle().skip(skip).take(length).collect();
            prop_assert_eq!(check(&run), Err(PolicyError::Run));
            let back: String = run.chars().rev().collect();
            prop_assert_eq!(check(&back), Err(PolicyError::Run));
        }
    }
}
