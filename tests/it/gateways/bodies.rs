//! Bodies go to the application, unharmed, and never to Claviger.

use std::fmt::Write;

use rstest::rstest;

use super::application::digest;
use super::{Recipe, Setup, reached};

#[rstest]
#[tokio::test]
async fn a_body_reaches_the_application_unharmed(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let mut connection = setup.connect().await;
    for length in [1, 1000, 100_000, 900_000] {
        let body: String = ('a'..='z').cycle().take(length).collect();
        for method in ["POST", "PUT", "DELETE", "GET"] {
            let head = setup.with_token(
                method,
                "/a//b?c=%2f",
                &format!("content-length: {length}\r\n"),
            );
            connection.send(&format!("{head}{body}")).await;
            let seen = reached(&connection.answer().await);
            assert_eq!(seen["method"], method);
            assert_eq!(seen["target"], "/a//b?c=%2f");
            assert_eq!(seen["length"], length);
            assert_eq!(seen["sha256"], digest(body.as_bytes()));
        }
        // In chunks.
        let head = setup.with_token("POST", "/", "transfer-encoding: chunked\r\n");
        let (one, other) = body.split_at(length / 2);
        let mut chunks = String::new();
        for chunk in [one, other].into_iter().filter(|chunk| !chunk.is_empty()) {
            write!(chunks, "{:x}\r\n{chunk}\r\n", chunk.len()).unwrap();
        }
        connection.send(&format!("{head}{chunks}0\r\n\r\n")).await;
        let seen = reached(&connection.answer().await);
        assert_eq!(seen["sha256"], digest(body.as_bytes()));
    }
    let checks = setup
        .service
        .metric("claviger_token_checks_total{outcome=\"valid\"}");
    assert_eq!(checks.await, setup.application.calls());
}

#[rstest]
#[tokio::test]
async fn a_client_may_wait_until_it_is_asked_for_the_body(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let mut connection = setup.connect().await;
    let expect = "content-length: 3\r\nexpect: 100-continue\r\n";
    connection
        .send(&setup.with_token("POST", "/", expect))
        .await;
    assert_eq!(connection.answer().await.status, 100);
    connection.send("a=b").await;
    let mut answer = connection.answer().await;
    // From the gateway and from the application: one or both.
    while answer.status == 100 {
        answer = connection.answer().await;
    }
    assert_eq!(reached(&answer)["sha256"], digest(b"a=b"));
}
