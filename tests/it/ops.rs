//! The operations listener.

use rstest::rstest;
use serde_json::json;

use crate::common::{Backend, TestApp};

#[rstest]
#[tokio::test]
async fn a_service_that_is_ready_says_so(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let answer = app.ops("/readyz").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.json(), json!({ "status": "ready", "failing": [] }));
    assert_eq!(
        app.ops("/healthz").await.json(),
        json!({ "status": "alive" })
    );
}

#[rstest]
#[tokio::test]
async fn draining_is_unready_but_alive_and_still_answers(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    app.state.start_draining();
    let answer = app.ops("/readyz").await;
    assert_eq!(answer.status, 503);
    assert_eq!(answer.json()["failing"], json!(["draining"]));
    assert_eq!(app.ops("/healthz").await.status, 200);
    app.token("alice").await;
}

#[rstest]
#[tokio::test]
async fn operations_serve_no_api(
    #[values(
        "/",
        "/v1.0/user/auth",
        "/api/v1.0/user/auth",
        "/openapi.json",
        "/docs"
    )]
    path: &str,
) {
    let app = TestApp::start(Backend::Embedded).await;
    app.ops(path).await.problem(404, "not-found");
}

#[rstest]
#[tokio::test]
async fn a_scrape_tells_of_the_gate_the_pools_and_the_stores(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    app.check(&token).await;

    assert_eq!(
        app.ops("/metrics").await.header("content-type"),
        Some("text/plain; version=0.0.4")
    );
    assert_eq!(app.metric("claviger_hash_workers").await, 2);
    assert_eq!(app.metric("claviger_hash_queue_length").await, 0);
    assert!(app.metric("claviger_hash_queue_capacity").await >= 16);
    assert_eq!(app.metric("claviger_hash_duration_seconds_count").await, 2);
    assert_eq!(app.metric("claviger_hash_wait_seconds_count").await, 2);
    assert_eq!(
        app.metric(r#"claviger_pool_connections_max{pool="database"}"#)
            .await,
        10
    );
    let expected = if backend == Backend::External { 16 } else { 0 };
    assert_eq!(
        app.metric(r#"claviger_pool_connections_max{pool="tokens"}"#)
            .await,
        expected
    );
    for dependency in ["database", "tokens", "schema"] {
        let series = format!("claviger_dependency_up{{dependency=\"{dependency}\"}}");
        assert_eq!(app.metric(&series).await, 1);
    }
    assert_eq!(app.metric("claviger_schema_version").await, 4);
    assert_eq!(app.metric("claviger_schema_version_latest").await, 4);
    let series =
        r#"claviger_http_requests_total{method="POST",route="/v1.0/user/auth",status="200"}"#;
    assert_eq!(app.metric(series).await, 1);
    let series =
        r#"claviger_http_request_duration_seconds_count{method="GET",route="/v1.0/user/auth"}"#;
    assert_eq!(app.metric(series).await, 1);
}
