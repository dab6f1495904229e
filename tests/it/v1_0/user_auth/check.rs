//! Checking a token, and ending it.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use claviger::auth::token::Token;
use rstest::rstest;
use serde_json::json;

use crate::common::{Answer, Backend, TestApp};

async fn with_headers(app: &TestApp, values: &[&[u8]]) -> Answer {
    let mut request = Request::get("/v1.0/user/auth");
    for value in values {
        request = request.header("authorization", HeaderValue::from_bytes(value).unwrap());
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

#[rstest]
#[tokio::test]
async fn a_live_token_tells_its_holder(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;

    let answer = app.check(&token).await;

    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("x-user-id"), Some(id.to_string().as_str()));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let expires_in = answer.json()["expires_in"].as_u64().unwrap();
    assert!((86_300..=86_400).contains(&expires_in), "{expires_in}");
    assert_eq!(
        answer.json(),
        json!({ "user_id": id, "expires_in": expires_in })
    );
    assert_eq!(
        app.metric("claviger_token_checks_total{outcome=\"valid\"}")
            .await,
        1
    );

    // HEAD is GET without a body (RFC 9110, section 9.3.2).
    let request =
        Request::head("/v1.0/user/auth").header("authorization", format!("Bearer {token}"));
    let head = app.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((head.status.as_u16(), head.text().as_str()), (200, ""));
}

#[rstest]
#[tokio::test]
async fn a_token_that_was_never_issued_is_invalid(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let answer = app.check(Token::generate().expose()).await;
    answer.problem(401, "invalid-token");
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
    assert_eq!(answer.header("x-user-id"), None);
    assert_eq!(
        app.metric("claviger_token_checks_total{outcome=\"invalid\"}")
            .await,
        1
    );
}

#[rstest]
#[case::none(&[])]
#[case::another_scheme(&[&b"Basic Y2xpZW50OnNlY3JldA=="[..]])]
#[case::no_scheme(&[&b"clv_x"[..]])]
#[case::empty(&[&b"Bearer "[..]])]
#[case::no_space(&[&b"Bearer"[..]])]
#[tokio::test]
async fn a_request_without_a_token_misses_it(#[case] headers: &[&[u8]]) {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = with_headers(&app, headers).await;
    answer.problem(401, "missing-token");
    // RFC 6750, section 3.1: no error code where no token was sent.
    assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
}

#[rstest]
#[case::junk(&[&b"Bearer x"[..]])]
#[case::bytes(&[&b"Bearer \xff"[..]])]
#[tokio::test]
async fn a_malformed_token_is_invalid(#[case] headers: &[&[u8]]) {
    let app = TestApp::start(Backend::Embedded).await;
    with_headers(&app, headers)
        .await
        .problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn one_header_of_any_case_is_read_and_two_are_refused(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    for header in [
        format!("bearer {token}"),
        format!("BEARER   {token}"),
        format!("Bearer {token} "),
    ] {
        assert_eq!(
            with_headers(&app, &[header.as_bytes()]).await.status,
            200,
            "{header:?}"
        );
    }
    let header = format!("Bearer {token}");
    let twice = [header.as_bytes(), header.as_bytes()];
    with_headers(&app, &twice)
        .await
        .problem(401, "invalid-token");
    let list = format!("Bearer {token}, Bearer {token}");
    with_headers(&app, &[list.as_bytes()])
        .await
        .problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn a_token_in_the_query_is_not_read(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let answer = app
        .call("GET", &format!("/v1.0/user/auth?access_token={token}"))
        .await;
    answer.problem(401, "missing-token");
}

#[rstest]
#[tokio::test]
async fn a_mistyped_token_asks_no_store() {
    // The store is away, so asking it would be a 503.
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = "redis://127.0.0.1:1".into();
        config.tokens.timeout = std::time::Duration::from_millis(500);
    })
    .await;
    let token = Token::generate().expose().to_owned();
    app.check(&token)
        .await
        .problem(503, "dependency-unavailable");
    let last = if token.ends_with('0') { '1' } else { '0' };
    let mistyped = format!("{}{last}", &token[..token.len() - 1]);
    app.check(&mistyped).await.problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn a_token_is_dead_when_logging_out_has_answered(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);

    let answer = app.log_out(&token).await;

    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
    app.check(&token).await.problem(401, "invalid-token");
    assert_eq!(app.check(&other).await.status, 200, "only this one ends");
    app.log_out(&token).await.problem(401, "invalid-token");
    app.log_out("clv_x").await.problem(401, "invalid-token");
    app.call("DELETE", "/v1.0/user/auth")
        .await
        .problem(401, "missing-token");
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 1);
}
