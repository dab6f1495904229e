//! The requests of gateways that don't run here, as they send them, and that our answer is one that they understand.
//!
//! Where each was taken from is said in its recipe's README.md.

use rstest::rstest;

use crate::common::{
    Answer, Backend, Connection, Deployment, Program, Proxy, post_login, redis_url,
};
use secrecy::ExposeSecret;

/// Traefik 3.7 with examples/gateways/traefik, asked for `POST /a/b?c=d`.
const TRAEFIK: &str = "\
GET /v1.0/forward-auth HTTP/1.1
Host: claviger.internal:8000
User-Agent: Go-http-client/1.1
Authorization: Bearer TOKEN
X-Forwarded-For: 203.0.113.7
X-Forwarded-Host: app.example.com
X-Forwarded-Method: POST
X-Forwarded-Port: 443
X-Forwarded-Proto: https
X-Forwarded-Uri: /a/b?c=d
X-Request-Id: ID
Accept-Encoding: gzip
";

/// Envoy 1.40 with examples/gateways/envoy, asked for `POST /a/../b?c=d`.
const ENVOY: &str = "\
POST /v1.0/forward-auth/a/../b?c=d HTTP/1.1
host: app.example.com
content-length: 0
authorization: Bearer TOKEN
x-request-id: ID
x-envoy-internal: true
x-envoy-expected-rq-timeout-ms: 3000
";

/// ingress-nginx 1.15 with examples/gateways/ingress-nginx, asked for `POST /a/b?c=d` by a client with a cookie and claims.
const INGRESS_NGINX: &str = "\
GET /v1.0/forward-auth HTTP/1.1
X-Request-ID: ID
X-Original-URI: /a/b?c=d
X-Scheme: https
Host: claviger.claviger.svc.cluster.local
X-Original-URL: https://app.example.com/a/b?c=d
X-Original-Method: POST
X-Sent-From: nginx-ingress-controller
X-Real-IP: 203.0.113.7
X-Forwarded-For: 203.0.113.7
X-Auth-Request-Redirect: /a/b?c=d
User-Agent: curl/8.5.0
Accept: */*
Authorization: Bearer TOKEN
X-User-Id: 1
X-Forwarded-Uri: /health
Cookie: session=secret
Content-Type: application/json
";

/// The request with this token, or without `Authorization`.
fn with(request: &str, token: Option<&str>) -> String {
    let text = request.replace("ID\n", "0af7651916cd43dd8448eb211c80319c\n");
    let lines = text.split_inclusive('\n');
    let lines = lines.filter(|line| token.is_some() || !line.ends_with("TOKEN\n"));
    let text: String = lines.collect();
    let text = text.replace("TOKEN", token.unwrap_or_default());
    format!("{text}\n").replace('\n', "\r\n")
}

/// What every gateway passes on, or reads: no body, and the caller's id.
#[track_caller]
fn plain(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-length"), Some("0"));
    let id = answer.header("x-request-id");
    assert_eq!(id, Some("0af7651916cd43dd8448eb211c80319c"));
    assert_eq!(answer.header("x-user-id").is_some(), status == 200);
    assert_eq!(answer.header("www-authenticate").is_some(), status == 401);
    assert_eq!(answer.header("retry-after").is_some(), status == 503);
    assert_eq!(answer.header("connection"), None, "it is kept");
    // An answer that a gateway could keep for another client.
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

async fn deployment(backend: Backend) -> Deployment {
    let deployment = Deployment::new(backend).await;
    for name in ["first", "alice"] {
        deployment.user(name);
    }
    deployment
}

async fn ask(connection: &mut Connection, request: &str) -> Answer {
    connection.send(request).await;
    connection.answer().await
}

#[rstest]
#[case::traefik(TRAEFIK)]
#[case::envoy(ENVOY)]
#[case::ingress_nginx(INGRESS_NGINX)]
#[tokio::test]
async fn the_request_of_each_gateway_is_understood(#[case] request: &str) {
    let service: Program = deployment(Backend::Embedded).await.start();
    let token = service.send(&post_login("alice")).await.token();
    let mut connection = service.connect().await;
    for _ in 0..3 {
        let alive = ask(&mut connection, &with(request, Some(&token))).await;
        plain(&alive, 200);
        assert_eq!(alive.header("x-user-id"), Some("2"));
        plain(&ask(&mut connection, &with(request, None)).await, 401);
        plain(&ask(&mut connection, &with(request, Some("x"))).await, 401);
    }
    // Two headers of a client, as Envoy and Caddy join them.
    let joined = format!("{token},Bearer {token}");
    plain(
        &ask(&mut connection, &with(request, Some(&joined))).await,
        401,
    );
    // And none, as Caddy sends it.
    let empty = with(request, Some("")).replace("Bearer \r\n", "\r\n");
    plain(&ask(&mut connection, &empty).await, 401);
}

#[rstest]
#[case::traefik(TRAEFIK)]
#[case::envoy(ENVOY)]
#[case::ingress_nginx(INGRESS_NGINX)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_gateway_hears_of_an_outage_and_of_its_end(#[case] request: &str) {
    let (redis, url) = Proxy::before(&redis_url()).await;
    let mut deployment = deployment(Backend::External).await;
    deployment.set("CLAVIGER_TOKENS__URL", url.expose_secret());
    deployment.set("CLAVIGER_TOKENS__TIMEOUT", "1s");
    let service = deployment.start();
    let token = service.send(&post_login("alice")).await.token();
    let request = with(request, Some(&token));
    let mut connection = service.connect().await;
    plain(&ask(&mut connection, &request).await, 200);
    redis.cut();
    plain(&ask(&mut connection, &request).await, 503);
    redis.heal();
    plain(&ask(&mut connection, &request).await, 200);
}
