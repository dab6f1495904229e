//! What only the example for production does; and whether the limits of both files suit the service.

use std::net::SocketAddr;
use std::time::Duration;

use claviger::config::Config;

use super::{
    EXAMPLE, EXAMPLE_NEEDS, Edge, HERE, TEMPLATE, THERE, deployment, outside, port, replace,
    serve_one, stand_in, with_servers,
};
use crate::common::{Connection, Nginx, PASSWORD, get, post, with_token};

#[tokio::test]
async fn the_example_keeps_connections_open() {
    let (listener, port) = stand_in().await;
    let front = Edge::Example.before(&[HERE], port).await;
    let request = get("/api/");
    let two = async {
        front.nginx.send(&request).await;
        front.nginx.send(&request).await
    };
    let served = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        serve_one(&mut stream).await;
        serve_one(&mut stream).await;
    };
    tokio::select! {
        biased;
        () = served => {}
        answer = two => panic!("the second came on another connection: {answer:?}"),
    }
}

#[tokio::test]
async fn the_example_limits_logins_only() {
    let deployment = deployment().await;
    let service = deployment.start();
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

#[tokio::test]
async fn the_example_ends_tls() {
    const NAME: &str = "login.example.com";
    let deployment = deployment().await;
    let service = deployment.start();
    let rcgen::CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("login.example.com.pem"), cert.pem()).unwrap();
    let key = signing_key.serialize_pem();
    std::fs::write(folder.path().join("login.example.com.key"), key).unwrap();
    let text = with_servers(&format!("server {HERE}:{};", port(&service)));
    let text = text.replace("/etc/nginx/tls", folder.path().to_str().unwrap());
    // Not every machine has IPv6.
    let text = replace(&text, "    listen [::]:443 ssl default_server;\n", "");
    let text = replace(&text, "    listen [::]:443 ssl;\n", "");
    let text = if Nginx::version() >= EXAMPLE_NEEDS.to_vec() {
        text
    } else {
        replace(&text, "    http2 on;\n", "")
    };
    let nginx =
        Nginx::start(|listen| text.replace("listen 443 ssl", &format!("listen {listen} ssl")));
    let address: SocketAddr = nginx.url.strip_prefix("http://").unwrap().parse().unwrap();

    let provider = rustls::crypto::ring::default_provider();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(cert.der().clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(provider.into())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(tls)
        .resolve(NAME, address)
        .resolve("other.example.com", address)
        .no_proxy()
        .build()
        .unwrap();
    let url = format!("https://{NAME}:{}", address.port());
    let login = client
        .post(format!("{url}/api/v1.0/user/auth"))
        .header("content-type", "application/x-www-form-urlencoded")
        .header("origin", &url)
        .body(format!("username=alice&password={PASSWORD}"))
        .send()
        .await
        .unwrap();
    assert_eq!(login.status(), 200);
    let nothing = client.get(format!("{url}/nothing")).send().await.unwrap();
    assert_eq!(nothing.status(), 404);
    for answer in [login, nothing] {
        let headers = answer.headers();
        assert_eq!(headers["strict-transport-security"], "max-age=63072000");
        assert_eq!(headers["x-content-type-options"], "nosniff");
    }

    // Another name does not get as far as a certificate; plain HTTP is told nothing but that.
    let other = format!("https://other.example.com:{}/api/", address.port());
    assert!(client.get(other).send().await.unwrap_err().is_connect());
    let plain = get("/api/").replace("host: test", "host: login.example.com");
    nginx.send(&plain).await.problem(400, "bad-request");
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
