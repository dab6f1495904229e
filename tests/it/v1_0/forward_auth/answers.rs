//! What is asked, and that nothing but the token counts.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use claviger::auth::token::Token;
use rstest::rstest;

use super::{ask, ask_with, understood};
use crate::common::{Answer, Backend, TestApp};

/// Every way to ask, each with the template of its route.
const PATHS: [(&str, &str); 13] = [
    ("/v1.0/forward-auth", "/v1.0/forward-auth"),
    ("/api/v1.0/forward-auth", "/v1.0/forward-auth"),
    ("//v1.0/forward-auth?x=//y", "/v1.0/forward-auth"),
    ("/v1.0/forward-auth/", "/v1.0/forward-auth/"),
    ("/api//v1.0/forward-auth/?", "/v1.0/forward-auth/"),
    ("/v1.0/forward-auth/x", "/v1.0/forward-auth/{*rest}"),
    ("/api/v1.0/forward-auth/api/x", "/v1.0/forward-auth/{*rest}"),
    ("/v1.0/forward-auth//", "/v1.0/forward-auth/{*rest}"),
    ("/v1.0/forward-auth//x//y/?z", "/v1.0/forward-auth/{*rest}"),
    (
        "/v1.0/forward-auth/../user/auth",
        "/v1.0/forward-auth/{*rest}",
    ),
    (
        "/v1.0/forward-auth/%2e%2e/%2F%00%ff",
        "/v1.0/forward-auth/{*rest}",
    ),
    ("/v1.0/forward-auth/*", "/v1.0/forward-auth/{*rest}"),
    ("/v1.0/forward-auth/{*rest}", "/v1.0/forward-auth/{*rest}"),
];

/// What methods there are, each with its label.
const METHODS: [(&str, &str); 10] = [
    ("GET", "GET"),
    ("HEAD", "HEAD"),
    ("POST", "POST"),
    ("PUT", "PUT"),
    ("PATCH", "PATCH"),
    ("DELETE", "DELETE"),
    ("OPTIONS", "OPTIONS"),
    ("TRACE", "TRACE"),
    ("PROPFIND", "other"),
    ("get", "other"),
];

#[rstest]
#[tokio::test]
async fn any_method_and_any_path_below_is_one_question(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await.to_string();
    let bearer = format!("Bearer {}", app.token("alice").await);
    let mut asked = 0;
    for (path, route) in PATHS {
        for (method, label) in METHODS {
            let alive = ask_with(&app, method, path, &[("authorization", &bearer)]).await;
            assert_eq!(
                understood(&alive, 200),
                Some(id.as_str()),
                "{method} {path}"
            );
            let nobody = ask_with(&app, method, path, &[]).await;
            understood(&nobody, 401);
            assert_eq!(nobody.header("www-authenticate"), Some("Bearer"));
            asked += 1;
            for status in [200, 401] {
                let series = format!(
                    "claviger_http_requests_total{{method=\"{label}\",route=\"{route}\",status=\"{status}\"}}"
                );
                assert!(app.metric(&series).await > 0, "{series}");
            }
        }
    }
    // A check is a check, whoever asks.
    for outcome in ["valid", "invalid"] {
        let series = format!("claviger_token_checks_total{{outcome=\"{outcome}\"}}");
        assert_eq!(app.metric(&series).await, asked);
    }
}

#[rstest]
#[case::prefix_of_a_word("/v1.0/forward-authority")]
#[case::inner_slash("/v1.0//forward-auth")]
#[case::encoded("/v1.0/forward%2Dauth")]
#[case::case("/v1.0/Forward-Auth")]
#[case::prefix_twice("/api/api/v1.0/forward-auth")]
#[case::dots("/x/../v1.0/forward-auth")]
#[tokio::test]
async fn what_is_not_below_is_not_found(#[case] path: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    app.call("GET", path).await.problem(404, "not-found");
}

async fn with_authorization(app: &TestApp, values: &[&[u8]]) -> Answer {
    let mut request = Request::get("/v1.0/forward-auth");
    for value in values {
        request = request.header("authorization", HeaderValue::from_bytes(value).unwrap());
    }
    app.send(request.body(Body::empty()).unwrap()).await
}

