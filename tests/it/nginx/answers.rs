//! What clients are told: by the service, and by nginx in its stead.

use rstest::rstest;

use super::{Edge, THERE, deployment, outside};
use crate::common::{Answer, get, post, with_token};

/// What an answer says, without what is new in each.
fn content(answer: &Answer) -> (u16, Vec<(String, String)>, String) {
    let id = answer.header("x-request-id").unwrap();
    let mut headers: Vec<(String, String)> = answer
        .headers
        .iter()
        .filter(|(name, _)| {
            // These concern one hop, not the message.
            !["date", "server", "connection", "x-request-id"].contains(&name.as_str())
        })
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned()))
        .collect();
    headers.sort();
    (
        answer.status.as_u16(),
        headers,
        answer.text().replace(id, "ID"),
    )
}

#[rstest]
#[tokio::test]
async fn what_the_api_answers_passes_untouched(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let mut deployment = deployment().await;
    deployment.set("CLAVIGER_SERVER__DOCS", "true");
    let service = deployment.start();
    let mut front = edge.before_service(&service).await;
    let json = "application/json";
    let form = "application/x-www-form-urlencoded";
    for (status, request) in [
        (200, get("/")),
        (200, get("/openapi.json")),
        (200, get("/docs")),
        // More than fits into the buffers.
        (200, get("/docs/swagger-ui-bundle.js")),
        (400, post("", json, "{")),
        (401, post("", json, r#"{"username":"bob","password":"x"}"#)),
        (401, post("", form, "username=bob&password=x")),
        (401, get("/v1.0/user/auth")),
        (401, with_token("GET", "clv_x")),
        (
            403,
            post("origin: http://other\r\n", form, "username=a&password=b"),
        ),
        (404, get("/nothing")),
        (405, get("/v1.0/user/auth").replace("GET", "PUT")),
        (413, post("", json, &"a".repeat(20 * 1024))),
        (415, post("", "text/plain", "a")),
        (422, post("", json, "{}")),
    ] {
        let direct = service.send(&request).await;
        let through = front.nginx.send(&outside(&request)).await;
        assert_eq!(direct.status, status, "{request}");
        let mut expected = content(&direct);
        if edge == Edge::Example {
            // What its server block adds.
            expected.1.extend([
                (
                    "strict-transport-security".to_owned(),
                    "max-age=63072000".to_owned(),
                ),
                ("x-content-type-options".to_owned(), "nosniff".to_owned()),
            ]);
            expected.1.sort();
        }
        assert_eq!(content(&through), expected, "{request}");
        assert_ne!(front.access(&through)["upstream"], "", "{request}");
    }
}

#[rstest]
#[tokio::test]
async fn a_body_that_is_far_too_large_is_refused_in_the_same_words(
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let deployment = deployment().await;
    let service = deployment.start();
    let mut front = edge.before_service(&service).await;
    let body = "a".repeat(64 * 1024);
    let whole = outside(&post("", "application/json", &body));
    let chunked = format!(
        "POST /api/v1.0/user/auth HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n10000\r\n{body}\r\n0\r\n\r\n"
    );
    let direct = service.send(&post("", "application/json", &body)).await;
    let direct = direct.problem(413, "payload-too-large");
    for request in [whole, chunked] {
        let answer = front.nginx.send(&request).await;
        let problem = answer.problem(413, "payload-too-large");
        assert_eq!(problem["title"], direct["title"]);
        assert_eq!(problem["detail"], direct["detail"]);
        let access = front.access(&answer);
        assert_eq!(access["upstream"], "");
        assert_eq!(access["method"], "POST");
    }
}

#[rstest]
#[case::no_http("GARBAGE\r\n\r\n", 400, "bad-request")]
#[case::no_host("GET /api/ HTTP/1.1\r\n\r\n", 400, "bad-request")]
#[case::two_hosts("GET /api/ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400, "bad-request")]
#[case::control_character("GET /api/\x01 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad-request")]
#[case::nul("GET /api/%00 HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad-request")]
#[case::above_the_root("GET /api/../../x HTTP/1.1\r\nhost: a\r\n\r\n", 400, "bad-request")]
#[case::two_lengths(
    "POST /api/ HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
    400,
    "bad-request"
)]
#[case::trace("TRACE /api/ HTTP/1.1\r\nhost: a\r\n\r\n", 405, "method-not-allowed")]
#[case::coding(
    "POST /api/ HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip\r\n\r\n",
    501,
    "not-implemented"
)]
#[case::version("GET /api/ HTTP/3.0\r\nhost: a\r\n\r\n", 505, "version-not-supported")]
#[case::long_target(
    &format!("GET /api/{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(9000)),
    414,
    "uri-too-long"
)]
#[case::large_header(
    &format!("GET /api/ HTTP/1.1\r\nhost: a\r\nx: {}\r\n\r\n", "a".repeat(9000)),
    431,
    "headers-too-large"
)]
#[tokio::test]
async fn what_nginx_refuses_is_a_problem_document(
    #[case] request: &str,
    #[case] status: u16,
    #[case] code: &str,
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    // Nobody listens there, so an answer of the API it can't be.
    let front = edge.before(&[THERE], 1).await;
    let answer = front.nginx.send(request).await;
    answer.problem(status, code);
    assert_eq!(answer.header("server"), Some("nginx"));
}
