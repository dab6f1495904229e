//! The ways to Redis: one server, Sentinel, Cluster. Masters die and are replaced, and nobody is told "not logged in" for it.

use std::time::{Duration, Instant};

use crate::common::{Backend, PASSWORD, TestApp};

mod cluster;
mod idle;
mod replicas;
mod rights;
mod sentinel;
mod single;
mod tls;

/// How soon all has to be well again after there is another master.
const RECOVERY: Duration = Duration::from_secs(5);

/// How often something is looked at before it is given up: some minutes.
const MOST_LOOKS: u32 = 2_000_000;

/// A service on a Redis that is reached by this URL, which gives it up after some seconds: a busy machine is no outage.
async fn app_on(url: &secrecy::SecretString) -> TestApp {
    app_with(url, |_| ()).await
}

async fn app_with(
    url: &secrecy::SecretString,
    set: impl FnOnce(&mut claviger::config::Tokens),
) -> TestApp {
    TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url.clone();
        config.tokens.timeout = Duration::from_secs(3);
        set(&mut config.tokens);
    })
    .await
}

/// A user logs in, is known, and logs out.
async fn a_session_comes_and_goes(app: &TestApp, username: &str) {
    let token = app.token(username).await;
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);
    app.check(&token).await.problem(401, "invalid-token");
}

/// Nobody logs in, nothing is hashed for it, and nobody is told that a token is of no use.
async fn all_is_unavailable(app: &TestApp, tokens: &[&str]) {
    let runs = app.hash_runs();
    let away = "dependency-unavailable";
    app.log_in("alice", PASSWORD).await.problem(503, away);
    assert_eq!(app.hash_runs(), runs);
    for token in tokens {
        app.check(token).await.problem(503, away);
        app.log_out(token).await.problem(503, away);
    }
    let ready = app.ops("/readyz").await;
    assert_eq!(ready.json()["failing"], serde_json::json!(["tokens"]));
}

/// Checks a token that is alive until that is said, and tells how long that took. Nothing but "unavailable" may be said before.
async fn until_it_lives(app: &TestApp, token: &str) -> Duration {
    let begin = Instant::now();
    for _ in 0..MOST_LOOKS {
        let answer = app.check(token).await;
        if answer.status == 200 {
            return begin.elapsed();
        }
        answer.problem(503, "dependency-unavailable");
    }
    panic!("the check is never answered");
}
