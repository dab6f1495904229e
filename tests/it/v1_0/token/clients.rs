//! Who may ask at all, and how it is said that somebody may not.

use axum::body::Body;
use axum::http::Request;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use rstest::rstest;

use super::*;

#[rstest]
#[case::encoded(encoded("gate", SECRET))]
#[case::not_encoded(basic("gate", SECRET))]
#[case::lower_case_digits(basic(
    "%67ate",
    &utf8_percent_encode(SECRET, NON_ALPHANUMERIC).to_string().to_lowercase()
))]
#[case::another_case(encoded("gate", SECRET).replacen("Basic", "bASIC", 1))]
#[case::more_blanks(encoded("gate", SECRET).replacen(' ', "   ", 1))]
#[case::another_client(encoded("other.gate-2", "the secret of another client"))]
#[tokio::test]
async fn a_registered_client_may_ask(#[case] header: String) {
    let app = start(Backend::Embedded).await;
    let form = format!("token={}", unknown());
    let answer = post(&app, INTROSPECT, &[&header], FORM, form.clone()).await;
    inactive(&answer);
    let answer = post(&app, REVOKE, &[&header], FORM, form).await;
    assert_eq!(answer.status, 200);
}

#[rstest]
#[case::none(&[])]
#[case::wrong_secret(&[encoded("gate", "100% of +1: %41 & \"so on\"=~/?")])]
#[case::secret_decoded_once_more(&[basic("gate", "100% of +1: A & \"so on\"=~/?#")])]
#[case::no_secret(&[encoded("gate", "")])]
#[case::no_colon(&[format!("Basic {}", STANDARD.encode("gate"))])]
#[case::secret_of_another(&[encoded("gate", "the secret of another client")])]
#[case::unknown(&[encoded("gates", SECRET)])]
#[case::upper_case(&[encoded("GATE", SECRET)])]
#[case::nobody(&[encoded("", "")])]
#[case::no_base64(&[format!("Basic gate:{SECRET}")])]
#[case::no_utf8(&[format!("Basic {}", STANDARD.encode(b"gate:\xff"))])]
#[case::bearer(&[basic("gate", SECRET).replace("Basic", "Bearer")])]
#[case::twice(&[encoded("gate", SECRET), encoded("gate", SECRET)])]
#[case::list(&[format!("{0}, {0}", encoded("gate", SECRET))])]
#[tokio::test]
async fn nobody_else_may(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] headers: &[String],
) {
    let app = start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
    let in_body = format!(
        "token={token}&client_id=gate&client_secret={}",
        form_urlencoded::byte_serialize(SECRET.as_bytes()).collect::<String>()
    );
    for path in [INTROSPECT, REVOKE] {
        // Before anything else is looked at.
        for (content_type, body) in [(FORM, in_body.as_str()), ("text/plain", "")] {
            let answer = post(&app, path, &headers, content_type, body.to_owned()).await;
            let problem = answer.problem(401, "invalid-client");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Basic realm=\"claviger\"")
            );
            assert_eq!(problem["error"], "invalid_client");
            assert_eq!(problem["error_description"], problem["detail"]);
        }
    }
    assert_eq!(app.check(&token).await.status, 200, "nothing was revoked");
    assert_eq!(
        app.metric("claviger_token_checks_total{outcome=\"valid\"}")
            .await,
        1,
        "nothing was told"
    );
}

#[tokio::test]
async fn without_registered_clients_there_is_nobody() {
    let app = TestApp::start(Backend::Embedded).await;
    for header in [
        encoded("gate", SECRET),
        encoded("", ""),
        encoded("gate", ""),
    ] {
        let answer = post(&app, INTROSPECT, &[&header], FORM, "token=x").await;
        answer.problem(401, "invalid-client");
    }
}

#[tokio::test]
async fn the_token_of_a_user_is_no_client() {
    let app = start(Backend::Embedded).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let bearer = format!("Bearer {token}");
    for path in [INTROSPECT, REVOKE] {
        let answer = post(&app, path, &[&bearer], FORM, format!("token={token}")).await;
        answer.problem(401, "invalid-client");
    }
    assert_eq!(app.check(&token).await.status, 200);
}

