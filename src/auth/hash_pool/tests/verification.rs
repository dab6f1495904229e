//! What a run says of a password, and what it makes of the hash.

use super::*;

/// Reference hashes, made with argon2-cffi 25.1 (the C reference implementation):
/// `argon2.low_level.hash_secret(b"password", b"somesalt", 2, 256, 1, 32, Type.ID, 19)` and so on. The last two are of
/// `"p\u{e4}ssword"`, with four lanes and 24 bytes of output, and with two lanes and 64 bytes.
pub(super) const REFERENCE: [(&str, &str); 6] = [
    (
        "password",
        "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
    ),
    (
        "password",
        "$argon2i$v=19$m=256,t=2,p=1$c29tZXNhbHQ$iekCn0Y3spW+sCcFanM2xBT63UP2sghkUoHLIUpWRS8",
    ),
    (
        "password",
        "$argon2d$v=19$m=256,t=2,p=1$c29tZXNhbHQ$JcTui6RIBUtJ78gE5Hi52CO+H5vS6Z9R1uxAB6OhUB8",
    ),
    (
        "password",
        "$argon2i$v=16$m=256,t=2,p=1$c29tZXNhbHQ$/U3YPXYsSb3q9XxHvc0MLxur+GP960kN9j7emXX8zwY",
    ),
    (
        "p\u{e4}ssword",
        "$argon2id$v=19$m=1024,t=3,p=4$c2FsdHNhbHRzYWx0c2FsdA$jpM9B4CZWLoga8C30Swn4IC2yQluyZ7D",
    ),
    (
        "p\u{e4}ssword",
        "$argon2id$v=19$m=64,t=2,p=2$c2FsdHNhbHRzYWx0c2FsdA$oSqnOTeAPDn8nReciTUuGN6v79vahHEllrNA3gPACpPCegGcG+fZG09m640zEAq2e46PnABuE3JI4wxNj1d/+g",
    ),
];

/// Of `"password"`, made with OpenSSL: `hashlib.scrypt(b"password", salt=b"saltsaltsaltsalt", n=16, r=8, p=1, dklen=32)`. It needs
/// 16 KiB.
pub(super) const SCRYPT: &str =
    "$scrypt$ln=4,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$5f/Vi+XRWGUNGScbsma6KJ4zLFIke/NJsrvr7lQLAyA";

/// Of `"p\u{e4}ssword"` and of `"pa\u{308}ssword"`, by the same reference, at a cost that isn't current here.
const COMPOSED: &str =
    "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$jt35NulNxTsDEaU4mcL1jVRjzXmtonOLikPwPqiXocc";
const DECOMPOSED: &str =
    "$argon2id$v=19$m=64,t=2,p=1$c29tZXNhbHQ$BGL1L5SDGHIjd2RN3xFlED+XLGpQ5mrd3Qwkb/xYsuo";
#[rstest]
#[case::no_hash(None, false, false)]
#[case::match_(Some(CURRENT), true, false)]
#[case::mismatch(
    Some(
        "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$AdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    ),
    false,
    false
)]
#[case::stale(Some(COMPOSED), true, false)]
#[case::empty(Some(""), false, true)]
#[case::unknown(Some("$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/"), false, true)]
#[case::malformed(
    Some("$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$"),
    false,
    true
)]
#[case::memory(
    Some(
        "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    ),
    false,
    true
)]
#[case::time(
    Some(
        "$argon2id$v=19$m=8,t=1000000,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    ),
    false,
    true
)]
#[case::lanes(
    Some(
        "$argon2id$v=19$m=131072,t=1,p=16384$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
    ),
    false,
    true
)]
#[tokio::test]
async fn exactly_one_run(
    #[case] stored: Option<&str>,
    #[case] matches: bool,
    #[case] unusable: bool,
) {
    let (pool, runs) = start(&settings());
    let stored = stored.map(SecretString::from);
    let verdict = pool
        .verify(&password("p\u{e4}ssword"), stored.as_ref())
        .await
        .unwrap();
    assert_eq!((verdict.matches, verdict.unusable), (matches, unusable));
    assert!(verdict.new_hash.is_none());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert_eq!(pool.stats().runs, 1);
}

#[test]
fn the_dummy_costs_what_a_current_hash_costs() {
    let cost = Cost::new(24, 3, 2).unwrap();
    let dummy = worker::random_hash(cost).unwrap();
    assert!(dummy.is_current(cost));
    let other = worker::random_hash(cost).unwrap();
    assert_ne!(
        dummy.to_secret_string().expose_secret(),
        other.to_secret_string().expose_secret()
    );
}

