//! `tokens.max_sessions_per_user`: the oldest goes.

use std::sync::Arc;

use claviger::store::tokens::SessionId;
use futures_util::future::join_all;
use rstest::rstest;
use tokio::task::JoinSet;

use super::ids;
use crate::common::{Backend, PASSWORD, TestApp};

#[rstest]
#[tokio::test]
async fn the_oldest_session_makes_room(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start_with(backend, |config| config.tokens.max_sessions_per_user = 3).await;
    let id = app.user("alice").await;
    app.user("bob").await;
    let of_bob = app.token("bob").await;
    let mut tokens = Vec::new();
    for count in 1..=6 {
        tokens.push(app.token("alice").await);
        let (gone, alive) = tokens.split_at(tokens.len().saturating_sub(3));
        for token in gone {
            app.check(token).await.problem(401, "invalid-token");
        }
        for token in alive {
            assert_eq!(app.check(token).await.status, 200, "of {count}");
        }
        let mut listed: Vec<String> = alive
            .iter()
            .map(|token| SessionId::of(id, token).to_string())
            .collect();
        listed.sort_unstable();
        let sessions = app.sessions(&tokens[tokens.len() - 1]).await;
        let mut seen = ids(&sessions);
        seen.sort_unstable();
        assert_eq!(seen, listed);
        // Logins of one millisecond have no order among them.
        let clock = chrono::Utc::now().timestamp_millis();
        while chrono::Utc::now().timestamp_millis() == clock {}
    }
    // One that ended makes room of its own.
    app.log_out(&tokens[4]).await;
    tokens.push(app.token("alice").await);
    for alive in [&tokens[3], &tokens[5], &tokens[6]] {
        assert_eq!(app.check(alive).await.status, 200);
    }
    assert_eq!(app.check(&of_bob).await.status, 200);
}

#[rstest]
#[tokio::test]
async fn many_logins_at_once_all_succeed_below_the_limit(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let tokens = join_all((0..20).map(|_| app.token("alice"))).await;
    for token in &tokens {
        assert_eq!(app.check(token).await.status, 200);
    }
    assert_eq!(app.sessions(&tokens[0]).await.len(), 20);
}

/// Each is let in, and as many as there may be are alive afterwards: whoever was pushed out at once by those beside it holds a
/// token that is dead, as if they had come a moment later.
#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_logins_at_once_all_succeed_beyond_the_limit(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values(1, 3)] limit: usize,
) {
    let app = TestApp::start_with(backend, |config| {
        config.tokens.max_sessions_per_user = limit;
    });
    let app = Arc::new(app.await);
    app.user("alice").await;
    for _ in 0..5 {
        let mut logins = JoinSet::new();
        for _ in 0..20 {
            let app = Arc::clone(&app);
            logins.spawn(async move { app.log_in("alice", PASSWORD).await });
        }
        let mut alive = 0;
        for login in logins.join_all().await {
            if app.check(&login.token()).await.status == 200 {
                alive += 1;
            }
        }
        assert_eq!(alive, limit);
        let asker = app.token("alice").await;
        assert_eq!(app.sessions(&asker).await.len(), limit);
    }
}
