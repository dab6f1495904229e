//! Claviger is away, hangs, or can't tell: nobody passes, and nobody is told that he is not logged in.

use rstest::rstest;
use secrecy::ExposeSecret;

use super::{Recipe, Setup, reached, refused, request};
use crate::common::{Backend, Deployment, Proxy, redis_url};

#[rstest]
#[tokio::test]
async fn without_claviger_nobody_passes(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
    #[values(true, false)] cut: bool,
) {
    let setup = Setup::start(recipe).await;
    reached(&setup.ask().await);
    if cut {
        setup.claviger.cut();
    } else {
        setup.claviger.stall();
    }
    refused(&setup.ask().await, 503);
    refused(
        &setup.send(&request("GET", "/", "x-user-id: 1\r\n")).await,
        503,
    );
    assert_eq!(setup.application.calls(), 1);

    setup.claviger.heal();
    reached(&setup.ask().await);
    refused(&setup.send(&request("GET", "/", "")).await, 401);
}

#[rstest]
#[tokio::test]
async fn connections_that_have_died_are_not_noticed(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let setup = Setup::start(recipe).await;
    for _ in 0..5 {
        reached(&setup.ask().await);
        // As after a new release of Claviger.
        setup.claviger.restart();
    }
}

#[rstest]
// The service starts through the proxy of this test.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claviger_that_can_not_tell_lets_nobody_pass(
    #[values(Recipe::Nginx, Recipe::Caddy, Recipe::Haproxy)] recipe: Recipe,
) {
    let (redis, url) = Proxy::before(&redis_url()).await;
    let mut deployment = Deployment::new(Backend::External).await;
    deployment.set("CLAVIGER_TOKENS__URL", url.expose_secret());
    deployment.set("CLAVIGER_TOKENS__TIMEOUT", "1s");
    let setup = Setup::start_on(recipe, deployment).await;
    reached(&setup.ask().await);
    redis.cut();
    refused(&setup.ask().await, 503);
    assert_eq!(setup.application.calls(), 1);
    redis.heal();
    reached(&setup.ask().await);
}
