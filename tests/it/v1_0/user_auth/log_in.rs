//! What a login answers, and that refusals can't be told apart.

use std::time::Duration;

use axum::body::Body;
use claviger::auth::token::{self, Token};
use claviger::store::users::NewUser;
use rstest::rstest;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

use crate::common::{Answer, Backend, PASSWORD, TestApp, login};

#[rstest]
#[tokio::test]
async fn a_login_is_answered_with_a_token(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;

    let answer = app.log_in("alice", PASSWORD).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    assert!(answer.header("x-request-id").is_some());
    let body = answer.json();
    let token = body["access_token"].as_str().unwrap();
    assert!(
        Token::parse(token).is_ok(),
        "not of the form {}",
        token::PATTERN
    );
    let expected = json!({ "access_token": token, "token_type": "Bearer", "expires_in": 86400, "user_id": id });
    assert_eq!(body, expected);

    assert_eq!(app.check(token).await.json()["user_id"], id);
    let user = app.users.find("alice").await.unwrap().unwrap();
    assert!(user.last_login_at.is_some());
}

#[rstest]
#[tokio::test]
async fn every_login_gets_a_token_of_its_own(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let first = app.token("alice").await;
    // A client can't choose: a token that it sends is ignored.
    let request = login()
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {first}"))
        .body(Body::from(
            json!({ "username": "alice", "password": PASSWORD }).to_string(),
        ));
    let second = app.send(request.unwrap()).await.json();
    let second = second["access_token"].as_str().unwrap();
    assert_ne!(first, second);
    assert_eq!(app.check(&first).await.status, 200);
    assert_eq!(app.check(second).await.status, 200);
}

#[rstest]
#[case::as_stored("alice")]
#[case::upper_case("ALICE")]
#[case::mixed("aLiCe")]
#[case::full_width("\u{ff21}lice")]
#[tokio::test]
async fn all_spellings_of_a_name_are_one_user(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] spelling: &str,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    assert_eq!(app.log_in(spelling, PASSWORD).await.json()["user_id"], id);
}

/// What is the same for all refusals: everything but the id of the request.
fn fingerprint(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let id = answer.header("x-request-id").unwrap();
    let headers = answer
        .headers
        .iter()
        .filter(|(name, _)| *name != "x-request-id");
    let headers = headers
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    (
        answer.status.as_u16(),
        headers,
        answer.text().replace(id, "ID"),
    )
}

#[rstest]
#[tokio::test]
async fn refusals_are_the_same_to_the_byte_and_cost_the_same(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let hash = app.hash(PASSWORD).await;
    let user = |name: &str, hash: Option<SecretString>, disabled| NewUser {
        username: name.to_owned(),
        password_hash: hash,
        is_admin: false,
        disabled,
    };
    app.insert(user("disabled", Some(hash), true)).await;
    app.insert(user("without-password", None, false)).await;
    app.insert(user("unknown-kind", Some("$md5$abc".into()), false))
        .await;
    app.insert(user("empty-hash", Some("".into()), false)).await;
    // 4 GiB, a million passes: refused before memory is touched.
    let beyond = "$argon2id$v=19$m=4194304,t=1000000,p=1$c2FsdHNhbHRzYWx0c2FsdA\
                  $oSqnOTeAPDn8nReciTUuGN6v79vahHEllrNA3gPACpM";
    app.insert(user("beyond-bounds", Some(beyond.into()), false))
        .await;

    let mut seen = Vec::new();
    for (name, password) in [
        ("alice", "wrong password of some length"),
        ("nobody", PASSWORD),
        ("disabled", PASSWORD),
        ("disabled", "wrong password of some length"),
        ("without-password", PASSWORD),
        ("unknown-kind", PASSWORD),
        ("empty-hash", PASSWORD),
        ("beyond-bounds", PASSWORD),
    ] {
        let before = app.hash_runs();
        let answer = app.log_in(name, password).await;
        assert_eq!(app.hash_runs() - before, 1, "{name}: exactly one run");
        answer.problem(401, "invalid-credentials");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        seen.push(fingerprint(&answer));
    }
    assert!(seen.windows(2).all(|pair| pair[0] == pair[1]), "{seen:#?}");
    assert_eq!(
        app.metric("claviger_logins_total{outcome=\"refused\"}")
            .await,
        8
    );
}

#[rstest]
#[tokio::test]
async fn a_successful_login_is_one_run(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let before = app.hash_runs();
    app.token("alice").await;
    assert_eq!(app.hash_runs() - before, 1);
    assert_eq!(
        app.metric("claviger_logins_total{outcome=\"success\"}")
            .await,
        1
    );
    assert_eq!(app.metric("claviger_tokens_issued_total").await, 1);
}

