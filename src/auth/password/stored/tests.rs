//! Which strings are understood, and what they may cost. That the right passwords match is shown with hashes of the original
//! libraries, in `tests/it/v1_0/user_auth/foreign_hashes.rs`.

use proptest::prelude::*;
use rstest::rstest;

use super::*;

const SALT: &str = "c2FsdHNhbHRzYWx0c2FsdA";
const OUTPUT: &str = "OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80";
const BCRYPT_REST: &str = "0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const BCRYPT: &str = "2b$10$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn parse(stored: &str) -> Result<StoredHash, Unusable> {
    let current = Cost::new(19_456, 2, 1).unwrap();
    StoredHash::parse(stored, &Bounds::new(current, 128 * 1024))
}

/// The blocks that it takes.
fn judge(stored: &str) -> Result<usize, Unusable> {
    parse(stored).map(|hash| hash.blocks())
}

fn scrypt(cost: &str) -> Result<usize, Unusable> {
    judge(&format!("$scrypt${cost}${SALT}${OUTPUT}"))
}

fn pbkdf2(kind: &str, cost: &str, output: &str) -> Result<usize, Unusable> {
    judge(&format!("$pbkdf2-{kind}${cost}${SALT}${output}"))
}

/// RFC 7914, 12; the salts and outputs in base64.
#[rstest]
#[case(
    "pleaseletmein",
    "$scrypt$ln=14,r=8,p=1$U29kaXVtQ2hsb3JpZGU$cCO9yzr9c0hGHAbNgf046/2o+7qQT44+qbVD9lRdofLVQylVYT8Pz2LUlwUkKpr55h6F3A1lHkDfzwF7RVdYhw"
)]
#[case(
    "password",
    "$scrypt$ln=10,r=8,p=16$TmFDbA$/bq+HJ00cgB4VucZDQHp/nxq18vII3gw53N2Y0s3MWIurzDZLiKjiG/xCSedmDDaxyevuUqD7m2DYMvfoswGQA"
)]
fn scrypt_of_the_rfc(#[case] password: &str, #[case] stored: &str) {
    let hash = parse(stored).unwrap();
    let mut memory = vec![Block::new(); hash.blocks()];
    assert!(hash.matches(password.as_bytes(), &mut memory).unwrap());
    // In memory that was used before.
    assert!(!hash.matches(b"passwort", &mut memory).unwrap());
    memory.pop();
    assert!(hash.matches(password.as_bytes(), &mut memory).is_err());
}

/// Security checklist, 22.
#[rstest]
#[case::owasp("ln=17,r=8,p=1", Ok(131_072))]
#[case::passlib("ln=16,r=8,p=1", Ok(65_536))]
#[case::least("ln=1,r=1,p=1", Ok(1))]
#[case::part_of_a_block("ln=3,r=3,p=1", Ok(3))]
#[case::memory("ln=17,r=9,p=1", Err(Unusable::BeyondBounds))]
#[case::all_of_time("ln=17,r=8,p=4", Ok(131_072))]
#[case::time("ln=17,r=8,p=5", Err(Unusable::BeyondBounds))]
#[case::most("ln=31,r=64,p=64", Err(Unusable::BeyondBounds))]
#[case::no_number_of_bits("ln=64,r=8,p=1", Err(Unusable::BeyondBounds))]
#[case::largest("ln=4294967295,r=4294967295,p=4294967295", Err(Unusable::BeyondBounds))]
#[case::block_size("ln=1,r=65,p=1", Err(Unusable::BeyondBounds))]
#[case::lanes("ln=1,r=1,p=65", Err(Unusable::BeyondBounds))]
#[case::one_row("ln=0,r=8,p=1", Err(Unusable::Malformed))]
#[case::no_block("ln=14,r=0,p=1", Err(Unusable::Malformed))]
#[case::no_lane("ln=14,r=8,p=0", Err(Unusable::Malformed))]
#[case::order("r=8,ln=14,p=1", Err(Unusable::Malformed))]
#[case::missing("ln=14,r=8", Err(Unusable::Malformed))]
#[case::more("ln=14,r=8,p=1,x=1", Err(Unusable::Malformed))]
#[case::leading_zero("ln=014,r=8,p=1", Err(Unusable::Malformed))]
#[case::sign("ln=+14,r=8,p=1", Err(Unusable::Malformed))]
#[case::negative("ln=-14,r=8,p=1", Err(Unusable::Malformed))]
#[case::too_large("ln=4294967296,r=8,p=1", Err(Unusable::Malformed))]
#[case::space("ln=14, r=8,p=1", Err(Unusable::Malformed))]
#[case::empty("", Err(Unusable::Malformed))]
fn cost_of_scrypt(#[case] cost: &str, #[case] blocks: Result<usize, Unusable>) {
    assert_eq!(scrypt(cost), blocks);
}

