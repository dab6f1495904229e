//! Ending sessions: one, all, all but this one.

use claviger::store::tokens::SessionId;
use futures_util::future::join_all;
use rstest::rstest;

use super::{Kept, ROUTE, end_session, end_sessions, ids};
use crate::common::{Answer, Backend, TestApp};
use crate::v1_0::token;

#[rstest]
#[tokio::test]
async fn one_session_ends_and_no_other(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let tokens = [
        app.token("alice").await,
        app.token("alice").await,
        app.token("alice").await,
    ];
    let second = SessionId::of(id, &tokens[1]).to_string();

    let answer = end_session(&app, &tokens[0], &second).await;

    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
    app.check(&tokens[1]).await.problem(401, "invalid-token");
    for alive in [&tokens[0], &tokens[2]] {
        assert_eq!(app.check(alive).await.status, 200);
    }
    let sessions = app.sessions(&tokens[0]).await;
    assert_eq!(sessions.len(), 2);
    assert!(!ids(&sessions).contains(&second.as_str()));
    // It is none any more.
    end_session(&app, &tokens[0], &second)
        .await
        .problem(404, "not-found");

    // The own one, too: by that one logs out.
    let own = SessionId::of(id, &tokens[0]).to_string();
    assert_eq!(end_session(&app, &tokens[0], &own).await.status, 204);
    app.check(&tokens[0]).await.problem(401, "invalid-token");
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 2);
}

/// An answer without the id of its request.
fn without_id(answer: &Answer) -> String {
    let id = answer.header("x-request-id").unwrap();
    answer.text().replace(id, "")
}

#[rstest]
#[tokio::test]
async fn the_session_of_somebody_else_is_not_found_and_lives(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let alice = app.user("alice").await;
    let bob = app.user("bob").await;
    let (of_alice, of_bob) = (app.token("alice").await, app.token("bob").await);
    let name = SessionId::of(bob, &of_bob).name().to_owned();
    let nobody = end_session(&app, &of_alice, &format!("{alice}.AAAAAAAAAAAAAAAAAAAAAA")).await;
    for id in [
        format!("{bob}.{name}"),
        // What would be found if only a part of the id was looked at.
        format!("{alice}.{name}"),
        format!("0{bob}.{name}"),
        name,
    ] {
        let answer = end_session(&app, &of_alice, &id).await;
        answer.problem(404, "not-found");
        // Nothing tells an id of somebody else from one that never was.
        assert_eq!(without_id(&answer), without_id(&nobody), "{id}");
    }
    assert_eq!(app.check(&of_bob).await.status, 200);
    assert_eq!(app.sessions(&of_bob).await.len(), 1);
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, 0);
}

#[rstest]
#[case::junk("x")]
#[case::dot(".")]
#[case::current("current")]
#[case::no_utf8("%ff")]
#[case::long(&"a".repeat(5_000))]
#[case::glob("*")]
#[case::space("1.AAAAAAAAAAAAAAAAAAAAA%20")]
#[case::nul("1.AAAAAAAAAAAAAAAAAAAAA%00")]
#[tokio::test]
async fn what_is_no_id_is_not_found(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] id: &str,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    end_session(&app, &token, id)
        .await
        .problem(404, "not-found");
    // Nor is the token itself one.
    end_session(&app, &token, &token)
        .await
        .problem(404, "not-found");
    assert_eq!(app.check(&token).await.status, 200);
}

#[rstest]
#[tokio::test]
async fn all_sessions_end_or_all_but_this_one(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values("", "?keep=current", "?x=y&keep=%63urrent", "?Keep=all")] query: &str,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    app.user("bob").await;
    let of_bob = app.token("bob").await;
    let tokens = join_all((0..5).map(|_| app.token("alice"))).await;
    let kept = query.contains("current") || query.contains("%63");

    let answer = end_sessions(&app, &tokens[2], query).await;

    assert_eq!((answer.status.as_u16(), answer.text().as_str()), (204, ""));
    for (at, token) in tokens.iter().enumerate() {
        let check = app.check(token).await;
        if kept && at == 2 {
            assert_eq!(check.status, 200);
        } else {
            check.problem(401, "invalid-token");
        }
    }
    assert_eq!(app.check(&of_bob).await.status, 200);
    let ended = if kept { 4 } else { 5 };
    assert_eq!(app.metric("claviger_tokens_revoked_total").await, ended);
    // It is no ban.
    let again = app.token("alice").await;
    let sessions = app.sessions(&again).await.len();
    assert_eq!(sessions, if kept { 2 } else { 1 });
}

