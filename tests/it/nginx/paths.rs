//! Which paths reach the service, and how.

use rstest::rstest;

use super::{Edge, HERE, deployment, seen, stand_in};
use crate::common::get;

#[rstest]
#[tokio::test]
async fn the_api_is_below_api(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let service = deployment.start();
    let front = edge.before_service(&service).await;
    for target in [
        "/api",
        "/api/",
        "/api?x=y",
        "/api/?x=/../y",
        "/api//",
        "http://elsewhere/api/",
    ] {
        let answer = front.nginx.send(&get(target)).await;
        assert_eq!(answer.status, 200, "{target}");
        assert_eq!(answer.text(), r#"{"hello":"world"}"#, "{target}");
    }
    for target in [
        "/api/v1.0/user/auth",
        "/api/v1.0/user/auth?x=//y",
        "/api//v1.0/user/auth",
        "http://elsewhere/api/v1.0/user/auth",
    ] {
        let answer = front.nginx.send(&get(target)).await;
        answer.problem(401, "missing-token");
    }
}

#[rstest]
#[tokio::test]
async fn nothing_else_reaches_the_api(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let service = deployment.start();
    let mut front = edge.before_service(&service).await;
    for target in [
        "/",
        "/apiary",
        "/apiary/v1.0/user/auth",
        "/API/v1.0/user/auth",
        "/v1.0/user/auth",
        "//api/v1.0/user/auth",
        "/%61pi/v1.0/user/auth",
        "/api%2fv1.0/user/auth",
        "/api%3fx",
        "/api%0a",
        "/api;/v1.0/user/auth",
        "/x/../api/v1.0/user/auth",
        "/metrics",
        "//metrics",
        "/healthz",
        "/readyz",
        "/api/../metrics",
        "/api/..//metrics",
        "/api/%2e%2e/metrics",
        "/api/.%2e%2fmetrics",
        "/api/v1.0/../../metrics",
        "/api/v1.0/%2e./%2e%2e/readyz",
        "/problem",
        "/nothing.html",
        "http://elsewhere/metrics",
    ] {
        let answer = front.nginx.send(&get(target)).await;
        answer.problem(404, "not-found");
        let access = front.access(&answer);
        assert_eq!(access["status"], "404", "{target}");
        assert_eq!(access["upstream"], "", "{target}");
    }
}

#[rstest]
#[tokio::test]
async fn no_spelling_reaches_operations(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let service = deployment.start();
    let mut front = edge.before_service(&service).await;
    for route in ["metrics", "healthz", "readyz"] {
        for prefix in [
            "/api/",
            "/api//",
            "/api/api/",
            "/api/%2f",
            "/api/./",
            "/api/v1.0/../",
            "/api/v1.0/%2e%2e/",
            "/api/..%5c",
            "/api/..;/",
            "/api/%252e%252e/",
        ] {
            let target = format!("{prefix}{route}");
            let answer = front.nginx.send(&get(&target)).await;
            answer.problem(404, "not-found");
            assert_ne!(front.access(&answer)["upstream"], "", "{target}");
        }
    }
}

#[rstest]
#[case("/api", "/")]
#[case("/api?x=%2f", "/?x=%2f")]
#[case("/api/a%2Fb%2fc", "/a%2Fb%2fc")]
#[case("/api/%20%0d%0aX-User-Id:%201", "/%20%0d%0aX-User-Id:%201")]
#[case("/api/%7Euser/%C3%A9", "/%7Euser/%C3%A9")]
#[case("/api//v1.0///x/./y/", "//v1.0///x/./y/")]
#[case("/api/x?a=%26&b=/../c?d&&", "/x?a=%26&b=/../c?d&&")]
#[case("/api/@elsewhere:80/", "/@elsewhere:80/")]
#[case("/api/$api$request_id", "/$api$request_id")]
#[tokio::test]
async fn the_target_stays_as_it_was_sent(
    #[case] target: &str,
    #[case] stripped: &str,
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let (listener, port) = stand_in().await;
    let front = edge.before(&[HERE], port).await;
    let request = get(target);
    let head = seen(&listener, front.nginx.send(&request)).await;
    let first = head.lines().next().unwrap();
    assert_eq!(first, format!("GET {stripped} HTTP/1.1"));
}

#[rstest]
#[tokio::test]
async fn a_head_has_no_body(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let service = deployment.start();
    let front = edge.before_service(&service).await;
    for (target, status) in [
        ("/api/", "200 OK"),
        ("/api/nothing", "404 Not Found"),
        ("/nothing", "404 Not Found"),
    ] {
        let mut connection = front.nginx.connect().await;
        connection
            .send(&format!(
                "HEAD {target} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n"
            ))
            .await;
        let answer = connection.rest().await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}\r\n")),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\n"), "{answer}");
        assert_eq!(answer.matches("\r\n\r\n").count(), 1, "{answer}");
    }
}