#[test]
fn scrypt_that_fits_into_the_memory_of_a_worker_needs_no_other() {
    let bounds = Bounds::new(Cost::new(16_384, 2, 1).unwrap(), 0);
    let judge = |cost: &str| {
        let stored = format!("$scrypt${cost}${SALT}${OUTPUT}");
        StoredHash::parse(&stored, &bounds).map(|hash| hash.blocks())
    };
    assert_eq!(judge("ln=14,r=8,p=1"), Ok(16_384));
    assert_eq!(judge("ln=15,r=8,p=1"), Err(Unusable::BeyondBounds));
}

/// Security checklist, 22.
#[rstest]
#[case::owasp("sha256", "i=600000,l=32", Ok(0))]
#[case::no_length("sha256", "i=600000", Ok(0))]
#[case::passlib("sha512", "25000", Ok(0))]
#[case::all_of_time("sha256", "5000000", Ok(0))]
#[case::time("sha256", "5000001", Err(Unusable::BeyondBounds))]
#[case::time_in_phc("sha512", "i=5000001", Err(Unusable::BeyondBounds))]
#[case::largest("sha256", "4294967295", Err(Unusable::BeyondBounds))]
#[case::too_large("sha256", "4294967296", Err(Unusable::Malformed))]
#[case::none("sha256", "0", Err(Unusable::Malformed))]
#[case::none_in_phc("sha256", "i=0", Err(Unusable::Malformed))]
#[case::another_length("sha256", "i=1000,l=33", Err(Unusable::Malformed))]
#[case::order("sha256", "l=32,i=1000", Err(Unusable::Malformed))]
#[case::more("sha256", "i=1000,l=32,x=1", Err(Unusable::Malformed))]
#[case::leading_zero("sha256", "01000", Err(Unusable::Malformed))]
#[case::sign("sha256", "+1000", Err(Unusable::Malformed))]
#[case::empty("sha256", "", Err(Unusable::Malformed))]
#[case::sha1("sha1", "1000", Err(Unusable::UnknownKind))]
fn cost_of_pbkdf2(#[case] kind: &str, #[case] cost: &str, #[case] judged: Result<usize, Unusable>) {
    assert_eq!(pbkdf2(kind, cost, OUTPUT), judged);
}

#[test]
fn an_output_of_two_digests_costs_twice_the_iterations() {
    let long = "A".repeat(64);
    assert_eq!(pbkdf2("sha256", "2500000", &long), Ok(0));
    assert_eq!(
        pbkdf2("sha256", "2500001", &long),
        Err(Unusable::BeyondBounds)
    );
    assert_eq!(pbkdf2("sha512", "5000000", &long), Ok(0));
}

/// Security checklist, 22.
#[rstest]
#[case::least("04", Ok(0))]
#[case::default("12", Ok(0))]
#[case::all_of_time("15", Ok(0))]
#[case::time("16", Err(Unusable::BeyondBounds))]
#[case::largest("31", Err(Unusable::BeyondBounds))]
#[case::no_cost("32", Err(Unusable::Malformed))]
#[case::too_little("03", Err(Unusable::Malformed))]
#[case::one_digit("4", Err(Unusable::Malformed))]
#[case::three_digits("012", Err(Unusable::Malformed))]
#[case::sign("+4", Err(Unusable::Malformed))]
#[case::two_zeros("00", Err(Unusable::Malformed))]
#[case::empty("", Err(Unusable::Malformed))]
fn cost_of_bcrypt(#[case] cost: &str, #[case] judged: Result<usize, Unusable>) {
    assert_eq!(judge(&format!("$2b${cost}${BCRYPT_REST}")), judged);
}

#[rstest]
#[case::empty("")]
#[case::dollar("$")]
#[case::text("correct horse battery staple")]
#[case::md5("$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/")]
#[case::sha512("$6$saltsalt$x")]
#[case::bug_of_2011("$2x$10$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
#[case::oldest("$2$10$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
#[case::without_a_dollar("2b$10$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
#[case::capitals(
    "$SCRYPT$ln=1,r=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
)]
#[case::pbkdf2_of_django_with_a_dollar(
    "$pbkdf2_sha256$1000$salt$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80="
)]
#[case::sha1_of_django("pbkdf2_sha1$1000$salt$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80=")]
#[case::scrypt_in_other_words(
    "$7$C6..../....SodiumChloride$kBGj9fHznVYFQMEn/qDCfrDevf9YDtcDdKvEqHJLV8D"
)]
fn unknown_kind(#[case] stored: &str) {
    assert_eq!(judge(stored), Err(Unusable::UnknownKind));
}

