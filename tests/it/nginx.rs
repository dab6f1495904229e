//! The service behind a real nginx, with the configuration files that people use.

use std::net::Ipv4Addr;
use std::time::Duration;

use claviger::config::Config;
use rstest::rstest;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::common::{
    Answer, Backend, Connection, Deployment, Dns, Nginx, Program, credentials, get, post,
    post_login, with_token,
};

const TEMPLATE: &str = include_str!("../../docker/nginx/templates/default.conf.template");
const EXAMPLE: &str = include_str!("../../examples/nginx/claviger.conf");

/// The first version that reads [`EXAMPLE`] as it is.
const EXAMPLE_NEEDS: [u32; 3] = [1, 27, 3];

/// Two addresses of this machine. Linux has all of 127.0.0.0/8; elsewhere the second has to be added to the loopback.
const HERE: Ipv4Addr = Ipv4Addr::LOCALHOST;
const THERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// The two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Edge {
    /// What docker-compose.yml mounts.
    Compose,
    /// The example for production, without TLS and with addresses in place of a name.
    Example,
}

/// Puts something in place of text that has to be there once.
#[track_caller]
fn replace(text: &str, from: &str, to: &str) -> String {
    assert_eq!(text.matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

/// As the image of nginx fills the template in.
fn compose(listen: &str, dns: &str, api: &str) -> String {
    let variables = [
        ("${NGINX_LISTEN}", listen),
        ("${NGINX_RESOLVER}", dns),
        ("${API_UPSTREAM}", api),
    ];
    let mut text = TEMPLATE.to_owned();
    for (name, value) in variables {
        text = replace(&text, name, value);
    }
    assert!(!text.contains("${"), "a variable that nobody fills in");
    text
}

/// The example with the access log where the test reads it, and as older versions of nginx read it: with `servers` in place of a
/// name that is looked up.
fn example(listen: &str, servers: &str) -> String {
    let text = EXAMPLE;
    let text = &replace(
        text,
        "resolver 127.0.0.53 valid=5s ipv6=off;\n    server claviger.internal:8000 resolve;",
        servers,
    );
    without_tls(text, listen)
}

fn without_tls(text: &str, listen: &str) -> String {
    let text = &replace(
        text,
        "server {\n    listen 443 ssl default_server;\n    listen [::]:443 ssl default_server;\n    \
         ssl_reject_handshake on;\n}\n",
        "",
    );
    let text = &replace(
        text,
        "listen 443 ssl;\n    listen [::]:443 ssl;\n    http2 on;",
        &format!("listen {listen};"),
    );
    let text = &replace(
        text,
        "    ssl_certificate /etc/nginx/tls/login.example.com.pem;\n    \
         ssl_certificate_key /etc/nginx/tls/login.example.com.key;\n",
        "",
    );
    with_log(text)
}

fn with_log(text: &str) -> String {
    replace(text, "/var/log/nginx/claviger.log", "/dev/stdout")
}

impl Edge {
    /// An nginx before these addresses, which have the same port.
    async fn before(self, addresses: &[Ipv4Addr], port: u16) -> Front {
        self.before_with(addresses, port, str::to_owned).await
    }

    /// The same, with other settings.
    async fn before_with(
        self,
        addresses: &[Ipv4Addr],
        port: u16,
        change: impl Fn(&str) -> String,
    ) -> Front {
        let dns = Dns::start(addresses).await;
        let nginx = Nginx::start(|listen| {
            change(&match self {
                Self::Compose => compose(listen, &dns.address.to_string(), &format!("api:{port}")),
                Self::Example => {
                    let servers = addresses.iter();
                    let servers = servers.map(|address| format!("server {address}:{port};"));
                    example(listen, &servers.collect::<Vec<_>>().join(" "))
                }
            })
        });
        Front { nginx, dns }
    }

    /// An nginx before a service.
    async fn before_service(self, service: &Program) -> Front {
        self.before(&[HERE], port(service)).await
    }
}

/// An nginx, and where it looks for the service.
struct Front {
    nginx: Nginx,
    dns: Dns,
}

impl Front {
    /// Asks until it is answered with this status, and tells that answer.
    async fn wait_for(&self, status: u16) -> Answer {
        // A name is looked up once a second at most; each look takes a part of a millisecond.
        for _ in 0..200_000 {
            let answer = self.nginx.send(&get("/api/")).await;
            if answer.status == status {
                return answer;
            }
        }
        panic!("it never becomes {status}");
    }

    /// What nginx logged of this answer.
    fn access(&mut self, answer: &Answer) -> Value {
        self.nginx
            .wait_for_access(answer.header("x-request-id").unwrap())
    }
}

fn port(service: &Program) -> u16 {
    let (_, port) = service.api.rsplit_once(':').unwrap();
    port.parse().unwrap()
}

async fn deployment() -> Deployment {
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("CLAVIGER_SERVER__TRUSTED_PROXIES", "127.0.0.1");
    deployment.user("alice");
    deployment
}

/// The same request, as it is sent to nginx.
fn outside(request: &str) -> String {
    request.replacen(" /", " /api/", 1)
}

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
async fn the_api_is_below_api(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let service = deployment().await.start();
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
    let service = deployment().await.start();
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
    let service = deployment().await.start();
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

/// Takes one request and answers it, and tells its head.
async fn take(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    stream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    String::from_utf8(head).unwrap()
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
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let front = edge.before(&[HERE], port).await;
    let request = get(target);
    let (head, _) = tokio::join!(take(&listener), front.nginx.send(&request));
    let first = head.lines().next().unwrap();
    assert_eq!(first, format!("GET {stripped} HTTP/1.1"));
}

#[rstest]
#[tokio::test]
async fn what_is_forwarded_is_not_the_clients(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
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
    let (head, _) = tokio::join!(take(&listener), asked);
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
    let mut service = deployment().await.start();
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
    let service = deployment().await.start();
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
#[tokio::test]
async fn a_head_has_no_body(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let service = deployment().await.start();
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

#[rstest]
#[tokio::test]
async fn an_api_that_is_away_is_a_502(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let service = deployment().await.start();
    let mut front = edge.before_service(&service).await;
    let login = outside(&post_login("alice"));
    front.nginx.send(&login).await.token();

    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{log:?}");
    for request in [&login, &get("/api"), &get("/api/nothing.html")] {
        let answer = front.nginx.send(request).await;
        answer.problem(502, "bad-gateway");
        let access = front.access(&answer);
        assert_eq!(access["status"], "502");
        assert!(request.starts_with(access["method"].as_str().unwrap()));
    }
}

#[rstest]
#[tokio::test]
async fn an_api_that_hangs_is_a_504(#[values(Edge::Compose, Edge::Example)] edge: Edge) {
    let service = deployment().await.start();
    let front = edge
        .before_with(&[HERE], port(&service), |text| {
            replace(text, "proxy_read_timeout 15s;", "proxy_read_timeout 300ms;")
        })
        .await;
    service.signal("STOP");
    let answer = front.nginx.send(&outside(&post_login("alice"))).await;
    answer.problem(504, "gateway-timeout");
    service.signal("CONT");
    front.wait_for(200).await;
}

#[tokio::test]
async fn nginx_starts_first_and_follows_the_api() {
    follows(|listen, dns, port| compose(listen, dns, &format!("api:{port}"))).await;
}

#[tokio::test]
async fn the_example_needs_a_new_nginx_and_follows_the_api() {
    let as_it_is = |listen: &str, dns: &str, port: u16| {
        let resolver = format!("resolver {dns} valid=1s");
        let text = replace(EXAMPLE, "resolver 127.0.0.53 valid=5s", &resolver);
        let text = replace(
            &text,
            "server claviger.internal:8000",
            &format!("server claviger.internal:{port}"),
        );
        without_tls(&text, listen)
    };
    if Nginx::version() >= EXAMPLE_NEEDS.to_vec() {
        follows(as_it_is).await;
    } else {
        let (accepted, said) = Nginx::test(&as_it_is("127.0.0.1:1", "127.0.0.1:1", 1));
        assert!(!accepted);
        assert!(
            said.contains("\"resolver\" directive is not allowed here"),
            "{said}"
        );
    }
}

async fn follows(configuration: impl Fn(&str, &str, u16) -> String) {
    let mut deployment = deployment().await;
    let service = deployment.start();
    let port = port(&service);
    let dns = Dns::start(&[]).await;
    let address = dns.address.to_string();
    let nginx = Nginx::start(|listen| configuration(listen, &address, port));
    let front = Front { nginx, dns };

    let answer = front.nginx.send(&outside(&post_login("alice"))).await;
    answer.problem(502, "bad-gateway");
    front.dns.move_to(HERE);
    front.wait_for(200).await;

    // As a container that was made anew.
    service.signal("TERM");
    service.end();
    front.wait_for(502).await;
    deployment.set("CLAVIGER_SERVER__LISTEN", &format!("{THERE}:{port}"));
    let service = deployment.start();
    front.dns.move_to(THERE);
    front.wait_for(200).await;
    front
        .nginx
        .send(&outside(&post_login("alice")))
        .await
        .token();
    drop(service);
}

#[rstest]
#[tokio::test]
async fn a_login_goes_to_the_address_that_takes_it(
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let service = deployment().await.start();
    let front = edge.before(&[THERE, HERE], port(&service)).await;
    for _ in 0..6 {
        let answer = front.nginx.send(&outside(&post_login("alice"))).await;
        answer.token();
    }
}

#[rstest]
#[case::log_in(post_login("alice"), 1)]
#[case::check(with_token("GET", "clv_x"), 2)]
#[tokio::test]
async fn no_login_is_sent_twice(
    #[case] request: String,
    #[case] times: usize,
    #[values(Edge::Compose, Edge::Example)] edge: Edge,
) {
    let here = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = here.local_addr().unwrap().port();
    let there = TcpListener::bind((THERE, port)).await.unwrap();
    let front = edge.before(&[HERE, THERE], port).await;
    let request = outside(&request);
    let asked = front.nginx.send(&request);
    let mut asked = std::pin::pin!(asked);
    let mut taken = 0;
    let answer = loop {
        tokio::select! {
            answer = asked.as_mut() => break answer,
            Ok((mut stream, _)) = here.accept() => {
                taken += 1;
                // Read, and never answered.
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
            }
            Ok((mut stream, _)) = there.accept() => {
                taken += 1;
                let _ = stream.read(&mut [0; 4096]).await.unwrap();
            }
        }
    };
    answer.problem(502, "bad-gateway");
    assert_eq!(taken, times);
}

#[tokio::test]
async fn the_example_keeps_connections_open() {
    let listener = TcpListener::bind((HERE, 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let front = Edge::Example.before(&[HERE], port).await;
    let request = get("/api/");
    let two = async {
        front.nginx.send(&request).await;
        front.nginx.send(&request).await
    };
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        for _ in 0..2 {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                head.push(stream.read_u8().await.unwrap());
            }
            stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
                .await
                .unwrap();
        }
    };
    let (answer, ()) = tokio::join!(two, served);
    assert_eq!(answer.status, 200);
}

#[tokio::test]
async fn the_example_limits_logins_only() {
    let service = deployment().await.start();
    let mut front = Edge::Example.before_service(&service).await;
    let wrong = post("", "application/json", r#"{"username":"b","password":"c"}"#);
    let mut served = 0;
    // One frees up every three seconds at most, and no machine is so slow that these hundred take five minutes.
    let refused = loop {
        let answer = front.nginx.send(&outside(&wrong)).await;
        if answer.status == 429 {
            break answer;
        }
        answer.problem(401, "invalid-credentials");
        served += 1;
        assert!(served < 100);
    };
    assert!(served >= 11, "{served}");
    refused.problem(429, "too-many-attempts");
    assert_eq!(refused.header("retry-after"), Some("3"));
    assert_eq!(front.access(&refused)["upstream"], "");

    // A form, a query and each spelling count as well, though the API would take them.
    for target in [
        "/api/v1.0/user/auth",
        "/api/v1.0/user/auth?x",
        "/api//v1.0/user/auth",
        "/api/api/v1.0/user/auth",
        "/api//api//v1.0/user/auth",
    ] {
        let direct = target.strip_prefix("/api").unwrap();
        let login = |target| wrong.replacen("/v1.0/user/auth", target, 1);
        service
            .send(&login(direct))
            .await
            .problem(401, "invalid-credentials");
        let mut refused = false;
        for _ in 0..100 {
            refused = front.nginx.send(&login(target)).await.status == 429;
            if refused {
                break;
            }
        }
        assert!(refused, "{target}");
    }
    // A check and another address are free.
    for _ in 0..20 {
        let check = front
            .nginx
            .send(&outside(&with_token("GET", "clv_x")))
            .await;
        check.problem(401, "invalid-token");
    }
    let mut other = Connection::open_from(THERE, &front.nginx.url).await;
    other.send(&outside(&wrong)).await;
    other.answer().await.problem(401, "invalid-credentials");
}

/// The value of a directive, the same wherever it stands.
fn directive<'a>(text: &'a str, name: &str) -> &'a str {
    let values = text.lines().filter_map(|line| {
        let value = line.trim().strip_prefix(name)?.strip_prefix(' ')?;
        value.strip_suffix(';')
    });
    let values: Vec<&str> = values.collect();
    assert_eq!(values.len(), 1, "{name}: {values:?}");
    values[0]
}

#[test]
fn the_limits_suit_those_of_the_service() {
    let server = Config::default().server;
    let seconds = |text: &str| -> Duration {
        Duration::from_secs(text.strip_suffix('s').unwrap().parse().unwrap())
    };
    for text in [TEMPLATE, EXAMPLE] {
        for name in ["proxy_read_timeout", "proxy_send_timeout"] {
            assert!(
                seconds(directive(text, name)) > server.request_timeout,
                "{name}"
            );
        }
        let size = directive(text, "client_max_body_size");
        let kib: usize = size.strip_suffix('k').unwrap().parse().unwrap();
        assert!(kib * 1024 > server.body_limit);
        assert_eq!(directive(text, "client_body_buffer_size"), size);
    }
    assert!(seconds(directive(EXAMPLE, "keepalive_timeout")) < server.request_timeout);
}
