//! `/v1.0/user`: the own user.

use claviger::auth::token::Token;
use claviger::store::users::NewUser;
use rstest::rstest;
use sea_orm::ConnectionTrait;
use serde_json::json;

use crate::common::{Answer, Backend, Deployment, PASSWORD, Proxy, TestApp, post_login, redis_url};

async fn own_user(app: &TestApp, token: &str) -> Answer {
    app.call_with("GET", "/v1.0/user", token).await
}

async fn execute(app: &TestApp, sql: &str) {
    let database = app.database.connect().await;
    database.execute_unprepared(sql).await.unwrap();
}

#[rstest]
#[tokio::test]
async fn a_user_sees_what_is_kept_of_him_and_no_hash(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    let password_hash = Some(app.hash(PASSWORD).await);
    let id = app
        .insert(NewUser {
            username: "zo\u{eb}".to_owned(),
            password_hash,
            is_admin: true,
            disabled: false,
        })
        .await;
    let token = app.token("ZO\u{cb}").await;

    let answer = own_user(&app, &token).await;

    assert_eq!(answer.status, 200, "{}", answer.text());
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
    let user = answer.json();
    let expected = json!({
        "id": id,
        "username": "zo\u{eb}",
        "is_admin": true,
        "disabled": false,
        "created_at": user["created_at"],
        "updated_at": user["updated_at"],
        "last_login_at": user["last_login_at"],
        "password_changed_at": user["password_changed_at"],
    });
    assert_eq!(user, expected);
    let stored = app.users.find_by_id(id).await.unwrap().unwrap();
    for (name, stored) in [
        ("created_at", Some(stored.created_at)),
        ("updated_at", Some(stored.updated_at)),
        ("last_login_at", stored.last_login_at),
        ("password_changed_at", stored.password_changed_at),
    ] {
        let expected = stored.unwrap().format("%Y-%m-%dT%H:%M:%SZ").to_string();
        assert_eq!(user[name], expected, "{name}");
    }
}

/// A row that was written by hand has what the database gives it, and no more.
#[rstest]
#[tokio::test]
async fn what_never_was_is_null(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let app = TestApp::start(backend).await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;
    let sql = "UPDATE users SET last_login_at = NULL, password_changed_at = NULL";
    execute(&app, sql).await;
    let user = own_user(&app, &token).await.json();
    assert_eq!(user["id"], id);
    for name in ["last_login_at", "password_changed_at"] {
        assert!(user[name].is_null() && user.get(name).is_some(), "{user}");
    }
}

/// Whoever writes the table by hand ends no session by that; the own user is asked of the database all the same.
#[rstest]
#[case::disabled("UPDATE users SET disabled_at = CURRENT_TIMESTAMP")]
#[case::deleted("DELETE FROM users")]
#[tokio::test]
async fn a_token_of_nobody_is_invalid(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] sql: &str,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(own_user(&app, &token).await.status, 200);

    execute(&app, sql).await;
    let answer = own_user(&app, &token).await;
    answer.problem(401, "invalid-token");
    assert_eq!(
        answer.header("www-authenticate"),
        Some("Bearer error=\"invalid_token\"")
    );
    let runs = app.hash_runs();
    app.change_password(&token, PASSWORD, "another long password")
        .await
        .problem(401, "invalid-token");
    assert_eq!(app.hash_runs(), runs);
    assert_eq!(app.check(&token).await.status, 200, "no database is asked");
}

