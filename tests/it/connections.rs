//! Clients that are slow, old, impatient or clever: real sockets, and HTTP/1 by hand.

use rstest::rstest;
use secrecy::ExposeSecret;

use crate::common::{
    Backend, Connection, Deployment, Proxy, credentials, get, head_of_login, post, post_login,
    redis_url,
};

async fn deployment(backend: Backend) -> Deployment {
    let deployment = Deployment::new(backend).await;
    deployment.user("alice");
    deployment
}

#[tokio::test]
async fn a_head_that_never_ends_is_not_waited_for() {
    let mut deployment = deployment(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__REQUEST_TIMEOUT", "300ms");
    let service = deployment.start();
    let mut silent = service.connect().await;
    let mut slow = service.connect().await;
    slow.send("GET / HTTP/1.1\r\nhost: te").await;
    let mut idle = service.connect().await;
    idle.send(&get("/")).await;
    assert_eq!(idle.answer().await.status, 200);
    silent.send("").await;
    for connection in [silent, slow, idle] {
        assert_eq!(connection.rest().await, "");
    }
    // On the operations listener as well.
    let mut slow = Connection::open(&service.ops).await;
    slow.send("GET /metr").await;
    assert_eq!(slow.rest().await, "");
}

#[rstest]
#[case::length("content-length: 100\r\n\r\n{\"username\":")]
#[case::chunked("transfer-encoding: chunked\r\n\r\n5\r\n{\"use\r\n")]
#[case::nothing("content-length: 100\r\n\r\n")]
#[tokio::test]
async fn a_body_that_never_ends_is_the_clients_fault(#[case] rest: &str) {
    let mut deployment = deployment(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__REQUEST_TIMEOUT", "300ms");
    let service = deployment.start();
    let mut slow = service.connect().await;
    slow.send(&format!(
        "POST /v1.0/user/auth HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{rest}"
    ))
    .await;
    slow.answer().await.problem(408, "request-timeout");
    assert_eq!(
        slow.rest().await,
        "",
        "what would follow can't be told from the body"
    );
    assert_eq!(
        service.metric("claviger_hash_duration_seconds_count").await,
        0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_takes_too_long_says_so() {
    let mut deployment = deployment(Backend::External).await;
    let (proxy, url) = Proxy::before(&deployment.database.url).await;
    deployment.set("CLAVIGER_DATABASE__URL", url.expose_secret());
    deployment.set("CLAVIGER_DATABASE__ACQUIRE_TIMEOUT", "5m");
    deployment.set("CLAVIGER_SERVER__REQUEST_TIMEOUT", "1500ms");
    let mut service = deployment.start();

    proxy.stall();
    let answer = service.send(&post_login("alice")).await;
    answer.problem(503, "overloaded");
    assert_eq!(answer.header("retry-after"), Some("2"));
    assert_eq!(service.send(&get("/")).await.status, 200);
    service.wait_for("a request took longer than server.request_timeout");
    let access = service.wait_for_access();
    assert_eq!(access["status"], 503);
    assert!(access["duration_ms"].as_f64().unwrap() >= 1500.0);
    assert_eq!(
        service
            .metric(r#"claviger_logins_total{outcome="abandoned"}"#)
            .await,
        1
    );

    proxy.heal();
    service.send(&post_login("alice")).await.token();
}

/// The kernel alone knows that nothing is taken any more; without a bound it would try for a quarter of an hour.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_client_that_never_reads_its_answers_is_dropped() {
    let mut deployment = deployment(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__REQUEST_TIMEOUT", "300ms");
    let service = deployment.start();
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    let address = service.api.strip_prefix("http://").unwrap();
    let mut client = socket.connect(address.parse().unwrap()).await.unwrap();
    let (ours, theirs) = (client.local_addr().unwrap(), client.peer_addr().unwrap());
    assert!(is_open(theirs.port(), ours.port()));
    // The answers are more than the buffers of both sides hold, the requests are less.
    let asked = get("/openapi.json").repeat(1000);
    tokio::io::AsyncWriteExt::write_all(&mut client, asked.as_bytes())
        .await
        .unwrap();

    // Nothing more is sent meanwhile: it would put off the kernel's next try, and with it the end.
    let mut dropped = false;
    for _ in 0..50_000 {
        dropped = !is_open(theirs.port(), ours.port());
        if dropped {
            break;
        }
        service.ops("/healthz").await;
    }
    assert!(dropped);
}

/// Whether this machine has a connection from the one port to the other, seen from the first (proc(5), /proc/net/tcp).
#[cfg(target_os = "linux")]
fn is_open(from: u16, to: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let (from, to) = (format!(":{from:04X}"), format!(":{to:04X}"));
    table.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let mut ends_with = |port: &str| fields.next().is_some_and(|end| end.ends_with(port));
        ends_with(&from) && ends_with(&to)
    })
}

#[tokio::test]
async fn a_body_that_is_much_too_large_is_refused_and_its_client_sees_why() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut client = service.connect().await;
    let body = "x".repeat(1 << 20);
    client
        .send_what_is_taken(&post("", "application/json", &body))
        .await;
    client.answer().await.problem(413, "payload-too-large");
    // A client that asks first need not send it at all.
    let mut client = service.connect().await;
    let asking = post("expect: 100-continue\r\n", "application/json", &body);
    client.send(asking.strip_suffix(&body).unwrap()).await;
    client.answer().await.problem(413, "payload-too-large");
}

/// The connection is closed, and a client that does not know would lose its next request.
#[rstest]
#[case::unknown("/nothing", "", 404)]
#[case::method("/", "", 405)]
#[case::type_of_the_body("/v1.0/user/auth", "content-type: text/plain\r\n", 415)]
#[tokio::test]
async fn an_answer_that_comes_before_the_body_says_that_it_is_the_last(
    #[case] path: &str,
    #[case] headers: &str,
    #[case] status: u16,
) {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let head = format!("POST {path} HTTP/1.1\r\nhost: x\r\n{headers}content-length: 5\r\n\r\n");
    for with_body in [false, true] {
        let mut client = service.connect().await;
        let body = if with_body { "token" } else { "" };
        client.send(&format!("{head}{body}")).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), Some("close"));
        assert_eq!(client.rest().await, "");
    }
}

