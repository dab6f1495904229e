//! Hashes that other programs made: they log in, and become current ones.

use rstest::rstest;
use sea_orm::ConnectionTrait;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::common::{Backend, PASSWORD, TestApp};
use claviger::store::users::NewUser;

/// Made by the original libraries, see `tests/vectors/password-hashes.py`.
const VECTORS: &str = include_str!("../../../vectors/password-hashes.jsonl");

#[derive(Deserialize)]
struct Vector {
    made_by: String,
    password: String,
    hash: String,
}

fn vectors() -> Vec<Vector> {
    let lines = VECTORS.lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

async fn import(app: &TestApp, username: &str, hash: &str) {
    app.insert(NewUser {
        username: username.to_owned(),
        password_hash: Some(SecretString::from(hash)),
        is_admin: false,
        disabled: false,
    })
    .await;
}

async fn stored(app: &TestApp, username: &str) -> String {
    let user = app.users.find(username).await.unwrap().unwrap();
    user.password_hash.unwrap().expose_secret().to_owned()
}

/// Security checklist, 23.
#[rstest]
#[tokio::test]
async fn what_the_original_libraries_made_logs_in_and_becomes_current(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        // One of the vectors needs as much.
        config.password.foreign_max_mib = 4;
        // A wrong password for each of them, all from one address.
        config.limits.login_per_ip.count = 1_000;
    })
    .await;
    let vectors = vectors();
    for kind in [
        "$argon2i$",
        "$argon2d$",
        "$argon2id$",
        "$2a$",
        "$2b$",
        "$2y$",
        "$scrypt$",
        "$pbkdf2-sha256$i=",
        "$pbkdf2-sha512$i=",
        "$pbkdf2-sha256$29000$",
        "$pbkdf2-sha512$25000$",
        "pbkdf2_sha256$",
    ] {
        assert!(
            vectors.iter().any(|vector| vector.hash.starts_with(kind)),
            "{kind}"
        );
    }
    for (number, vector) in vectors.iter().enumerate() {
        let Vector {
            made_by,
            password,
            hash,
        } = vector;
        let name = format!("user{number}");
        import(&app, &name, hash).await;
        // Every kind looks at the first character; argon2 is tried with both forms of a decomposed password.
        let wrong = format!("x{password}");
        let before = app.hash_runs();
        app.log_in(&name, &wrong)
            .await
            .problem(401, "invalid-credentials");
        let argon2_of_two_forms = hash.starts_with("$argon2") && password.contains('\u{308}');
        let runs = if argon2_of_two_forms { 2 } else { 1 };
        assert_eq!(app.hash_runs() - before, runs, "{made_by}: {hash}");
        assert_eq!(
            stored(&app, &name).await,
            *hash,
            "a wrong password replaces nothing"
        );

        let before = app.hash_runs();
        let answer = app.log_in(&name, password).await;
        assert_eq!(answer.status, 200, "{made_by}: {hash}");
        assert_eq!(
            app.hash_runs() - before,
            2,
            "one to verify, one to hash anew"
        );
        let new = stored(&app, &name).await;
        assert!(new.starts_with("$argon2id$v=19$m=8,t=1,p=1$"), "{new}");

        let before = app.hash_runs();
        assert_eq!(app.log_in(&name, password).await.status, 200);
        assert_eq!(app.hash_runs() - before, 1);
        assert_eq!(stored(&app, &name).await, new);
    }
}

/// A hash of the bytes as sent is of one spelling; the current one that it becomes is of all.
#[tokio::test]
async fn one_spelling_logs_in_until_the_hash_is_replaced() {
    let app = TestApp::start(Backend::Embedded).await;
    let vectors = vectors();
    let of = |kind: &str, password: &str| {
        let mut found = vectors.iter();
        let found =
            found.find(|vector| vector.hash.starts_with(kind) && vector.password == password);
        found.unwrap().hash.clone()
    };
    let (composed, decomposed) = ("p\u{e4}ssword", "pa\u{308}ssword");
    for (number, kind) in ["$2b$", "$scrypt$", "$pbkdf2-sha512$", "pbkdf2_sha256$"]
        .into_iter()
        .enumerate()
    {
        for (made, other) in [(composed, decomposed), (decomposed, composed)] {
            let name = format!("user{number}-{}", made.len());
            import(&app, &name, &of(kind, made)).await;
            app.log_in(&name, other)
                .await
                .problem(401, "invalid-credentials");
            assert_eq!(app.log_in(&name, made).await.status, 200, "{kind}");
            assert_eq!(app.log_in(&name, other).await.status, 200, "{kind}");
        }
    }
}

