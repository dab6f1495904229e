//! What Claviger is asked, and how.

use std::collections::BTreeMap;

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Application, Gateway, Recipe, Setup, reached, refused, request, values};
use crate::common::Connection;

/// Asks through a gateway whose Claviger is this test, and tells the request that came: its first line and its headers.
async fn heard(
    recipe: Recipe,
    headers: &str,
    body: &str,
) -> (String, BTreeMap<String, Vec<String>>) {
    let claviger = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = claviger.local_addr().unwrap().to_string();
    let application = Application::start().await;
    let gateway = Gateway::start(recipe, &address, &application.address);
    let mut client = Connection::open(&gateway.url).await;
    let request = request("POST", "/secret/path?secret=query", headers);
    client.send(&format!("{request}{body}")).await;

    let (mut stream, _) = claviger.accept().await.unwrap();
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    let answer =
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 0\r\n\r\n";
    stream.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(client.answer().await.status, 401);
    // Nothing came after the head.
    drop(gateway);
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.unwrap();
    assert_eq!(rest, b"");
    assert_eq!(application.calls(), 0);

    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let first = lines.next().unwrap().to_owned();
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in lines {
        let (name, value) = line.split_once(':').unwrap();
        let values = found.entry(name.to_lowercase()).or_default();
        values.push(value.trim().to_owned());
    }
    (first, found)
}

#[rstest]
#[tokio::test]
async fn claviger_is_told_the_token_and_the_id_of_the_request(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let headers = "authorization: Bearer clv_x\r\ncookie: secret=cookie\r\nx-user-id: 1\r\nx_user_id: 1\r\n\
                   x-request-id: of-the-client\r\nx-forwarded-for: 127.0.0.1\r\nx-forwarded-uri: /health\r\n\
                   content-type: text/plain\r\ncontent-length: 11\r\n";
    let (first, mut found) = heard(recipe, headers, "secret body").await;
    assert_eq!(first, "GET /v1.0/forward-auth HTTP/1.1");
    assert_eq!(found["authorization"], ["Bearer clv_x"]);
    let [id] = found["x-request-id"].as_slice() else {
        panic!("{found:?}")
    };
    assert_ne!(id, "of-the-client");
    let secret = |text: &String| text.contains("secret");
    assert!(!found.values().flatten().any(secret), "{found:?}");
    for name in [
        "cookie",
        "x-user-id",
        "x_user_id",
        "x-forwarded-uri",
        "content-length",
        "transfer-encoding",
    ] {
        assert!(!found.contains_key(name), "{name}: {found:?}");
    }
    let more: &[&str] = match recipe {
        Recipe::Nginx => &[],
        // Its version in Debian can't leave out what it has no name for.
        Recipe::Caddy => &["content-type", "user-agent", "accept-encoding"],
        // Its own.
        Recipe::Haproxy => &["user-agent", "accept"],
    };
    for name in more {
        found.remove(*name);
    }
    let names: Vec<&str> = found.keys().map(String::as_str).collect();
    assert_eq!(names, ["authorization", "host", "x-request-id"]);
}

#[rstest]
#[tokio::test]
async fn one_id_is_that_of_the_whole_request(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let mut setup = Setup::start(recipe).await;
    // The login that the setup made.
    while setup.service.wait_for_access()["route"] != "/v1.0/user/auth" {}
    let seen = reached(&setup.ask().await);
    let access = setup.service.wait_for_access();
    assert_eq!(access["route"], "/v1.0/forward-auth");
    assert_eq!(
        values(&seen, "x-request-id"),
        [access["request_id"].as_str().unwrap()]
    );
}

#[rstest]
#[tokio::test]
async fn connections_to_claviger_are_kept(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    const REQUESTS: u64 = 200;
    let setup = Setup::start(recipe).await;
    let mut connection = setup.connect().await;
    for number in 0..REQUESTS {
        if number % 4 == 0 {
            connection.send(&request("GET", "/", "")).await;
            refused(&connection.answer().await, 401);
        } else {
            connection.send(&setup.with_token("GET", "/", "")).await;
            reached(&connection.answer().await);
        }
    }
    // One for each of its threads, and what it takes to begin with.
    let made = setup.claviger.connections();
    assert!(made * 50 <= REQUESTS, "{made} for {REQUESTS} requests");
}