#[rstest]
#[tokio::test]
async fn a_hash_of_another_cost_is_replaced_at_login(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let old = TestApp::start(backend).await;
    let stale = old.hash(PASSWORD).await;
    let app = TestApp::start_with(backend, |config| config.password.iterations = 3).await;
    let new = NewUser {
        username: "alice".to_owned(),
        password_hash: Some(stale.clone()),
        is_admin: false,
        disabled: false,
    };
    app.insert(new).await;
    let stored = async || {
        app.users
            .find("alice")
            .await
            .unwrap()
            .unwrap()
            .password_hash
            .unwrap()
    };

    let before = app.hash_runs();
    app.log_in("alice", "wrong password of some length")
        .await
        .problem(401, "invalid-credentials");
    assert_eq!(
        app.hash_runs() - before,
        1,
        "a wrong password replaces nothing"
    );
    assert_eq!(stored().await.expose_secret(), stale.expose_secret());

    app.token("alice").await;
    assert_eq!(
        app.hash_runs() - before,
        3,
        "one to verify, one to hash anew"
    );
    let fresh = stored().await;
    assert!(
        fresh
            .expose_secret()
            .starts_with("$argon2id$v=19$m=8,t=3,p=1$")
    );

    app.token("alice").await;
    assert_eq!(app.hash_runs() - before, 4, "it is current now");
    assert_eq!(stored().await.expose_secret(), fresh.expose_secret());
}

#[rstest]
#[tokio::test]
async fn a_new_hash_is_argon2id_at_the_floor_of_owasp() {
    let app = TestApp::start_with(Backend::Embedded, |config| {
        config.password = claviger::config::Config::default().password;
    })
    .await;
    let (first, second) = (app.hash(PASSWORD).await, app.hash(PASSWORD).await);
    for hash in [&first, &second] {
        let parts: Vec<&str> = hash.expose_secret().split('$').collect();
        assert_eq!(parts[1..4], ["argon2id", "v=19", "m=19456,t=2,p=1"]);
        assert_eq!(parts[4].len(), 22, "16 bytes of salt");
        assert_eq!(parts[5].len(), 43, "32 bytes of output");
    }
    assert_ne!(
        first.expose_secret(),
        second.expose_secret(),
        "a salt of its own"
    );
}

#[rstest]
#[tokio::test]
async fn both_spellings_of_a_password_log_in_and_every_character_counts(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let insert = async |name: &str, password: &str| {
        let password_hash = Some(app.hash(password).await);
        let new = NewUser {
            username: name.to_owned(),
            password_hash,
            is_admin: false,
            disabled: false,
        };
        app.insert(new).await
    };
    insert("composed", "p\u{e4}ssw\u{f6}rter sind lang").await;
    assert_eq!(
        app.log_in("composed", "p\u{e4}ssw\u{f6}rter sind lang")
            .await
            .status,
        200
    );
    assert_eq!(
        app.log_in("composed", "pa\u{308}sswo\u{308}rter sind lang")
            .await
            .status,
        200
    );

    insert("spaces", "  two  spaces  ").await;
    assert_eq!(app.log_in("spaces", "  two  spaces  ").await.status, 200);
    for wrong in [
        " two  spaces  ",
        "  two spaces  ",
        "  two  spaces ",
        "two  spaces",
    ] {
        assert_eq!(app.log_in("spaces", wrong).await.status, 401, "{wrong:?}");
    }

    let longest = "\u{1f435}".repeat(256);
    assert_eq!(longest.len(), 1024);
    insert("longest", &longest).await;
    assert_eq!(app.log_in("longest", &longest).await.status, 200);
    let last_differs = format!("{}\u{1f436}", "\u{1f435}".repeat(255));
    assert_eq!(app.log_in("longest", &last_differs).await.status, 401);
}

#[rstest]
#[tokio::test]
async fn twenty_logins_at_once_of_one_user_all_succeed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let tokens = futures_util::future::join_all((0..20).map(|_| app.token("alice"))).await;
    for token in &tokens {
        assert_eq!(app.check(token).await.status, 200);
    }
}

#[rstest]
#[tokio::test]
async fn a_token_lives_as_long_as_it_says(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.tokens.ttl = Duration::from_hours(12);
    })
    .await;
    app.user("alice").await;
    let answer = app.log_in("alice", PASSWORD).await.json();
    assert_eq!(answer["expires_in"], 43_200);
    let checked = app
        .check(answer["access_token"].as_str().unwrap())
        .await
        .json();
    let expires_in = checked["expires_in"].as_u64().unwrap();
    assert!((43_100..=43_200).contains(&expires_in), "{expires_in}");
}
