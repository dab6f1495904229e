//! Who has no live token does not reach the application.

use claviger::auth::token::Token;
use rstest::rstest;

use super::{Recipe, Setup, reached, refused, request};
use crate::common::with_token;

#[rstest]
#[tokio::test]
async fn without_a_good_token_the_application_is_not_asked(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let unknown = format!("authorization: Bearer {}\r\n", Token::generate().expose());
    for headers in [
        "",
        "authorization: Basic Y2xpZW50OnNlY3JldA==\r\n",
        "authorization: Bearer x\r\n",
        "x-user-id: 1\r\n",
        &unknown,
    ] {
        for method in ["GET", "OPTIONS", "DELETE", "PROPFIND"] {
            refused(&setup.send(&request(method, "/a/b?c", headers)).await, 401);
        }
        let body = "content-length: 3\r\n";
        let post = request("POST", "/", &format!("{headers}{body}"));
        refused(&setup.send(&format!("{post}a=b")).await, 401);
    }
    assert_eq!(setup.application.calls(), 0);
    reached(&setup.ask().await);
    assert_eq!(setup.application.calls(), 1);
}

#[rstest]
#[tokio::test]
async fn a_token_in_the_query_or_beside_another_does_not_count(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let target = format!("/?access_token={}", setup.token);
    refused(&setup.send(&request("GET", &target, "")).await, 401);
    let twice = setup.with_token("GET", "/", "authorization: Bearer x\r\n");
    let answer = setup.send(&twice).await;
    // nginx refuses this by itself.
    let status = if recipe == Recipe::Nginx { 400 } else { 401 };
    refused(&answer, status);
    assert_eq!(setup.application.calls(), 0);
}

#[rstest]
#[tokio::test]
async fn a_token_that_ended_is_refused_at_once(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    let mut connection = setup.connect().await;
    let request = setup.with_token("GET", "/", "");
    for _ in 0..3 {
        connection.send(&request).await;
        reached(&connection.answer().await);
    }
    let end = with_token("DELETE", &setup.token);
    assert_eq!(setup.service.send(&end).await.status, 204);
    connection.send(&request).await;
    let answer = connection.answer().await;
    refused(&answer, 401);
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge, Some("Bearer error=\"invalid_token\""));
    assert_eq!(setup.application.calls(), 3);
}

/// The application may refuse as well, and in its own words.
#[rstest]
#[tokio::test]
async fn what_the_application_answers_is_not_touched(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    for status in [200, 204, 401, 403, 404, 500, 502, 503] {
        let target = format!("/status/{status}");
        let answer = setup.send(&setup.with_token("GET", &target, "")).await;
        assert_eq!(answer.status, status, "{answer:?}");
        assert_eq!(answer.header("x-of"), Some("the application"));
        assert_eq!(answer.header("retry-after"), None);
        let body = if status == 204 { "" } else { "mine" };
        assert_eq!(answer.text(), body);
    }
}

#[tokio::test]
async fn nobody_gets_to_the_location_that_asks() {
    let setup = Setup::start(Recipe::Nginx).await;
    for target in [
        "/_claviger",
        "//_claviger",
        "/x/../_claviger",
        "/%5fclaviger",
    ] {
        let answer = setup.send(&setup.with_token("GET", target, "")).await;
        assert_eq!(answer.status, 404, "{target}");
        assert_eq!(answer.header("x-user-id"), None);
    }
    assert_eq!(setup.claviger.connections(), 0);
    assert_eq!(setup.application.calls(), 0);
}
