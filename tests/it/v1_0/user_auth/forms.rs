//! Logins as a form, for OAuth 2 password clients, and never from another site.

use axum::body::Body;
use rstest::rstest;

use crate::common::{Answer, Backend, PASSWORD, TestApp, login};

fn form(password: &str) -> String {
    format!("username=alice&password={}", password.replace(' ', "+"))
}

async fn with_headers(app: &TestApp, headers: &[(&str, &str)], content_type: &str) -> Answer {
    let mut request = login().header("content-type", content_type);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let body = if content_type.contains("json") {
        format!(r#"{{"username":"alice","password":"{PASSWORD}"}}"#)
    } else {
        form(PASSWORD)
    };
    app.send(request.body(Body::from(body)).unwrap()).await
}

const FORM: &str = "application/x-www-form-urlencoded";

#[rstest]
#[tokio::test]
async fn a_form_logs_in(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    for body in [
        form(PASSWORD),
        format!(
            "grant_type=password&{}&scope=read&client_id=x",
            form(PASSWORD)
        ),
        "username=%61lice&password=correct%20horse+battery%20staple".to_owned(),
        format!("&&{}&", form(PASSWORD)),
    ] {
        let answer = app.post_form(&body).await;
        assert_eq!(answer.status, 200, "{body}: {}", answer.text());
        assert_eq!(answer.json()["user_id"], id);
    }
    // An OAuth client may authenticate itself; that is not looked at.
    let answer = with_headers(
        &app,
        &[("authorization", "Basic Y2xpZW50OnNlY3JldA==")],
        FORM,
    )
    .await;
    assert_eq!(answer.status, 200);
}

#[rstest]
#[case::wrong_password(
    "username=alice&password=wrong",
    401,
    "invalid-credentials",
    "invalid_grant"
)]
#[case::grant_type(
    "username=alice&password=b&grant_type=client_credentials",
    422,
    "invalid-input",
    "unsupported_grant_type"
)]
#[case::empty_grant_type(
    "username=a&password=b&grant_type=",
    422,
    "invalid-input",
    "unsupported_grant_type"
)]
#[case::missing("username=alice", 422, "invalid-input", "invalid_request")]
#[case::empty("", 422, "invalid-input", "invalid_request")]
#[case::twice(
    "username=a&username=b&password=c",
    422,
    "invalid-input",
    "invalid_request"
)]
#[case::not_utf8("username=%ff&password=b", 400, "malformed-body", "invalid_request")]
#[tokio::test]
async fn a_refused_form_speaks_oauth(
    #[case] body: &str,
    #[case] status: u16,
    #[case] code: &str,
    #[case] error: &str,
) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let problem = app.post_form(body).await.problem(status, code);
    assert_eq!(problem["error"], error);
    assert!(
        problem["error_description"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
}

#[tokio::test]
async fn a_refused_json_login_does_not() {
    let app = TestApp::start(Backend::Embedded).await;
    let problem = app
        .log_in("alice", PASSWORD)
        .await
        .problem(401, "invalid-credentials");
    assert!(problem.get("error").is_none() && problem.get("error_description").is_none());
}

#[rstest]
#[case::no_browser(&[])]
#[case::same_site(&[("host", "example.org"), ("origin", "https://example.org")])]
#[case::port_dropped_by_a_proxy(&[("host", "example.org"), ("origin", "https://example.org:8443")])]
#[case::another_case(&[("host", "Example.ORG"), ("origin", "https://example.org")])]
#[case::fetched(&[("host", "example.org"), ("origin", "https://example.org"), ("sec-fetch-site", "same-origin")])]
#[case::typed_by_the_user(&[("sec-fetch-site", "none")])]
#[tokio::test]
async fn a_form_from_the_same_site_logs_in(#[case] headers: &[(&str, &str)]) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let answer = with_headers(&app, headers, FORM).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
}

#[rstest]
#[case::another_host(&[("host", "example.org"), ("origin", "https://evil.example")])]
#[case::suffix(&[("host", "example.org"), ("origin", "https://evil-example.org")])]
#[case::null(&[("host", "example.org"), ("origin", "null")])]
#[case::no_uri(&[("host", "example.org"), ("origin", "\u{e4}")])]
#[case::cross_site(&[("sec-fetch-site", "cross-site")])]
#[case::same_site_other_origin(&[("sec-fetch-site", "same-site")])]
#[case::both(&[("host", "example.org"), ("origin", "https://example.org"), ("sec-fetch-site", "cross-site")])]
#[tokio::test]
async fn a_form_from_another_site_is_forbidden(#[case] headers: &[(&str, &str)]) {
    let app = TestApp::start(Backend::Embedded).await;
    app.user("alice").await;
    let before = app.hash_runs();
    with_headers(&app, headers, FORM)
        .await
        .problem(403, "forbidden");
    assert_eq!(app.hash_runs(), before, "a web page must not burn attempts");
    // JSON needs a preflight, which no header of ours ever allows.
    assert_eq!(
        with_headers(&app, headers, "application/json").await.status,
        200
    );
}

#[tokio::test]
async fn no_answer_has_cors_headers() {
    let app = TestApp::start(Backend::Embedded).await;
    let request = axum::http::Request::options("/v1.0/user/auth")
        .header("origin", "https://evil.example")
        .header("access-control-request-method", "POST");
    let answer = app.send(request.body(Body::empty()).unwrap()).await;
    answer.problem(405, "method-not-allowed");
    assert!(
        answer
            .headers
            .keys()
            .all(|name| !name.as_str().starts_with("access-control"))
    );
}