#[rstest]
#[case::get_user("GET", "/v1.0/user")]
#[case::change_password("PUT", "/v1.0/user/password")]
#[case::list_sessions("GET", "/v1.0/user/sessions")]
#[case::end_sessions("DELETE", "/v1.0/user/sessions")]
#[case::end_session("DELETE", "/v1.0/user/sessions/1.AAAAAAAAAAAAAAAAAAAAAA")]
#[tokio::test]
async fn every_route_wants_a_living_token(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[case] method: &str,
    #[case] path: &str,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let (token, alive) = (app.token("alice").await, app.token("alice").await);
    app.log_out(&token).await;

    let missing = app.call(method, path).await;
    missing.problem(401, "missing-token");
    assert_eq!(missing.header("www-authenticate"), Some("Bearer"));
    let malformed = app.call_with(method, path, "clv_x").await;
    malformed.problem(401, "invalid-token");
    // Whatever else may be wrong with it: a body is missing, the query means nothing.
    for dead in [&token, Token::generate().expose()] {
        for query in ["", "?limit=x&keep=x"] {
            let answer = app.call_with(method, &format!("{path}{query}"), dead).await;
            answer.problem(401, "invalid-token");
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer error=\"invalid_token\"")
            );
        }
    }
    let query = app
        .call(method, &format!("{path}?access_token={alive}"))
        .await;
    query.problem(401, "missing-token");
    assert_eq!(app.check(&alive).await.status, 200);
}

#[rstest]
#[case("/v1.0/user", "GET,HEAD")]
#[case("/v1.0/user/password", "PUT")]
#[case("/v1.0/user/sessions", "DELETE,GET,HEAD")]
#[case("/v1.0/user/sessions/x", "DELETE")]
#[tokio::test]
async fn other_methods_are_told_the_right_ones(#[case] path: &str, #[case] allowed: &str) {
    let app = TestApp::start(Backend::Embedded).await;
    let answer = app.call("PATCH", path).await;
    answer.problem(405, "method-not-allowed");
    let mut methods: Vec<&str> = answer.header("allow").unwrap().split(',').collect();
    methods.sort_unstable();
    assert_eq!(methods.join(","), allowed);
    for slash in [format!("{path}/"), path.replace("/user", "//user")] {
        app.call("GET", &slash).await.problem(404, "not-found");
    }
}

#[tokio::test]
async fn an_outage_says_nothing_of_the_token() {
    let database = crate::common::database(Backend::External).await;
    let (database, database_url) = Proxy::before(&database.url).await;
    let (tokens, tokens_url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.database.url = database_url;
        config.database.acquire_timeout = std::time::Duration::from_secs(1);
        config.tokens.url = tokens_url;
        config.tokens.timeout = std::time::Duration::from_secs(1);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(own_user(&app, &token).await.status, 200);

    for (proxy, stalls) in [
        (&database, false),
        (&database, true),
        (&tokens, false),
        (&tokens, true),
    ] {
        if stalls {
            proxy.stall();
        } else {
            proxy.cut();
        }
        let answer = own_user(&app, &token).await;
        answer.problem(503, "dependency-unavailable");
        proxy.heal();
        assert_eq!(own_user(&app, &token).await.status, 200);
    }
}

/// A refusal, too: somebody may be trying passwords.
#[tokio::test]
async fn the_access_log_says_whom_it_concerns() {
    let deployment = Deployment::new(Backend::Embedded).await;
    deployment.user("alice");
    let mut service = deployment.start();
    let token = service.send(&post_login("alice")).await.token();
    let id = service.wait_for_access()["user_id"].clone();
    assert!(id.is_i64());
    let body = json!({ "current_password": "a wrong one", "new_password": PASSWORD }).to_string();
    for (method, path, route, status) in [
        ("GET", "/v1.0/user", "/v1.0/user", 200),
        ("PUT", "/v1.0/user/password", "/v1.0/user/password", 403),
        ("GET", "/v1.0/user/sessions", "/v1.0/user/sessions", 200),
        (
            "DELETE",
            "/v1.0/user/sessions/x",
            "/v1.0/user/sessions/{id}",
            404,
        ),
        ("DELETE", "/v1.0/user/sessions", "/v1.0/user/sessions", 204),
    ] {
        let body = if method == "PUT" { body.as_str() } else { "" };
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let answer = service.send(&request).await;
        assert_eq!(answer.status, status, "{}", answer.text());
        let line = service.wait_for_access();
        assert_eq!(
            (&line["method"], &line["route"]),
            (&method.into(), &route.into())
        );
        assert_eq!(line["status"], status);
        assert_eq!(line["user_id"], id, "{line}");
    }
}