#[test]
fn malformed() {
    let bcrypt = format!("${BCRYPT}");
    let scrypt = format!("$scrypt$ln=4,r=8,p=1${SALT}${OUTPUT}");
    let passlib = format!("$pbkdf2-sha256$1000${SALT}${OUTPUT}");
    let phc = format!("$pbkdf2-sha256$i=1000${SALT}${OUTPUT}");
    let django = format!("pbkdf2_sha256$1000$salt${OUTPUT}=");
    for good in [&bcrypt, &scrypt, &passlib, &phc, &django] {
        assert!(parse(good).is_ok(), "{good}");
        let wrong_ends = ["$", " ", "\n", "\0", "=", "$A", "\u{e4}"];
        for bad in wrong_ends.map(|end| format!("{good}{end}")) {
            assert_eq!(judge(&bad), Err(Unusable::Malformed), "{bad:?}");
        }
    }
    for length in "$2b$".len()..bcrypt.len() {
        assert_eq!(judge(&bcrypt[..length]), Err(Unusable::Malformed));
    }
    for bad in [
        scrypt.replace(SALT, ""),
        scrypt.replace(OUTPUT, ""),
        // Fifteen bytes: too little to tell passwords apart.
        scrypt.replace(OUTPUT, "OdFYA7BxGSdTRBBwiJ5K"),
        // More than any digest has.
        scrypt.replace(OUTPUT, &"A".repeat(88)),
        // The same bytes with other bits that are dropped.
        scrypt.replace(OUTPUT, &OUTPUT.replace("W80", "W81")),
        scrypt.replace(SALT, "c2FsdHN.bHRzYWx0c2FsdA"),
        scrypt.replace(SALT, &"A".repeat(512)),
        passlib.replace(SALT, ""),
        passlib.replace(OUTPUT, "OdFYA7BxGSdTRBBwiJ5K"),
        passlib.replace(OUTPUT, &"A".repeat(1 << 20)),
        phc.replace(SALT, "c2FsdHN.bHRzYWx0c2FsdA"),
        django.replace("$salt", "$"),
        django.replace("$salt", "$salt$salt"),
        django.replace('=', ""),
        django.replace("salt", &"a".repeat(512)),
        bcrypt.replace("aaa", "aa"),
        bcrypt.replace("aaaa", "aa+a"),
        bcrypt.replace("901a", "90\u{e4}a"),
    ] {
        assert_eq!(
            judge(&bad),
            Err(Unusable::Malformed),
            "{}",
            &bad[..bad.len().min(200)]
        );
    }
}

/// Some programs made a salt of any 22 characters, of which the last has more bits than there is place for.
#[test]
fn bits_of_a_bcrypt_salt_that_say_nothing_are_not_looked_at() {
    let made = |salt: &str| {
        let hash = format!("$2b$04${salt}aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa");
        parse(&hash).unwrap()
    };
    // Sixteen characters share the two bits that count.
    assert!(matches!(
        made("0123456789012345678900"),
        StoredHash::Bcrypt(_)
    ));
    assert!(matches!(
        made("012345678901234567890z"),
        StoredHash::Bcrypt(_)
    ));
}

#[test]
fn only_the_current_kind_is_current_and_debug_shows_nothing() {
    let current = Cost::new(19_456, 2, 1).unwrap();
    for (stored, is_current) in [
        (
            format!("$argon2id$v=19$m=19456,t=2,p=1${SALT}${OUTPUT}"),
            true,
        ),
        (
            format!("$argon2i$v=19$m=19456,t=2,p=1${SALT}${OUTPUT}"),
            false,
        ),
        (format!("$scrypt$ln=14,r=8,p=1${SALT}${OUTPUT}"), false),
        (format!("${BCRYPT}"), false),
        (format!("pbkdf2_sha256$1000$salt${OUTPUT}="), false),
    ] {
        let hash = parse(&stored).unwrap();
        assert_eq!(hash.is_current(current), is_current, "{stored}");
        assert_eq!(format!("{hash:?}"), "StoredHash([REDACTED])");
    }
}

proptest! {
    #[test]
    fn any_string_is_survived(stored: String) {
        prop_assert!(parse(&stored).is_err());
    }

    #[test]
    fn whatever_follows_a_known_kind_is_survived(
        kind in "\\$(2[aby]|scrypt|pbkdf2-sha(256|512)|argon2(id|i|d))\\$|pbkdf2_sha256\\$",
        rest in "[$=,./+a-z0-9]{0,80}|\\PC{0,40}",
    ) {
        if let Ok(hash) = parse(&format!("{kind}{rest}")) {
            prop_assert!(hash.blocks() <= 131_072);
        }
    }

    #[test]
    fn a_damaged_hash_never_panics(which in 0_usize..4, place in 0_usize..97, wrong in "\\PC") {
        let mut stored = [
            format!("${BCRYPT}"),
            format!("$scrypt$ln=4,r=8,p=1${SALT}${OUTPUT}"),
            format!("$pbkdf2-sha256$1000${SALT}${OUTPUT}"),
            format!("pbkdf2_sha256$1000$salt${OUTPUT}="),
        ][which].clone();
        prop_assume!(place < stored.len());
        stored.replace_range(place..=place, &wrong);
        let _judged = parse(&stored);
    }
}
