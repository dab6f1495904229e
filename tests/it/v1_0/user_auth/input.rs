//! Bodies that are no login: a client error in our shape, without a password being hashed.

use axum::body::Body;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{Backend, PASSWORD, TestApp, login};

/// Asserts that the body is refused, and that nothing was hashed or looked up for it.
async fn refuse(app: &TestApp, body: impl Into<Body>, status: u16, code: &str) -> Value {
    let before = app.hash_runs();
    let problem = app
        .post("application/json", body)
        .await
        .problem(status, code);
    assert_eq!(app.hash_runs(), before);
    problem
}

fn fields(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().unwrap();
    assert!(
        errors
            .iter()
            .all(|error| !error["message"].as_str().unwrap().is_empty())
    );
    errors
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect()
}

#[rstest]
#[case::both_missing("{}", &["username", "password"])]
#[case::password_missing(r#"{"username":"a"}"#, &["password"])]
#[case::username_missing(r#"{"password":"a"}"#, &["username"])]
#[case::null(r#"{"username":null,"password":null}"#, &["username", "password"])]
#[case::number(r#"{"username":1,"password":1.5}"#, &["username", "password"])]
#[case::boolean(r#"{"username":true,"password":"a"}"#, &["username"])]
#[case::array(r#"{"username":["a"],"password":"a"}"#, &["username"])]
#[case::object(r#"{"username":"a","password":{"$ne":""}}"#, &["password"])]
#[case::twice(r#"{"username":"a","username":"b","password":"a"}"#, &["username"])]
#[case::twice_the_same(r#"{"username":"a","password":"b","password":"b"}"#, &["password"])]
#[case::empty_name(r#"{"username":"","password":"a"}"#, &["username"])]
#[case::empty_password(r#"{"username":"a","password":""}"#, &["password"])]
#[case::nul(r#"{"username":"a\u0000","password":"a"}"#, &["username"])]
#[case::space_in_name(r#"{"username":"a b","password":"a"}"#, &["username"])]
#[case::padded_name(r#"{"username":" alice ","password":"a"}"#, &["username"])]
#[case::control_in_password(r#"{"username":"a","password":"a\tb"}"#, &["password"])]
#[case::both_wrong(r#"{"username":"","password":""}"#, &["username", "password"])]
#[tokio::test]
async fn invalid_fields(#[case] body: String, #[case] expected: &[&str]) {
    let app = TestApp::start(Backend::Embedded).await;
    let problem = refuse(&app, body, 422, "invalid-input").await;
    assert_eq!(fields(&problem), expected);
    assert_eq!(
        app.metric("claviger_logins_total{outcome=\"invalid\"}")
            .await,
        1
    );
}

#[rstest]
#[case::empty("")]
#[case::not_json("username=alice")]
#[case::cut_off(r#"{"username":"a""#)]
#[case::trailing(r#"{"username":"a","password":"b"} x"#)]
#[case::array("[]")]
#[case::string("\"a\"")]
#[case::null("null")]
#[case::lone_surrogate(r#"{"username":"a","password":"\ud800"}"#)]
#[case::raw_control("{\"username\":\"a\nb\",\"password\":\"b\"}")]
#[case::bad_escape(r#"{"username":"\x","password":"b"}"#)]
#[tokio::test]
async fn malformed_json(#[case] body: String) {
    let app = TestApp::start(Backend::Embedded).await;
    refuse(&app, body, 400, "malformed-body").await;
}

#[tokio::test]
async fn bytes_that_are_no_utf8_are_malformed() {
    let app = TestApp::start(Backend::Embedded).await;
    refuse(
        &app,
        &b"{\"username\":\"\xff\",\"password\":\"b\"}"[..],
        400,
        "malformed-body",
    )
    .await;
}

