//! More logins than can be hashed.

use std::time::Duration;

use futures_util::future::join_all;
use rstest::rstest;

use crate::common::{Backend, PASSWORD, TestApp};

#[rstest]
#[tokio::test]
async fn a_flood_is_answered_with_tokens_or_overloaded_and_checks_go_on(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        // It is one user who floods here, and the gate that has to stand it.
        config.limits.enabled = false;
        config.password.workers = Some(1);
        config.password.queue = Some(4);
        // A hash has to cost much more than what else there is to a login, or a machine whose CPUs are taken never has five
        // at once.
        config.password.memory_kib = 19_456;
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let runs = app.hash_runs();

    let logins = join_all((0..100).map(|_| app.log_in("alice", PASSWORD)));
    let checks = join_all((0..100).map(|_| app.check(&token)));
    let (logins, checks) = futures_util::future::join(logins, checks).await;

    let mut refused = 0;
    for answer in &logins {
        if answer.status != 200 {
            answer.problem(503, "overloaded");
            let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
            assert!((1..=2).contains(&retry_after), "{retry_after}");
            refused += 1;
        }
    }
    assert!(refused > 0, "five places for a hundred logins");
    assert_eq!(
        app.hash_runs() - runs,
        100 - refused,
        "who is refused costs no hash"
    );
    assert!(checks.iter().all(|answer| answer.status == 200));
    let overloaded = app
        .metric(r#"claviger_logins_total{outcome="overloaded"}"#)
        .await;
    assert_eq!(overloaded, refused);
    assert_eq!(app.metric("claviger_hash_queue_length").await, 0);
    app.token("alice").await;
}

#[rstest]
#[tokio::test]
async fn nobody_waits_longer_than_the_limit(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| {
        config.password.queue_timeout = Duration::ZERO;
        config.password.workers = Some(1);
        config.password.memory_kib = 4096;
    })
    .await;
    // With no time to wait there is a place only for who finds a free worker, at best.
    let logins = join_all((0..20).map(|_| app.log_in("nobody", PASSWORD))).await;
    assert!(logins.iter().any(|answer| answer.status == 503));
    assert!(
        logins
            .iter()
            .all(|answer| answer.status == 503 || answer.status == 401)
    );
}