/// bcrypt looks at 72 bytes; of the current hash that it becomes, every byte counts.
#[tokio::test]
async fn what_bcrypt_does_not_look_at_counts_after_the_login() {
    let app = TestApp::start(Backend::Embedded).await;
    let vectors = vectors();
    let long = |vector: &&Vector| vector.hash.starts_with("$2b$") && vector.password.len() > 72;
    let vector = vectors.iter().find(long).unwrap();
    import(&app, "alice", &vector.hash).await;
    let cut: String = vector.password.chars().take(70).collect();
    assert_eq!(cut.len(), 72);
    app.log_in("alice", &cut[..71])
        .await
        .problem(401, "invalid-credentials");
    let longer = format!("{cut}, whatever");
    assert_eq!(app.log_in("alice", &longer).await.status, 200);
    app.log_in("alice", &cut)
        .await
        .problem(401, "invalid-credentials");
    app.log_in("alice", &vector.password)
        .await
        .problem(401, "invalid-credentials");
    assert_eq!(app.log_in("alice", &longer).await.status, 200);
}

/// Security checklist, 1 and 22: refused as a wrong password is, with the run that one costs and not what the row asks for.
#[rstest]
#[case::bcrypt("$2b$31$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")]
#[case::scrypt_memory(
    "$scrypt$ln=31,r=8,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
)]
#[case::scrypt_time(
    "$scrypt$ln=16,r=8,p=64$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
)]
#[case::pbkdf2(
    "$pbkdf2-sha256$4294967295$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
)]
#[case::django("pbkdf2_sha256$4294967295$salt$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80=")]
#[case::argon2_memory(
    "$argon2id$v=19$m=4194304,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
)]
#[case::argon2_time(
    "$argon2id$v=19$m=8,t=1000000,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80"
)]
#[case::unknown("$1$saltsalt$qjXMvbEw8oaL.CzflDtaK/")]
#[tokio::test]
async fn a_hash_beyond_the_bounds_or_of_an_unknown_kind_is_a_wrong_password(#[case] hash: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    import(&app, "alice", hash).await;
    app.user("bob").await;
    let before = app.hash_runs();
    let refused = app.log_in("alice", PASSWORD).await;
    assert_eq!(app.hash_runs() - before, 1);
    let wrong = app.log_in("bob", "wrong password of some length").await;
    let same = |problem: serde_json::Value| {
        let mut problem = problem;
        problem.as_object_mut().unwrap().remove("request_id");
        problem
    };
    assert_eq!(
        same(refused.problem(401, "invalid-credentials")),
        same(wrong.problem(401, "invalid-credentials"))
    );
    assert_eq!(stored(&app, "alice").await, hash);
}

/// Security checklist, 23. Another password was set between the look-up and the record of the login: it stays.
#[tokio::test]
async fn a_change_beside_the_login_is_not_overwritten() {
    let app = TestApp::start(Backend::External).await;
    let vector = vectors()
        .into_iter()
        .find(|vector| vector.hash.starts_with("$2b$"))
        .unwrap();
    import(&app, "alice", &vector.hash).await;
    let user = app.users.find("alice").await.unwrap().unwrap();
    let database = app.database.connect().await;
    let other = app.hash(PASSWORD).await;
    let sql = format!(
        "UPDATE users SET password_hash = '{}', password_changed_at = now()",
        other.expose_secret()
    );
    database.execute_unprepared(&sql).await.unwrap();
    let rehashed = app.hash(&vector.password).await;
    assert!(
        !app.users
            .record_login(&user, Some(&rehashed))
            .await
            .unwrap()
    );
    assert_eq!(stored(&app, "alice").await, other.expose_secret());
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
}
