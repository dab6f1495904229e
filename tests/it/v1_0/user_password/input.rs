//! Bodies that are no change of a password: a client error, without a password being hashed.

use rstest::rstest;
use serde_json::{Value, json};

use super::NEW;
use crate::common::{Answer, Backend, PASSWORD, TestApp};

fn errors(problem: &Value) -> Vec<(&str, &str)> {
    let errors = problem["errors"].as_array().unwrap().iter();
    errors
        .map(|error| {
            let text = |name: &str| error[name].as_str().unwrap();
            (text("field"), text("message"))
        })
        .collect()
}

async fn put(app: &TestApp, token: &str, body: &str) -> Answer {
    app.put_password(token, "application/json", body.to_owned())
        .await
}

#[rstest]
#[case::both_missing("{}", &[("current_password", "is missing"), ("new_password", "is missing")])]
#[case::no_strings(
    r#"{"current_password":null,"new_password":["a"]}"#,
    &[("current_password", "must be a string"), ("new_password", "must be a string")]
)]
#[case::twice(
    r#"{"current_password":"a","new_password":1,"current_password":"a"}"#,
    &[("current_password", "is there twice"), ("new_password", "must be a string")]
)]
#[case::empty(
    r#"{"current_password":"","new_password":""}"#,
    &[("current_password", "must not be empty"), ("new_password", "must not be empty")]
)]
#[case::short(
    r#"{"current_password":"a","new_password":"fourteen chars"}"#,
    &[("new_password", "must have at least 15 characters")]
)]
#[case::control(
    r#"{"current_password":"correct horse battery staple","new_password":"more than 15\tcharacters"}"#,
    &[("new_password", "contains characters that are not allowed in a password, such as control characters")]
)]
#[tokio::test]
async fn all_that_is_wrong_is_told_at_once(#[case] body: &str, #[case] expected: &[(&str, &str)]) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let runs = app.hash_runs();
    let problem = put(&app, &token, body).await.problem(422, "invalid-input");
    assert_eq!(errors(&problem), expected);
    assert_eq!(app.hash_runs(), runs);
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
}

#[tokio::test]
async fn lengths_are_bounded() {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let longest = "\u{e9}\u{e8}".repeat(256);
    let answer = app.change_password(&token, PASSWORD, &longest).await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    let runs = app.hash_runs();
    let longer = format!("{longest}x");
    let problem = app
        .change_password(&token, &longer, &longer)
        .await
        .problem(422, "invalid-input");
    let too_long = "must have at most 1024 bytes";
    let expected = [("current_password", too_long), ("new_password", too_long)];
    assert_eq!(errors(&problem), expected);
    assert_eq!(app.hash_runs(), runs);

    // Every character of both escaped, and in the smallest body that can be configured.
    let app = TestApp::start_with(Backend::Embedded, |config| {
        config.server.body_limit = 13 * 1024;
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let escaped = "\\u0061".repeat(1023) + "\\u0062";
    let body = format!(r#"{{"current_password":"{escaped}","new_password":"{escaped}"}}"#);
    put(&app, &token, &body)
        .await
        .problem(403, "invalid-credentials");
}

#[tokio::test]
async fn the_policy_is_that_of_the_settings() {
    let app =
        TestApp::start_with(Backend::Embedded, |config| config.password.min_length = 20).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let problem = app
        .change_password(&token, PASSWORD, "nineteen characters")
        .await
        .problem(422, "invalid-input");
    let expected = [("new_password", "must have at least 20 characters")];
    assert_eq!(errors(&problem), expected);
    let answer = app
        .change_password(&token, PASSWORD, "these are twenty now")
        .await;
    assert_eq!(answer.status, 204, "{}", answer.text());
}

/// Security checklist, 39.
#[rstest]
#[case::one_character("               ", "must not be one character repeated")]
#[case::run(
    "23456789012345678",
    "must not be a run along the digits, the alphabet or the keys of a keyboard"
)]
#[case::username("AliceAliceAlice", "must not be the username, also not repeated")]
#[case::listed("1qaz2wsx3edc4rfv", "must not be on the list of common passwords")]
#[case::listed_twice("Trustno1Trustno1", "must not be a common password repeated")]
#[tokio::test]
async fn a_common_password_is_refused_with_the_reason(#[case] new: &str, #[case] message: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let runs = app.hash_runs();
    let problem = app
        .change_password(&token, PASSWORD, new)
        .await
        .problem(422, "invalid-input");
    assert_eq!(errors(&problem), [("new_password", message)]);
    assert_eq!(app.hash_runs(), runs);
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
}

#[rstest]
#[case::form("application/x-www-form-urlencoded")]
#[case::text("text/plain")]
#[case::json_in_name_only("text/json")]
#[case::empty("")]
#[tokio::test]
async fn only_json_is_read(#[case] content_type: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let bodies = [
        json!({ "current_password": PASSWORD, "new_password": NEW }).to_string(),
        format!(
            "current_password={}&new_password={}",
            PASSWORD.replace(' ', "+"),
            NEW.replace(' ', "+")
        ),
    ];
    for body in bodies {
        let answer = app.put_password(&token, content_type, body).await;
        let problem = answer.problem(415, "unsupported-media-type");
        assert_eq!(problem["detail"], "Send application/json.");
    }
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
}

#[rstest]
#[case::empty("")]
#[case::cut_off(r#"{"current_password":"a""#)]
#[case::array("[]")]
#[case::lone_surrogate(r#"{"current_password":"\ud800","new_password":"b"}"#)]
#[case::trailing(r#"{"current_password":"a","new_password":"b"} x"#)]
#[tokio::test]
async fn malformed_json(#[case] body: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    put(&app, &token, body).await.problem(400, "malformed-body");
}

#[tokio::test]
async fn other_fields_are_ignored_and_a_body_over_the_limit_is_not_read() {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let body = json!({
        "current_password": PASSWORD,
        "new_password": NEW,
        "password": "x",
        "user_id": [7],
    });
    assert_eq!(put(&app, &token, &body.to_string()).await.status, 204);
    let large = "x".repeat(app.config.server.body_limit + 1);
    put(&app, &token, &large)
        .await
        .problem(413, "payload-too-large");
}

#[tokio::test]
async fn no_answer_repeats_what_was_typed() {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    for body in [
        r#"{"current_password":"Sesame-0pen","new_password":"Sesame-0pen"}"#,
        r#"{"current_password":"Sesame-0pen\t","new_password":"Sesame-0pen Sesame-0pen\t"}"#,
        r#"{"current_password":"Sesame-0pen","new_password":"Sesame-0pen Sesame-0pen"}"#,
        r#"{"current_password":"Sesame-0pen""#,
        r#"{"Sesame-0pen":"Sesame-0pen"}"#,
    ] {
        let answer = put(&app, &token, body).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        assert!(!answer.text().contains("Sesame"), "{}", answer.text());
    }
}