#[tokio::test]
async fn nesting_costs_nothing() {
    let app = TestApp::start(Backend::Embedded).await;
    let deep = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let body = format!(r#"{{"username":{},"password":"b"}}"#, deep(5_000));
    assert!(matches!(
        app.post_json(&body).await.status.as_u16(),
        400 | 422
    ));
    let body = format!(r#"{{"x":{},"username":1,"password":"b"}}"#, deep(5_000));
    assert!(matches!(
        app.post_json(&body).await.status.as_u16(),
        400 | 422
    ));
    assert!(matches!(
        app.post_json(&deep(5_000)).await.status.as_u16(),
        400 | 422
    ));
}

#[tokio::test]
async fn other_fields_are_ignored() {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let body = json!({ "username": "alice", "password": PASSWORD, "user_id": 7, "remember": [] });
    assert_eq!(app.post_json(&body.to_string()).await.status, 200);
}

#[tokio::test]
async fn lengths_are_bounded() {
    let app = TestApp::start(Backend::Embedded).await;
    let body =
        |name: &str, password: &str| json!({ "username": name, "password": password }).to_string();
    let name = "a".repeat(254);
    assert_eq!(app.post_json(&body(&name, "b")).await.status, 401);
    let problem = refuse(&app, body(&"a".repeat(255), "b"), 422, "invalid-input").await;
    assert_eq!(fields(&problem), ["username"]);

    assert_eq!(
        app.post_json(&body("a", &"b".repeat(1024))).await.status,
        401
    );
    let problem = refuse(&app, body("a", &"b".repeat(1025)), 422, "invalid-input").await;
    assert_eq!(fields(&problem), ["password"]);
}

#[tokio::test]
async fn a_body_over_the_limit_is_not_read() {
    let app = TestApp::start(Backend::Embedded).await;
    let limit = app.config.server.body_limit;
    let padded = |length: usize| {
        let start = r#"{"username":"a","password":"b""#;
        format!("{start}{}}}", " ".repeat(length - start.len() - 1))
    };
    assert_eq!(app.post_json(&padded(limit)).await.status, 401);
    refuse(&app, padded(limit + 1), 413, "payload-too-large").await;
    refuse(&app, vec![b'x'; 1 << 20], 413, "payload-too-large").await;

    // One that doesn't say how long it is.
    let chunks = (0..100).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024]));
    let body = Body::from_stream(futures_util::stream::iter(chunks));
    refuse(&app, body, 413, "payload-too-large").await;
}

#[rstest]
#[case::text("text/plain")]
#[case::xml("application/xml")]
#[case::multipart("multipart/form-data; boundary=x")]
#[case::json_in_name_only("text/json")]
#[case::empty("")]
#[tokio::test]
async fn other_types_are_refused(#[case] content_type: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    app.post(content_type, body)
        .await
        .problem(415, "unsupported-media-type");
}

#[tokio::test]
async fn a_body_without_a_type_is_refused() {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = app.send(login().body(Body::from("{}")).unwrap()).await;
    answer.problem(415, "unsupported-media-type");
}

#[rstest]
#[case("application/json; charset=utf-8")]
#[case("Application/JSON")]
#[case("application/json;")]
#[tokio::test]
async fn json_has_parameters_and_any_case(#[case] content_type: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let body = json!({ "username": "alice", "password": PASSWORD }).to_string();
    assert_eq!(app.post(content_type, body).await.status, 200);
}

#[tokio::test]
async fn credentials_in_the_query_are_not_read() {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let uri = format!(
        "/v1.0/user/auth?username=alice&password={}",
        PASSWORD.replace(' ', "+")
    );
    let request = axum::http::Request::post(uri).header("content-type", "application/json");
    let problem = app
        .send(request.body(Body::from("{}")).unwrap())
        .await
        .problem(422, "invalid-input");
    assert_eq!(fields(&problem), ["username", "password"]);
}

#[tokio::test]
async fn no_answer_repeats_what_was_typed() {
    let app = TestApp::start(Backend::Embedded).await;
    for body in [
        r#"{"username":"Sesame-0pen \u0000","password":"Sesame-0pen\t"}"#,
        r#"{"username":"Sesame-0pen","password":"Sesame-0pen""#,
        r#"{"username":"Sesame-0pen","password":"Sesame-0pen"}"#,
        r#"{"Sesame-0pen":"Sesame-0pen"}"#,
        "Sesame-0pen",
    ] {
        let answer = app.post_json(body).await;
        assert!(!answer.text().contains("Sesame"), "{}", answer.text());
    }
}
