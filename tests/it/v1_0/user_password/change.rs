//! What a change does to the password and to the sessions.

use futures_util::future::join_all;
use rstest::rstest;
use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, TransactionTrait};
use secrecy::ExposeSecret;

use super::NEW;
use crate::common::{Backend, PASSWORD, TestApp, wait_for_sessions};

#[rstest]
#[tokio::test]
async fn the_other_sessions_end_and_this_one_lives_on(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    app.user("bob").await;
    let before = app.users.find_by_id(id).await.unwrap().unwrap();
    let tokens = [
        app.token("alice").await,
        app.token("alice").await,
        app.token("alice").await,
    ];
    let of_bob = app.token("bob").await;
    let runs = app.hash_runs();

    let answer = app.change_password(&tokens[1], PASSWORD, NEW).await;

    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
    assert_eq!(app.hash_runs() - runs, 2, "one to verify, one to hash");
    assert_eq!(app.check(&tokens[1]).await.status, 200);
    for ended in [&tokens[0], &tokens[2]] {
        app.check(ended).await.problem(401, "invalid-token");
    }
    let sessions = app.sessions(&tokens[1]).await;
    assert_eq!(sessions.len(), 1);
    assert_eq!(sessions[0]["current"], true);
    assert_eq!(app.check(&of_bob).await.status, 200);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 2);

    app.log_in("alice", PASSWORD)
        .await
        .problem(401, "invalid-credentials");
    assert_eq!(app.log_in("alice", NEW).await.status, 200);
    let after = app.users.find_by_id(id).await.unwrap().unwrap();
    assert!(after.password_changed_at > before.password_changed_at);
    assert!(after.updated_at > before.updated_at);
}

#[rstest]
#[tokio::test]
async fn a_wrong_current_password_is_forbidden_and_costs_one_run(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let before = app.users.find_by_id(id).await.unwrap().unwrap();
    let runs = app.hash_runs();

    let answer = app
        .change_password(&token, "a wrong long password", NEW)
        .await;

    let problem = answer.problem(403, "invalid-credentials");
    assert_eq!(problem["detail"], "The current password is wrong.");
    assert_eq!(app.hash_runs() - runs, 1);
    for token in [&token, &other] {
        assert_eq!(app.check(token).await.status, 200);
    }
    let after = app.users.find_by_id(id).await.unwrap().unwrap();
    assert_eq!(
        after.password_hash.unwrap().expose_secret(),
        before.password_hash.unwrap().expose_secret()
    );
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 0);
}

/// A hash that nobody can have typed a password for, or none: whoever still holds a token can't change it either.
#[rstest]
#[case::none("NULL")]
#[case::unknown_kind("'$md5$abc'")]
#[tokio::test]
async fn without_a_usable_hash_every_password_is_wrong(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] hash: &str,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let sql = format!("UPDATE users SET password_hash = {hash}");
    let database = app.database.connect().await;
    database.execute_unprepared(&sql).await.unwrap();
    let runs = app.hash_runs();
    app.change_password(&token, PASSWORD, NEW)
        .await
        .problem(403, "invalid-credentials");
    assert_eq!(app.hash_runs() - runs, 1);
}

#[rstest]
#[tokio::test]
async fn both_spellings_of_the_current_password_are_right(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let (composed, decomposed) = ("ein sch\u{f6}nes Passwort", "ein scho\u{308}nes Passwort");
    for (current, new) in [(PASSWORD, composed), (decomposed, NEW)] {
        let answer = app.change_password(&token, current, new).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
    }
    assert_eq!(app.log_in("alice", NEW).await.status, 200);
}

/// Keeps all others from writing to the users until it is committed.
async fn hold(database: &DatabaseConnection) -> DatabaseTransaction {
    let held = database.begin().await.unwrap();
    let lock = "SELECT 1 FROM users FOR UPDATE";
    held.execute_unprepared(lock).await.unwrap();
    held
}

#[rstest]
#[tokio::test]
async fn of_two_changes_at_once_one_is_made(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values(true, false)] same_token: bool,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let first = app.token("alice").await;
    let second = if same_token {
        first.clone()
    } else {
        app.token("alice").await
    };
    // Both have read the row and verified the password when either writes: PostgreSQL holds them up there.
    let database = app.database.connect().await;
    let held = match backend {
        Backend::Embedded => None,
        Backend::External => Some(hold(&database).await),
    };
    let release = async {
        if let Some(held) = held {
            wait_for_sessions(&database, 2, "wait_event_type = 'Lock'").await;
            held.commit().await.unwrap();
        }
    };
    let others = ["the password of the first", "the password of the second"];
    let (one, two, ()) = tokio::join!(
        app.change_password(&first, PASSWORD, others[0]),
        app.change_password(&second, PASSWORD, others[1]),
        release
    );

    let statuses = [one.status.as_u16(), two.status.as_u16()];
    let Some(winner) = statuses.iter().position(|status| *status == 204) else {
        panic!("{} {}", one.text(), two.text());
    };
    let lost = [&one, &two][1 - winner];
    if same_token || lost.status == 403 {
        lost.problem(403, "invalid-credentials");
    } else {
        // The winner was done before the other asked, and has ended its session.
        lost.problem(401, "invalid-token");
    }
    let (kept, ended) = if winner == 0 {
        (&first, &second)
    } else {
        (&second, &first)
    };
    assert_eq!(app.check(kept).await.status, 200);
    if !same_token {
        app.check(ended).await.problem(401, "invalid-token");
    }
    assert_eq!(app.sessions(kept).await.len(), 1);
    assert_eq!(app.log_in("alice", others[winner]).await.status, 200);
    for wrong in [PASSWORD, others[1 - winner]] {
        app.log_in("alice", wrong)
            .await
            .problem(401, "invalid-credentials");
    }
}

/// A login with the old password that was verified before the change, and recorded after it.
#[tokio::test]
async fn a_login_beside_a_change_gets_no_session_for_the_old_password() {
    let app = TestApp::start(Backend::External).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let database = app.database.connect().await;
    let held = hold(&database).await;
    // Row locks are granted in turn: whoever waits first writes first.
    let ahead = async {
        wait_for_sessions(&database, 1, "wait_event_type = 'Lock'").await;
        let login = app.log_in("alice", PASSWORD);
        let release = async {
            wait_for_sessions(&database, 2, "wait_event_type = 'Lock'").await;
            held.commit().await.unwrap();
        };
        tokio::join!(login, release).0
    };
    let (changed, login) = tokio::join!(app.change_password(&token, PASSWORD, NEW), ahead);
    // In either order there is no session left that the old password opened.
    assert_eq!(changed.status, 204, "{}", changed.text());
    if login.status == 200 {
        app.check(&login.token())
            .await
            .problem(401, "invalid-token");
    } else {
        login.problem(401, "invalid-credentials");
    }
    assert_eq!(app.sessions(&token).await.len(), 1);
}

#[rstest]
#[tokio::test]
async fn a_password_that_is_changed_again_and_again_keeps_one_session(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let passwords: Vec<String> = (0..5).map(|n| format!("the password number {n}")).collect();
    let mut current = PASSWORD;
    for new in &passwords {
        let others = join_all((0..3).map(|_| app.log_in("alice", current))).await;
        let answer = app.change_password(&token, current, new).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        for other in others {
            app.check(&other.token())
                .await
                .problem(401, "invalid-token");
        }
        current = new;
    }
    assert_eq!(app.sessions(&token).await.len(), 1);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 15);
}