#[rstest]
#[case::none(&[], "Bearer")]
#[case::another_scheme(&[&b"Basic Y2xpZW50OnNlY3JldA=="[..]], "Bearer")]
#[case::empty(&[&b""[..]], "Bearer")]
#[case::no_token(&[&b"Bearer "[..]], "Bearer")]
#[case::junk(&[&b"Bearer x"[..]], "Bearer error=\"invalid_token\"")]
#[case::bytes(&[&b"Bearer \xff"[..]], "Bearer error=\"invalid_token\"")]
#[case::twice(&[&b"Bearer x"[..], b"Bearer y"], "Bearer error=\"invalid_token\"")]
#[case::second_is_empty(&[&b"Bearer x"[..], b""], "Bearer error=\"invalid_token\"")]
#[tokio::test]
async fn without_one_good_token_it_is_401(#[case] headers: &[&[u8]], #[case] challenge: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = with_authorization(&app, headers).await;
    understood(&answer, 401);
    assert_eq!(answer.header("www-authenticate"), Some(challenge));
}

#[rstest]
#[tokio::test]
async fn two_headers_are_refused_even_if_both_are_good(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let good = format!("Bearer {}", app.token("alice").await);
    let good = good.as_bytes();
    understood(&with_authorization(&app, &[good]).await, 200);
    for headers in [&[good, good][..], &[good, b"Basic x"], &[b"", good]] {
        understood(&with_authorization(&app, headers).await, 401);
    }
}

#[rstest]
#[tokio::test]
async fn an_unknown_and_an_ended_token_are_401(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await.to_string();
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    understood(&ask(&app, Token::generate().expose()).await, 401);
    assert_eq!(understood(&ask(&app, &token).await, 200), Some(id.as_str()));
    assert_eq!(app.log_out(&token).await.status, 204);
    let answer = ask(&app, &token).await;
    understood(&answer, 401);
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));
    understood(&ask(&app, &other).await, 200);
}

/// What has switched a check off elsewhere, or named another user.
const CLAIMS: [(&str, &str); 22] = [
    ("x-user-id", "1"),
    ("x_user_id", "1"),
    ("x-forwarded-user", "1"),
    ("remote-user", "1"),
    ("x-forwarded-uri", "/v1.0/user/auth"),
    ("x-forwarded-uri", "/health"),
    ("x-forwarded-method", "OPTIONS"),
    ("x-forwarded-host", "localhost"),
    ("x-forwarded-proto", "https"),
    ("x-forwarded-for", "127.0.0.1"),
    ("x-forwarded-prefix", "/api"),
    ("x-original-url", "http://localhost/"),
    ("x-original-uri", "/"),
    ("x-original-method", "OPTIONS"),
    ("x-rewrite-url", "/"),
    ("x-http-method-override", "GET"),
    ("x-auth-request-redirect", "/"),
    (
        "user-agent",
        "GoogleHC/1.0 kube-probe/1.30 ELB-HealthChecker/2.0",
    ),
    ("origin", "null"),
    ("access-control-request-method", "GET"),
    ("cookie", "access_token=clv_x; X-User-Id=1"),
    ("connection", "upgrade, authorization, x-user-id"),
];

#[rstest]
#[tokio::test]
async fn nothing_but_the_token_counts(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    // Somebody else has the id that is claimed.
    assert_eq!(app.user("first").await, 1);
    let id = app.user("alice").await.to_string();
    let token = app.token("alice").await;
    let bearer = format!("Bearer {token}");
    let query = format!("/v1.0/forward-auth/health?access_token={token}&token={token}&x-user-id=1");

    for path in ["/v1.0/forward-auth", &query] {
        for count in 0..=CLAIMS.len() {
            // One after the other, and then all at once.
            let claims = CLAIMS.get(count..=count).unwrap_or(&CLAIMS);
            let nobody = ask_with(&app, "GET", path, claims).await;
            understood(&nobody, 401);
            let with_token = [claims, &[("authorization", bearer.as_str())]].concat();
            let alive = ask_with(&app, "GET", path, &with_token).await;
            assert_eq!(understood(&alive, 200), Some(id.as_str()), "{claims:?}");
        }
    }
}
