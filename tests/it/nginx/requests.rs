//! What the service is told, and what it takes.

use std::net::Ipv4Addr;

use rstest::rstest;

use super::{Edge, HERE, deployment, outside, seen, stand_in};
use crate::common::{
    Backend, Connection, Deployment, credentials, get, post, post_login, with_token,
};

#[rstest]
#[tokio::test]
async fn what_is_forwarded_is_not_the_clients(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let (listener, port) = stand_in().await;
    let mut front = edge.before(&[HERE], port).await;
    let request = "GET /api/x HTTP/1.1\r\n\
        Host: login.example.com:8443\r\n\
        X-Request-Id: mine\r\n\
        X-Forwarded-For: 192.0.2.6\r\n\
        X-Forwarded-For: 192.0.2.7\r\n\
        X_Forwarded_For: 192.0.2.8\r\n\
        X-Forwarded-Host: elsewhere\r\n\
        X-Forwarded-Proto: https\r\n\
        X-Forwarded-Prefix: /elsewhere\r\n\
        X-Forwarded-Port: 1\r\n\
        X-Real-IP: 192.0.2.9\r\n\
        Forwarded: for=192.0.2.10;proto=https\r\n\
        Connection: X-Forwarded-For, X-Request-Id, Upgrade\r\n\
        Upgrade: websocket\r\n\
        Authorization: Bearer kept\r\n\
        Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\r\n";
    let client = Ipv4Addr::new(127, 0, 0, 9);
    let asked = async {
        let mut connection = Connection::open_from(client, &front.nginx.url).await;
        connection.send(request).await;
        connection.answer().await
    };
    let head = seen(&listener, asked).await;
    let mut headers: Vec<&str> = head.trim_end().lines().skip(1).collect();
    let id = headers
        .iter()
        .find_map(|header| header.strip_prefix("X-Request-Id: "))
        .unwrap()
        .to_owned();
    assert_eq!(id.len(), 32, "{id}");
    headers.sort_unstable();
    assert_eq!(
        headers,
        [
            "Authorization: Bearer kept",
            "Host: login.example.com:8443",
            "Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "X-Forwarded-For: 127.0.0.9",
            "X-Forwarded-Host: login.example.com:8443",
            "X-Forwarded-Prefix: /api",
            "X-Forwarded-Proto: http",
            "X-Real-IP: 127.0.0.9",
            &format!("X-Request-Id: {id}"),
        ]
    );
    assert_eq!(front.nginx.wait_for_access(&id)["client"], "127.0.0.9");
}

#[rstest]
#[tokio::test]
async fn both_logs_have_the_client_and_the_id(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let deployment = deployment().await;
    let mut service = deployment.start();
    let mut front = edge.before_service(&service).await;
    let spoofed = "x-request-id: mine\r\nx-forwarded-for: 192.0.2.6\r\nforwarded: for=192.0.2.6\r\n\
        user-agent: a \"quoted\" one\r\n";
    let request = post(spoofed, "application/json", &credentials("alice"));
    let request = outside(&request).replacen("/auth ", "/auth?secret=1 ", 1);
    let client = Ipv4Addr::new(127, 0, 0, 9);
    let mut connection = Connection::open_from(client, &front.nginx.url).await;
    connection.send(&request).await;
    let answer = connection.answer().await;
    answer.token();
    let id = answer.header("x-request-id").unwrap();

    let theirs = service.wait_for_access();
    assert_eq!(theirs["request_id"], id);
    assert_eq!(theirs["client"], "127.0.0.9");
    let ours = front.access(&answer);
    assert_eq!(ours["client"], "127.0.0.9");
    assert_eq!(ours["method"], "POST");
    assert_eq!(ours["path"], "/api/v1.0/user/auth");
    assert_eq!(ours["status"], "200");
    assert_eq!(ours["user_agent"], "a \"quoted\" one");
    assert_eq!(ours["upstream_status"], "200");
    assert!(!ours.to_string().contains("secret"), "{ours}");

    // No two requests have the same, on one connection or not.
    connection.send(&outside(&get("/"))).await;
    let next = connection.answer().await;
    assert_ne!(next.header("x-request-id"), Some(id));
}

#[rstest]
#[tokio::test]
async fn from_log_in_to_log_out(
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    let service = deployment.start();
    let front = edge.before_service(&service).await;
    let form = "grant_type=password&username=alice&password=correct+horse+battery+staple";
    let kind = "application/x-www-form-urlencoded";
    for login in [
        post_login("alice"),
        post("", kind, form),
        post("origin: http://test\r\n", kind, form),
        post("expect: 100-continue\r\n", kind, form),
    ] {
        let mut connection = front.nginx.connect().await;
        connection.send(&outside(&login)).await;
        let mut answer = connection.answer().await;
        if answer.status == 100 {
            answer = connection.answer().await;
        }
        let token = answer.token();
        connection.send(&outside(&with_token("GET", &token))).await;
        let check = connection.answer().await;
        assert_eq!(check.status, 200);
        assert_eq!(check.header("x-user-id"), Some("1"));
        assert_eq!(check.json()["user_id"], 1);
        connection
            .send(&outside(&with_token("DELETE", &token)))
            .await;
        assert_eq!(connection.answer().await.status, 204);
        connection.send(&outside(&with_token("GET", &token))).await;
        connection.answer().await.problem(401, "invalid-token");
    }
}