/// Also if it is refused: the body is read first.
#[rstest]
#[case::login("/v1.0/user/auth", "application/json", 400)]
#[case::client("/v1.0/token/introspect", "application/x-www-form-urlencoded", 401)]
#[case::client_without_a_form("/v1.0/token/revoke", "text/plain", 401)]
#[tokio::test]
async fn after_a_body_that_was_read_the_connection_goes_on(
    #[case] path: &str,
    #[case] content_type: &str,
    #[case] status: u16,
) {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut client = service.connect().await;
    let head = format!(
        "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: {content_type}\r\ncontent-length: 5\r\n\r\n"
    );
    for _ in 0..2 {
        // As many clients do: the head alone, and then the body.
        client.send(&head).await;
        client.send("token").await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), None);
    }
    client.send(&get("/")).await;
    assert_eq!(client.answer().await.status, 200);
}

#[tokio::test]
async fn the_head_of_a_request_has_a_bound() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let padded = |bytes| {
        format!(
            "GET / HTTP/1.1\r\nhost: x\r\nx-pad: {}\r\n\r\n",
            "x".repeat(bytes)
        )
    };
    assert_eq!(service.send(&padded(16 << 10)).await.status, 200);
    assert_eq!(service.send(&padded(64 << 10)).await.status, 431);
}

#[rstest]
#[tokio::test]
async fn pipelined_requests_are_answered_in_their_order(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let deployment = deployment(backend).await;
    let service = deployment.start();
    let mut connection = service.connect().await;
    let login = post_login("alice");
    let all = [get("/").as_str(), &login, &get("/nowhere"), &login].concat();
    connection.send(&all).await;
    assert_eq!(connection.answer().await.text(), r#"{"hello":"world"}"#);
    let first = connection.answer().await.token();
    connection.answer().await.problem(404, "not-found");
    let second = connection.answer().await.token();
    assert_ne!(first, second);
    // And the connection can still be used.
    connection.send(&get("/")).await;
    assert_eq!(connection.answer().await.status, 200);
}

#[rstest]
#[case::close(
    "GET / HTTP/1.1\r\nhost: test\r\nconnection: close\r\n\r\n",
    Some("close")
)]
#[case::old("GET / HTTP/1.0\r\n\r\n", None)]
#[tokio::test]
async fn a_client_may_ask_for_one_answer_only(
    #[case] request: &str,
    #[case] connection: Option<&str>,
) {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut client = service.connect().await;
    client.send(&(request.to_owned() + &get("/"))).await;
    let answer = client.answer().await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("connection"), connection);
    assert_eq!(client.rest().await, "");
}

#[tokio::test]
async fn an_old_client_logs_in() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let login = post_login("alice").replace("HTTP/1.1\r\nhost: test\r\n", "HTTP/1.0\r\n");
    let mut client = service.connect().await;
    client.send(&login).await;
    client.answer().await.token();
    assert_eq!(client.rest().await, "");
}

