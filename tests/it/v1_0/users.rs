//! `/v1.0/users`: administrators list, make, change and remove users.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use claviger::store::users::NewUser;
use rstest::rstest;
use serde_json::{Value, json};

use crate::common::{Answer, Backend, PASSWORD, TestApp};

const ROUTE: &str = "/v1.0/users";
const OTHER: &str = "staple battery horse correct";

/// A service, and the id and the token of its administrator.
async fn start(backend: Backend) -> (TestApp, i64, String) {
    let app = TestApp::start(backend).await;
    let new = NewUser {
        username: "root".to_owned(),
        password_hash: Some(app.hash(PASSWORD).await),
        is_admin: true,
        disabled: false,
    };
    let root = app.insert(new).await;
    let token = app.token("root").await;
    (app, root, token)
}

async fn send(app: &TestApp, method: &str, path: &str, token: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json");
    app.send(request.body(Body::from(body.to_owned())).unwrap())
        .await
}

async fn patch(app: &TestApp, id: i64, token: &str, body: &Value) -> Answer {
    send(
        app,
        "PATCH",
        &format!("{ROUTE}/{id}"),
        token,
        &body.to_string(),
    )
    .await
}

#[rstest]
#[tokio::test]
async fn a_user_is_made_changed_and_removed(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (app, _, root) = start(backend).await;
    let body = json!({ "username": "Alice", "password": PASSWORD }).to_string();
    let made = send(&app, "POST", ROUTE, &root, &body).await;
    assert_eq!(made.status, StatusCode::CREATED);
    let user = made.json();
    let id = user["id"].as_i64().unwrap();
    assert_eq!(made.headers["location"], format!("users/{id}"));
    assert_eq!(made.headers["cache-control"], "no-store");
    assert_eq!(
        (&user["username"], &user["is_admin"], &user["disabled"]),
        (&json!("alice"), &json!(false), &json!(false))
    );
    let path = format!("{ROUTE}/{id}");
    let read = app.call_with("GET", &path, &root).await;
    assert_eq!((read.status, read.json()), (StatusCode::OK, user));

    let alice = app.token("alice").await;
    // What is no change of the password, and forbids nothing, ends nothing.
    let renamed = patch(
        &app,
        id,
        &root,
        &json!({ "username": "Alicia", "is_admin": true }),
    )
    .await;
    assert_eq!(renamed.status, StatusCode::OK);
    assert_eq!(renamed.json()["username"], "alicia");
    assert_eq!(app.check(&alice).await.status, StatusCode::OK);
    // The right is read anew for each request.
    assert_eq!(
        app.call_with("GET", ROUTE, &alice).await.status,
        StatusCode::OK
    );

    let reset = patch(&app, id, &root, &json!({ "password": OTHER })).await;
    assert_eq!(reset.status, StatusCode::OK);
    assert_eq!(app.check(&alice).await.status, StatusCode::UNAUTHORIZED);
    assert_eq!(
        app.log_in("alicia", PASSWORD).await.status,
        StatusCode::UNAUTHORIZED
    );
    let alice = app.log_in("alicia", OTHER).await.token();
    let disabled = patch(&app, id, &root, &json!({ "disabled": true })).await;
    assert_eq!(disabled.json()["disabled"], true);
    assert_eq!(app.check(&alice).await.status, StatusCode::UNAUTHORIZED);
    let enabled = patch(
        &app,
        id,
        &root,
        &json!({ "disabled": false, "is_admin": false }),
    )
    .await;
    assert_eq!(enabled.json()["disabled"], false);

    let alice = app.log_in("alicia", OTHER).await.token();
    let forbidden = app.call_with("GET", ROUTE, &alice).await;
    assert_eq!(forbidden.status, StatusCode::FORBIDDEN);
    assert_eq!(forbidden.json()["code"], "forbidden");
    let removed = app.call_with("DELETE", &path, &root).await;
    assert_eq!(removed.status, StatusCode::NO_CONTENT);
    assert_eq!(app.check(&alice).await.status, StatusCode::UNAUTHORIZED);
    for method in ["GET", "DELETE"] {
        let gone = app.call_with(method, &path, &root).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND);
    }
    let gone = patch(&app, id, &root, &json!({})).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[rstest]
#[tokio::test]
async fn what_contradicts_is_refused(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (app, id, root) = start(backend).await;
    let taken = send(&app, "POST", ROUTE, &root, r#"{"username":"ROOT"}"#).await;
    assert_eq!(
        (taken.status, &taken.json()["code"]),
        (StatusCode::CONFLICT, &json!("conflict"))
    );
    for body in [json!({ "disabled": true }), json!({ "is_admin": false })] {
        let last = patch(&app, id, &root, &body).await;
        assert_eq!(last.status, StatusCode::CONFLICT, "{body}");
        let detail = last.json()["detail"].to_string();
        assert!(detail.contains("last administrator"), "{detail}");
    }
    let path = format!("{ROUTE}/{id}");
    let last = app.call_with("DELETE", &path, &root).await;
    assert_eq!(last.status, StatusCode::CONFLICT);
    assert_eq!(app.check(&root).await.status, StatusCode::OK);
    for path in ["/v1.0/users/x", "/v1.0/users/-1", "/v1.0/users/%ff"] {
        let nobody = app.call_with("GET", path, &root).await;
        assert_eq!(nobody.status, StatusCode::NOT_FOUND, "{path}");
    }
}

#[rstest]
#[case(r#"{"username":"a","id":7}"#, &["id"])]
#[case(r#"{"password":"short"}"#, &["username"])]
#[case(r#"{"username":"","password":"short"}"#, &["username", "password"])]
#[case(r#"{"username":"abcdefgh","password":"abcdefghabcdefgh"}"#, &["password"])]
#[case(r#"{"username":"a","username":"b"}"#, &["username"])]
#[tokio::test]
async fn a_body_is_strict(#[case] body: &str, #[case] fields: &[&str]) {
    let (app, _, root) = start(Backend::Embedded).await;
    let refused = send(&app, "POST", ROUTE, &root, body).await;
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY);
    let json = refused.json();
    let errors = json["errors"].as_array().unwrap();
    let told: Vec<&str> = errors
        .iter()
        .map(|error| error["field"].as_str().unwrap())
        .collect();
    assert_eq!(told, fields);
    assert_eq!(app.users.list(0, 10).await.unwrap().len(), 1);
}

#[rstest]
#[tokio::test]
async fn pages_are_in_the_order_of_the_ids(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (app, _, root) = start(backend).await;
    for number in 0..4 {
        let body = json!({ "username": format!("user-{number}") }).to_string();
        send(&app, "POST", ROUTE, &root, &body).await;
    }
    let mut seen = Vec::new();
    let mut query = "?limit=2".to_owned();
    loop {
        let page = app
            .call_with("GET", &format!("{ROUTE}{query}"), &root)
            .await;
        let page = page.json();
        let items = page["items"].as_array().unwrap();
        seen.extend(items.iter().map(|user| user["username"].to_string()));
        let Some(next) = page["next"].as_str() else {
            break;
        };
        query = format!("?limit=2&after={next}");
    }
    assert_eq!(
        seen,
        [
            "\"root\"",
            "\"user-0\"",
            "\"user-1\"",
            "\"user-2\"",
            "\"user-3\""
        ]
    );
    let wrong = app.call_with("GET", "/v1.0/users?after=x", &root).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
}
