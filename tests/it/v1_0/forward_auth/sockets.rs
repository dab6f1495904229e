//! Requests as they come through a socket: heads, bodies that nobody reads, connections that are kept.

use claviger::auth::token::Token;
use rstest::rstest;

use super::understood;
use crate::common::{Answer, Backend, Deployment, Program};

struct Service {
    program: Program,
    token: String,
}

impl Service {
    async fn start() -> Self {
        let deployment = Deployment::new(Backend::Embedded).await;
        deployment.user("alice");
        let program = deployment.start();
        let token = program
            .send(&crate::common::post_login("alice"))
            .await
            .token();
        Self { program, token }
    }

    /// A request with the token and more headers, each `name: value` and an end of line.
    fn request(&self, method: &str, target: &str, headers: &str) -> String {
        format!(
            "{method} {target} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {}\r\n{headers}\r\n",
            self.token
        )
    }

    async fn send(&self, request: &str) -> Answer {
        self.program.send(request).await
    }
}

#[tokio::test]
async fn one_connection_serves_all_subrequests() {
    let service = Service::start().await;
    let mut connection = service.program.connect().await;
    let unknown = Token::generate().expose().to_owned();
    for round in 0..200 {
        connection
            .send(&service.request("GET", "/v1.0/forward-auth", ""))
            .await;
        assert_eq!(understood(&connection.answer().await, 200), Some("1"));
        let mut other = service.request("GET", "/v1.0/forward-auth", "");
        if round % 2 == 0 {
            other = other.replace(&service.token, &unknown);
        } else {
            other = "GET /v1.0/forward-auth HTTP/1.1\r\nhost: test\r\n\r\n".to_owned();
        }
        connection.send(&other).await;
        let refused = connection.answer().await;
        understood(&refused, 401);
        assert_eq!(refused.header("connection"), None);
    }
}

#[rstest]
#[tokio::test]
async fn every_method_is_answered_without_a_body_and_the_connection_stays(
    #[values(
        "HEAD", "OPTIONS", "TRACE", "PROPFIND", "POST", "PUT", "DELETE", "PATCH", "REPORT",
        "M-SEARCH"
    )]
    method: &str,
) {
    let service = Service::start().await;
    let mut connection = service.program.connect().await;
    for _ in 0..3 {
        let request = service.request(method, "/api/v1.0/forward-auth/a/b", "");
        connection.send(&request).await;
        assert_eq!(understood(&connection.answer().await, 200), Some("1"));
    }
    // As HTTP/1.0 has it.
    let request = service.request(method, "/v1.0/forward-auth", "");
    connection
        .send(&request.replace("HTTP/1.1", "HTTP/1.0"))
        .await;
    understood(&connection.answer().await, 200);
    assert_eq!(connection.rest().await, "");
}

#[rstest]
#[case::length_of_a_body_that_was_left_out("content-length: 5\r\n", "")]
#[case::chunks_that_were_left_out("transfer-encoding: chunked\r\n", "")]
#[case::begun("content-length: 500\r\n", "GET ")]
#[case::long("content-length: 1000000\r\n", "GET ")]
#[case::expected("content-length: 5\r\nexpect: 100-continue\r\n", "")]
#[case::expected_chunks("transfer-encoding: chunked\r\nexpect: 100-continue\r\n", "")]
#[tokio::test]
async fn a_body_is_not_waited_for(#[case] headers: &str, #[case] body: &str) {
    let service = Service::start().await;
    for method in ["GET", "POST"] {
        let mut connection = service.program.connect().await;
        let request = service.request(method, "/v1.0/forward-auth", headers);
        // What follows is taken neither for the body nor for a request.
        let follows = service.request("DELETE", "/v1.0/user/auth", "");
        let follows = if body.is_empty() { &follows } else { body };
        connection.send(&format!("{request}{follows}")).await;
        // No interim answer asks for it either.
        let answer = connection.answer().await;
        assert_eq!(understood(&answer, 200), Some("1"));
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(connection.rest().await, "");
    }
    understood(
        &service
            .send(&service.request("GET", "/v1.0/forward-auth", ""))
            .await,
        200,
    );
}

#[rstest]
#[case::length("content-length: 5\r\n", "clv_x")]
#[case::chunks("transfer-encoding: chunked\r\n", "5\r\nclv_x\r\n0\r\n\r\n")]
#[case::long("content-length: 4000\r\n", "")]
#[tokio::test]
async fn a_body_that_comes_changes_nothing(#[case] headers: &str, #[case] body: &str) {
    let service = Service::start().await;
    let body = if body.is_empty() {
        "x".repeat(4_000)
    } else {
        body.to_owned()
    };
    let request = service.request("POST", "/v1.0/forward-auth", headers);
    let answer = service.send(&format!("{request}{body}")).await;
    assert_eq!(understood(&answer, 200), Some("1"));
    let nobody = request.replace("authorization", "x-authorization");
    understood(&service.send(&format!("{nobody}{body}")).await, 401);
}

/// No client may send it like this (RFC 9110, section 9.3.6), but a gateway could.
#[tokio::test]
async fn a_tunnel_is_a_question_like_any_other() {
    let service = Service::start().await;
    let mut connection = service.program.connect().await;
    let request = service.request("CONNECT", "/v1.0/forward-auth", "");
    connection.send(&request).await;
    let alive = connection.answer().await;
    assert_eq!(alive.status, 200);
    assert_eq!(alive.header("x-user-id"), Some("1"));
    assert_eq!(connection.rest().await, "", "and nothing is opened");

    let nobody = request.replace("authorization", "x-authorization");
    understood(&service.send(&nobody).await, 401);
}

/// What the listener refuses by itself, before there is a route. No recipe of ours sends such.
#[tokio::test]
async fn what_is_no_request_is_refused_by_the_listener() {
    let service = Service::start().await;
    let long = |length| format!("/v1.0/forward-auth/{}", "x".repeat(length));
    let fits = service.request("GET", &long(20_000), "");
    understood(&service.send(&fits).await, 200);

    let line = "x-filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n";
    for (request, status) in [
        (service.request("GET", &long(200_000), ""), 431),
        (
            service.request("GET", "/v1.0/forward-auth", &line.repeat(4_000)),
            431,
        ),
        (service.request("GET", "/v1.0/forward-auth/<x>", ""), 400),
        (
            service.request("GET", "/v1.0/forward-auth", "no header\r\n"),
            400,
        ),
        (service.request("GET", "/v1.0/forward-auth HTTP/3", ""), 400),
    ] {
        let mut connection = service.program.connect().await;
        connection.send_what_is_taken(&request).await;
        let answer = connection.answer().await;
        assert_eq!(answer.status, status, "{request:.80}");
        assert_eq!(answer.header("x-user-id"), None);
        assert!(answer.body.is_empty());
        assert_eq!(connection.rest().await, "");
    }
}