#[rstest]
#[case("HELLO\r\n\r\n")]
#[case("GET / HTTP/1.1\r\nhost: test\r\nbad header\r\n\r\n")]
#[case(
    "POST /v1.0/user/auth HTTP/1.1\r\nhost: test\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx"
)]
#[case("\u{16}\u{3}\u{1}\u{0}\u{2}\u{1}\u{0}")]
#[tokio::test]
async fn what_is_no_http_ends_its_connection_only(#[case] bytes: &str) {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    let mut other = service.connect().await;
    let mut client = service.connect().await;
    client.send(bytes).await;
    let rest = client.rest().await;
    assert!(rest.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{rest}");
    other.send(&get("/")).await;
    assert_eq!(other.answer().await.status, 200);
}

/// How many tokens there are in Redis.
async fn tokens(deployment: &Deployment) -> usize {
    let client = redis::Client::open(redis_url().expose_secret()).unwrap();
    let mut redis = client.get_multiplexed_async_connection().await.unwrap();
    let pattern = format!("{}*", deployment.key_prefix);
    let keys: Vec<String> = redis::AsyncCommands::keys(&mut redis, pattern)
        .await
        .unwrap();
    keys.len()
}

#[tokio::test]
async fn who_leaves_while_waiting_for_a_hash_gives_the_place_up() {
    let mut deployment = deployment(Backend::External).await;
    deployment.set("CLAVIGER_PASSWORD__WORKERS", "1");
    deployment.slow_user("slow").await;
    let service = deployment.start();
    let mut slow = service.connect().await;
    slow.send(&post_login("slow")).await;
    service
        .wait_for_metric("claviger_hash_workers_busy", 1)
        .await;
    let mut leaves = service.connect().await;
    leaves.send(&post_login("alice")).await;
    service
        .wait_for_metric("claviger_hash_queue_length", 1)
        .await;

    drop(leaves);
    service
        .wait_for_metric("claviger_hash_queue_length", 0)
        .await;
    slow.answer().await.problem(401, "invalid-credentials");
    service
        .wait_for_metric("claviger_hash_workers_busy", 0)
        .await;
    assert_eq!(
        service.metric("claviger_hash_duration_seconds_count").await,
        1,
        "only of the one who stayed"
    );
    assert_eq!(tokens(&deployment).await, 0);
}

#[tokio::test]
async fn who_leaves_during_the_hash_gets_no_token() {
    let mut deployment = deployment(Backend::External).await;
    deployment.slow_hashes();
    // At this cost, unlike the one before.
    deployment.set("CLAVIGER_PASSWORD__ITERATIONS", "20");
    deployment.user("bob");
    let mut service = deployment.start();
    let mut leaves = service.connect().await;
    leaves.send(&post_login("bob")).await;
    service
        .wait_for_metric("claviger_hash_workers_busy", 1)
        .await;
    drop(leaves);
    service
        .wait_for_metric("claviger_hash_workers_busy", 0)
        .await;
    assert_eq!(
        service.metric("claviger_hash_duration_seconds_count").await,
        1
    );
    service
        .wait_for_metric(r#"claviger_logins_total{outcome="abandoned"}"#, 1)
        .await;
    let left = service.wait_for_access();
    assert_eq!(left["status"], 499);
    assert!(left["request_id"].is_string(), "{left}");
    // A login after it, on the same path, is the proof that nothing of the other is still to come.
    service.send(&post_login("bob")).await.token();
    assert_eq!(tokens(&deployment).await, 1);
    assert_eq!(
        service
            .metric(r#"claviger_logins_total{outcome="success"}"#)
            .await,
        1
    );
}

#[tokio::test]
async fn who_leaves_before_the_end_of_the_body_is_forgotten() {
    let deployment = deployment(Backend::Embedded).await;
    let service = deployment.start();
    for _ in 0..20 {
        let mut client = service.connect().await;
        client.send(&head_of_login("alice")).await;
        assert_eq!(client.answer().await.status, 100);
        client.send(&credentials("alice")[..10]).await;
    }
    service.send(&post_login("alice")).await.token();
    assert_eq!(
        service.metric("claviger_hash_duration_seconds_count").await,
        1
    );
}

#[rstest]
#[case::untrusted("", "198.51.100.7", "127.0.0.1")]
#[case::trusted("127.0.0.0/8", "203.0.113.9, 198.51.100.7", "198.51.100.7")]
#[case::trusted_chain(
    "127.0.0.0/8,198.51.100.0/24",
    "203.0.113.9, 198.51.100.7",
    "203.0.113.9"
)]
#[case::trusted_junk("127.0.0.0/8", "198.51.100.7, junk", "127.0.0.1")]
#[tokio::test]
async fn the_client_is_whom_a_trusted_proxy_names(
    #[case] trusted: &str,
    #[case] forwarded: &str,
    #[case] client: &str,
) {
    const WARNING: &str = "X-Forwarded-For came from a peer that is not in server.trusted_proxies, and is ignored; said once";
    let mut deployment = deployment(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__TRUSTED_PROXIES", trusted);
    let mut service = deployment.start();
    let request = format!("GET / HTTP/1.1\r\nhost: test\r\nx-forwarded-for: {forwarded}\r\n\r\n");
    for _ in 0..3 {
        assert_eq!(service.send(&request).await.status, 200);
        assert_eq!(service.wait_for_access()["client"], client);
    }
    service.signal("TERM");
    let (_, log) = service.end();
    let warnings = log.iter().filter(|line| line.contains(WARNING)).count();
    assert_eq!(warnings, usize::from(trusted.is_empty()), "{log:?}");
}
