//! The list of common passwords: those that attackers try first.
//!
//! It is that of zxcvbn-ts, which is counted from passwords that leaked; `tests/common-passwords.py` takes it from there.
//! Its licence lies beside it. It is text, so that a change of it can be read, and so small that nothing is gained by
//! another form: a look-up takes 16 comparisons, and is needed only when a password is set.

/// One entry a line, in small letters, in the order of their bytes.
static LIST: &str = include_str!("common_passwords/list.txt");

/// Whether the list has this entry, which has to be in small letters.
pub(super) fn contains(entry: &str) -> bool {
    let mut rest = LIST;
    loop {
        // The line in the middle: from behind the last line end of the first half to the next line end.
        let half = rest.get(..rest.len() / 2).unwrap_or_default();
        let start = half.rfind('\n').map_or(0, |end| end + 1);
        let (before, from) = rest.split_at(start);
        let Some((line, after)) = from.split_once('\n') else {
            return false;
        };
        rest = match entry.cmp(line) {
            std::cmp::Ordering::Less => before,
            std::cmp::Ordering::Greater => after,
            std::cmp::Ordering::Equal => return true,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn it_is_in_the_form_that_the_search_needs() {
        assert!(LIST.is_ascii());
        assert!(LIST.ends_with('\n'));
        assert!(LIST.lines().is_sorted_by(|one, next| one < next));
        for entry in LIST.lines() {
            assert_eq!(entry, entry.trim().to_lowercase());
            assert!(!entry.is_empty());
        }
    }

    #[test]
    fn it_is_large_enough() {
        let of_length = |least| LIST.lines().filter(|entry| entry.len() >= least).count();
        assert!(of_length(8) >= 10_000, "{}", of_length(8));
        // All that the source has.
        assert_eq!(of_length(15), 41);
        assert_eq!(of_length(0), 49_233);
    }

    #[test]
    fn every_entry_is_found_and_nothing_beside_it() {
        for entry in LIST.lines() {
            assert!(contains(entry), "{entry}");
        }
        for other in [
            "",
            "\n",
            "!",
            "~~~~",
            "passwor\n",
            "password\n",
            "Password",
            "correct horse battery staple",
            "\u{e4}",
        ] {
            assert!(!contains(other), "{other:?}");
        }
    }

    proptest! {
        #[test]
        fn the_search_agrees_with_reading_all_of_it(text in "[a-z0-9]{1,5}|\\PC{0,8}") {
            prop_assert_eq!(contains(&text), LIST.lines().any(|entry| entry == text));
        }
    }
}
