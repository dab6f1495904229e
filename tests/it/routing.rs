//! Paths, methods, ids: what holds for every route.

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use rstest::rstest;

use crate::common::{Answer, Backend, TestApp};

#[rstest]
#[tokio::test]
async fn the_root_greets(#[values("/", "//", "/api", "/api/", "//api//")] path: &str
) {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = app.call("GET", path).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.text(), r#"{"hello":"world"}"#);
}

#[rstest]
#[tokio::test]
async fn four_spellings_are_one_route(#[values("", "/api", "/", "/api/", "//api//")] prefix: &str
) {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = app
        .call("GET", &format!("{prefix}/v1.0/user/auth?x=//y"))
        .await;
    answer.problem(401, "missing-token");
}

#[rstest]
#[case::unknown("/nothing")]
#[case::inner_slash("/v1.0//user/auth")]
#[case::trailing_slash("/v1.0/user/auth/")]
#[case::prefix_twice("/api/api/v1.0/user/auth")]
#[case::prefix_of_a_word("/apiary/v1.0/user/auth")]
#[case::case("/API/v1.0/user/auth")]
#[case::encoded_slash("/v1.0%2fuser/auth")]
#[case::encoded_letter("/v1.0/us%65r/auth")]
#[case::dots("/api/../v1.0/user/auth")]
#[case::other_version("/v2.0/user/auth")]
#[tokio::test]
async fn other_spellings_are_not_found(#[case] path: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    app.call("GET", path).await.problem(404, "not-found");
}

#[rstest]
#[tokio::test]
async fn the_api_serves_no_operations(
    #[values("metrics", "healthz", "readyz")] route: &str,
    #[values("/", "//", "/api/", "/api//", "/api/%2e%2e/", "/v1.0/", "/api/../")] prefix: &str,
) {
    let app = TestApp::start(Backend::Embedded).await;
    app.call("GET", &format!("{prefix}{route}"))
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn another_base_path_or_none() {
    let app = TestApp::start_with(Backend::Embedded, |config| {
        config.server.base_path = "/auth/service".to_owned();
    })
    .await;
    assert_eq!(
        app.call("GET", "/auth/service/v1.0/user/auth").await.status,
        401
    );
    assert_eq!(app.call("GET", "/v1.0/user/auth").await.status, 401);
    assert_eq!(app.call("GET", "/api/v1.0/user/auth").await.status, 404);
    let app = TestApp::start_with(Backend::Embedded, |config| {
        config.server.base_path = String::new();
    })
    .await;
    assert_eq!(app.call("GET", "//v1.0/user/auth").await.status, 401);
    assert_eq!(app.call("GET", "/api/v1.0/user/auth").await.status, 404);
}

#[rstest]
#[case("/v1.0/user/auth", "DELETE,GET,HEAD,POST")]
#[case("/v1.0/token/introspect", "POST")]
#[case("/v1.0/token/revoke", "POST")]
#[case("/", "GET,HEAD")]
#[case("/openapi.json", "GET,HEAD")]
#[tokio::test]
async fn another_method_is_told_the_right_ones(
    #[case] path: &str,
    #[case] allowed: &str,
    #[values("PUT", "PATCH", "OPTIONS", "TRACE", "PROPFIND")] method: &str,
) {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = app.call(method, path).await;
    answer.problem(405, "method-not-allowed");
    let mut methods: Vec<&str> = answer.header("allow").unwrap().split(',').collect();
    methods.sort_unstable();
    assert_eq!(methods.join(","), allowed);
}

async fn with_id(app: &TestApp, path: &str, id: &[u8]) -> Answer {
    let request = Request::get(path).header("x-request-id", HeaderValue::from_bytes(id).unwrap());
    app.send(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn every_answer_carries_an_id() {
    let app = TestApp::start(Backend::Embedded).await;
    for path in ["/", "/nothing", "/v1.0/user/auth", "/openapi.json"] {
        let first = app
            .call("GET", path)
            .await
            .header("x-request-id")
            .unwrap()
            .to_owned();
        let second = app
            .call("GET", path)
            .await
            .header("x-request-id")
            .unwrap()
            .to_owned();
        assert_ne!(first, second);
        assert_eq!(
            with_id(&app, path, b"from-the-proxy_1.2:3")
                .await
                .header("x-request-id"),
            Some("from-the-proxy_1.2:3")
        );
        for bad in [&b"two words"[..], b"a\"b", b"\xff", b"", &[b'a'; 65]] {
            let answer = with_id(&app, path, bad).await;
            assert_ne!(answer.headers["x-request-id"].as_bytes(), bad);
        }
    }
    assert!(app.ops("/healthz").await.header("x-request-id").is_some());
    app.ops("/nothing").await.problem(404, "not-found");
}

#[rstest]
#[tokio::test]
async fn unknown_paths_share_one_metric() {
    let app = TestApp::start(Backend::Embedded).await;
    for number in 0..50 {
        app.call("GET", &format!("/nothing/{number}")).await;
        app.call(&format!("METHOD{number}"), "/").await;
    }
    let series = r#"claviger_http_requests_total{method="GET",route="unmatched",status="404"}"#;
    assert_eq!(app.metric(series).await, 50);
    let series = r#"claviger_http_requests_total{method="other",route="/",status="405"}"#;
    assert_eq!(app.metric(series).await, 50);
}

#[tokio::test]
async fn the_page_of_the_documentation_is_for_development() {
    let app = TestApp::start(Backend::Embedded).await;
    app.call("GET", "/docs").await.problem(404, "not-found");
    app.call("GET", "/docs/swagger-ui.css")
        .await
        .problem(404, "not-found");
    assert_eq!(app.call("GET", "/openapi.json").await.status, 200);

    let app =
        TestApp::start_with(Backend::Embedded, |config| config.server.docs = Some(true)).await;
    let page = app.call("GET", "/api/docs").await;
    assert_eq!(page.status, 200);
    // Every asset that the page names is there, relative to the page, and none is anywhere else.
    let text = page.text();
    let assets: Vec<&str> = text
        .split('"')
        .filter(|part| part.starts_with("docs/"))
        .collect();
    assert_eq!(assets.len(), 4, "{text}");
    assert!(!text.contains("//"), "{text}");
    for asset in assets {
        let answer = app.call("GET", &format!("/api/{asset}")).await;
        assert_eq!(answer.status, 200, "{asset}");
        assert!(!answer.body.is_empty());
    }
    app.call("GET", "/docs/nothing.js")
        .await
        .problem(404, "not-found");
    app.call("GET", "/docs/").await.problem(404, "not-found");
    app.call("GET", "/docs/%FF").await.problem(404, "not-found");
}

#[tokio::test]
async fn the_openapi_document_is_the_committed_one() {
    let app = TestApp::start(Backend::Embedded).await;
    let served = app.call("GET", "/openapi.json").await;
    assert_eq!(served.header("content-type"), Some("application/json"));
    let committed: serde_json::Value =
        serde_json::from_str(include_str!("../../openapi.json")).unwrap();
    assert_eq!(
        served.json(),
        committed,
        "run `make openapi`, and look at what changed"
    );
    assert_eq!(committed["openapi"], "3.1.0");
}