/// Unknown and known clients are refused alike, to the byte.
#[tokio::test]
async fn refusals_do_not_tell_which_clients_there_are() {
    let app = start(Backend::Embedded).await;
    let mut seen = Vec::new();
    for name in ["gate", "nobody"] {
        let header = encoded(name, "twenty characters and more");
        let answer = post(&app, INTROSPECT, &[&header], FORM, "token=x").await;
        let id = answer.header("x-request-id").unwrap().to_owned();
        let mut headers = answer.headers.clone();
        headers.remove("x-request-id");
        seen.push((headers, answer.text().replace(&id, "ID")));
    }
    assert_eq!(seen[0], seen[1]);
}

#[rstest]
#[case::missing(FORM, "", 422, "invalid-input")]
#[case::missing_among_others(FORM, "tokens=x&token_type_hint=access_token", 422, "invalid-input")]
#[case::twice(FORM, "token=x&token=x", 422, "invalid-input")]
#[case::twice_encoded(FORM, "token=x&%74oken=y", 422, "invalid-input")]
#[case::not_utf8(FORM, "token=%ff", 400, "malformed-body")]
#[case::json("application/json", r#"{"token":"x"}"#, 415, "unsupported-media-type")]
#[case::text("text/plain", "token=x", 415, "unsupported-media-type")]
#[case::no_type("", "token=x", 415, "unsupported-media-type")]
#[tokio::test]
async fn a_body_that_is_no_question_is_refused_in_the_words_of_oauth(
    #[values(INTROSPECT, REVOKE)] path: &str,
    #[case] content_type: &str,
    #[case] body: &str,
    #[case] status: u16,
    #[case] code: &str,
) {
    let app = start(Backend::Embedded).await;
    let header = encoded("gate", SECRET);
    let answer = post(&app, path, &[&header], content_type, body.to_owned()).await;
    let problem = answer.problem(status, code);
    assert_eq!(problem["error"], "invalid_request");
    assert_eq!(problem["error_description"], problem["detail"]);
    if status == 422 {
        assert_eq!(problem["errors"][0]["field"], "token");
    }
    if status == 415 {
        assert_eq!(problem["detail"], "Send application/x-www-form-urlencoded.");
    }
}

#[rstest]
#[tokio::test]
async fn every_problem_here_speaks_oauth(#[values("", "/api", "//api/")] prefix: &str
) {
    let app = start(Backend::Embedded).await;
    for (method, path, status, code) in [
        ("GET", "/v1.0/token/introspect", 405, "method-not-allowed"),
        ("DELETE", "/v1.0/token/revoke", 405, "method-not-allowed"),
        ("POST", "/v1.0/token/nothing", 404, "not-found"),
        ("GET", "/v1.0/token/introspect/", 404, "not-found"),
    ] {
        let answer = app.call(method, &format!("{prefix}{path}")).await;
        let problem = answer.problem(status, code);
        assert_eq!(problem["error"], "invalid_request", "{method} {path}");
        assert_eq!(problem["error_description"], problem["detail"]);
    }
    let large = "x".repeat(app.config.server.body_limit + 1);
    let path = format!("{prefix}{INTROSPECT}");
    let answer = ask(&app, &path, &large).await;
    let problem = answer.problem(413, "payload-too-large");
    assert_eq!(problem["error"], "invalid_request");

    // And no other does.
    for path in ["/v1.0/tokens/introspect", "/v1.0/token", "/v1.0/user/auth"] {
        let problem = app.call("GET", path).await.json();
        assert!(problem.get("error").is_none(), "{path}");
    }
    for (method, path) in [
        ("PUT", "/v1.0/user/password"),
        ("GET", "/v1.0/user/sessions"),
        ("GET", "/v1.0/token"),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", FORM);
        let answer = app.send(request.body(Body::empty()).unwrap()).await;
        assert!(answer.json().get("error").is_none(), "{path}");
    }
}

#[tokio::test]
async fn a_slow_body_is_told_in_the_words_of_oauth() {
    let app = TestApp::start_with(Backend::Embedded, |config| {
        register(config);
        config.server.request_timeout = std::time::Duration::from_millis(50);
    })
    .await;
    let never = Body::from_stream(futures_util::stream::pending::<
        Result<Vec<u8>, std::io::Error>,
    >());
    let request = Request::post(REVOKE)
        .header("content-type", FORM)
        .header("authorization", encoded("gate", SECRET));
    let answer = app.send(request.body(never).unwrap()).await;
    let problem = answer.problem(408, "request-timeout");
    assert_eq!(problem["error"], "invalid_request");
}