#[rstest]
#[case::another("?keep=all", "must be 'current'")]
#[case::empty("?keep=", "must be 'current'")]
#[case::no_value("?keep", "must be 'current'")]
#[case::case("?keep=Current", "must be 'current'")]
#[case::twice("?keep=current&keep=current", "is there twice")]
#[tokio::test]
async fn what_is_kept_is_the_current_one_or_nothing(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] query: &str,
    #[case] message: &str,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let tokens = [app.token("alice").await, app.token("alice").await];
    let answer = end_sessions(&app, &tokens[0], query).await;
    let problem = answer.problem(422, "invalid-input");
    assert_eq!(problem["errors"][0]["field"], "keep");
    assert_eq!(problem["errors"][0]["message"], message);
    for token in &tokens {
        assert_eq!(app.check(token).await.status, 200);
    }
}

/// However a session ends, its token is dead on every route, and its key is gone when the answer is there.
#[rstest]
#[tokio::test]
async fn a_revoked_token_is_dead_everywhere_and_its_key_is_gone(
    #[values("log out", "machine", "one", "all", "others", "password")] way: &str,
) {
    let app = TestApp::start_with(Backend::External, token::register).await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    assert!(kept.is_there(&token).await);
    assert!(kept.record(id, &token).await.is_some());

    let answer = match way {
        "log out" => app.log_out(&token).await,
        "machine" => token::revoke(&app, &token).await,
        "one" => {
            let session = SessionId::of(id, &token).to_string();
            end_session(&app, &other, &session).await
        }
        "all" => end_sessions(&app, &other, "").await,
        "others" => end_sessions(&app, &other, "?keep=current").await,
        _ => {
            let new = "another long password";
            let current = crate::common::PASSWORD;
            app.change_password(&other, current, new).await
        }
    };

    let expected = if way == "machine" { 200 } else { 204 };
    assert_eq!(answer.status, expected, "{}", answer.text());
    assert!(!kept.is_there(&token).await);
    assert_eq!(kept.record(id, &token).await, None);
    let other_lives = way != "all";
    assert_eq!(kept.is_there(&other).await, other_lives);
    assert_eq!(kept.record(id, &other).await.is_some(), other_lives);
    let session = format!("{ROUTE}/{}", SessionId::of(id, &token));
    for (method, path) in [
        ("GET", "/v1.0/user/auth"),
        ("DELETE", "/v1.0/user/auth"),
        ("GET", "/v1.0/user"),
        ("PUT", "/v1.0/user/password"),
        ("GET", ROUTE),
        ("DELETE", ROUTE),
        ("DELETE", &session),
    ] {
        let answer = app.call_with(method, path, &token).await;
        answer.problem(401, "invalid-token");
    }
    token::inactive(&token::introspect(&app, &token).await);
    let gateway = app.call_with("GET", "/v1.0/forward-auth", &token).await;
    assert_eq!(gateway.status, 401);
}

/// A round of logins beside a revoke-all: what is issued before it is dead, and whoever comes out alive is in the list.
#[rstest]
#[tokio::test]
async fn logins_beside_the_end_of_all_are_dead_or_listed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    for _ in 0..20 {
        let before = app.token("alice").await;
        let logins = join_all((0..4).map(|_| app.token("alice")));
        let (beside, ended) = tokio::join!(logins, end_sessions(&app, &before, ""));
        assert_eq!(ended.status, 204, "{}", ended.text());
        app.check(&before).await.problem(401, "invalid-token");
        let asker = app.token("alice").await;
        let sessions = app.sessions(&asker).await;
        for token in beside {
            let session = SessionId::of(id, &token).to_string();
            let listed = ids(&sessions).contains(&session.as_str());
            assert_eq!(app.check(&token).await.status == 200, listed);
        }
        assert_eq!(end_sessions(&app, &asker, "").await.status, 204);
    }
}