#[tokio::test]
async fn reference_hashes() {
    let (pool, _) = start(&settings());
    for (text, stored) in REFERENCE {
        let stored = SecretString::from(stored);
        let right = pool.verify(&password(text), Some(&stored)).await.unwrap();
        assert!(
            right.matches && right.needs_rehash && !right.unusable,
            "{text}"
        );
        let wrong = pool
            .verify(&password("passwort"), Some(&stored))
            .await
            .unwrap();
        assert!(
            !wrong.matches && wrong.needs_rehash && !wrong.unusable,
            "{text}"
        );
        assert!(pool.needs_rehash(&stored));
    }
    assert!(!pool.needs_rehash(&SecretString::from(CURRENT)));
}

#[tokio::test]
async fn a_new_hash_has_the_current_cost_and_a_salt_of_its_own() {
    let (pool, runs) = start(&settings());
    let hash = pool.hash(&password("password")).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let again = pool.hash(&password("password")).await.unwrap();
    let fields: Vec<&str> = hash.expose_secret().split('$').collect();
    // 16 and 32 bytes in base64.
    assert_eq!(
        (fields.len(), fields[4].len(), fields[5].len()),
        (6, 22, 43)
    );
    assert_eq!(fields[..4], ["", "argon2id", "v=19", "m=8,t=1,p=1"]);
    assert!(
        !again.expose_secret().contains(fields[4]) && !again.expose_secret().contains(fields[5])
    );
    assert!(!pool.needs_rehash(&hash));
    for hash in [hash, again] {
        assert!(
            pool.verify(&password("password"), Some(&hash))
                .await
                .unwrap()
                .matches
        );
        assert!(
            !pool
                .verify(&password("passwort"), Some(&hash))
                .await
                .unwrap()
                .matches
        );
    }
}

#[tokio::test]
async fn a_stale_hash_is_replaced_in_the_same_job_after_a_match_only() {
    let (pool, runs) = start(&settings());
    let stale = SecretString::from(COMPOSED);
    let wrong = pool
        .verify_and_rehash(&password("password"), Some(&stale))
        .await
        .unwrap();
    assert!(!wrong.matches && wrong.new_hash.is_none());
    assert_eq!(runs.load(Ordering::SeqCst), 1);

    let right = pool
        .verify_and_rehash(&password("p\u{e4}ssword"), Some(&stale))
        .await
        .unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 3);
    let new = right.new_hash.unwrap();
    assert!(!pool.needs_rehash(&new));

    let next = pool
        .verify_and_rehash(&password("p\u{e4}ssword"), Some(&new))
        .await
        .unwrap();
    assert!(next.matches && !next.needs_rehash && next.new_hash.is_none());
    assert_eq!(runs.load(Ordering::SeqCst), 4);
}

#[tokio::test]
async fn composed_and_decomposed_spellings_log_in() {
    let (pool, _) = start(&settings());
    let (composed, decomposed) = (password("p\u{e4}ssword"), password("pa\u{308}ssword"));
    let hash = pool.hash(&decomposed).await.unwrap();
    assert!(pool.verify(&composed, Some(&hash)).await.unwrap().matches);
    assert!(pool.verify(&decomposed, Some(&hash)).await.unwrap().matches);
    assert!(
        pool.verify(&decomposed, Some(&SecretString::from(CURRENT)))
            .await
            .unwrap()
            .matches
    );
}

/// A stale hash is of the bytes as sent (from elsewhere) or of the prepared form (from here, at an earlier cost).
#[tokio::test]
async fn a_stale_hash_is_compared_with_both_forms_where_they_differ() {
    let (pool, runs) = start(&settings());
    for (text, stored, matches, expected_runs) in [
        ("p\u{e4}ssword", COMPOSED, true, 1),
        ("pa\u{308}ssword", COMPOSED, true, 2),
        ("pa\u{308}ssword", DECOMPOSED, true, 1),
        ("p\u{e4}ssword", DECOMPOSED, false, 1),
        ("pa\u{308}sswort", COMPOSED, false, 2),
    ] {
        let before = runs.load(Ordering::SeqCst);
        let verdict = pool
            .verify(&password(text), Some(&SecretString::from(stored)))
            .await
            .unwrap();
        assert_eq!(
            (verdict.matches, runs.load(Ordering::SeqCst) - before),
            (matches, expected_runs),
            "{text:?}"
        );
    }
}

#[tokio::test]
async fn many_at_once_all_get_their_own_answer() {
    let (pool, runs) = start(&config::Password {
        workers: Some(3),
        queue: Some(1000),
        ..settings()
    });
    let right = SecretString::from(CURRENT);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..300 {
        let (pool, right) = (pool.clone(), right.clone());
        tasks.spawn(async move {
            let text = if number % 3 == 0 {
                "p\u{e4}ssword"
            } else {
                "password"
            };
            let verdict = pool.verify(&password(text), Some(&right)).await.unwrap();
            assert_eq!(verdict.matches, number % 3 == 0);
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    assert_eq!(runs.load(Ordering::SeqCst), 300);
    let stats = pool.stats();
    assert_eq!(
        (stats.busy, stats.queued, stats.refused, stats.runs),
        (0, 0, 0, 300)
    );
}
