//! `/v1.0/token/introspect` and `/v1.0/token/revoke`, for registered clients.

mod clients;
mod introspect;
mod revoke;

use axum::body::Body;
use axum::http::{HeaderValue, Request};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use claviger::config::{Client, Config};

use crate::common::{Answer, Backend, TestApp};

const INTROSPECT: &str = "/v1.0/token/introspect";
const REVOKE: &str = "/v1.0/token/revoke";
const FORM: &str = "application/x-www-form-urlencoded";

/// Holds all that a form or HTTP Basic gives a meaning to, and is not the same when it is decoded.
const SECRET: &str = "100% of +1: %41 & \"so on\"=~/?#";

/// A service with the client `gate`, and another one.
async fn start(backend: Backend) -> TestApp {
    TestApp::start_with(backend, register).await
}

pub(super) fn register(config: &mut Config) {
    for (name, secret) in [
        ("gate", SECRET),
        ("other.gate-2", "the secret of another client"),
    ] {
        let client = Client {
            secret: secret.into(),
        };
        config.clients.insert(name.to_owned(), client);
    }
}

/// The header of HTTP Basic, with both parts as they are.
fn basic(name: &str, secret: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{secret}")))
}

/// The header of HTTP Basic as RFC 6749, section 2.3.1, has it.
fn encoded(name: &str, secret: &str) -> String {
    let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
    basic(&encode(name), &encode(secret))
}

/// Posts with these `Authorization` headers.
async fn post(
    app: &TestApp,
    path: &str,
    authorization: &[&str],
    content_type: &str,
    body: impl Into<Body>,
) -> Answer {
    let mut request = Request::post(path).header("content-type", content_type);
    for value in authorization {
        request = request.header("authorization", HeaderValue::from_str(value).unwrap());
    }
    app.send(request.body(body.into()).unwrap()).await
}

/// Posts a form as the client `gate`.
async fn ask(app: &TestApp, path: &str, form: &str) -> Answer {
    post(
        app,
        path,
        &[&encoded("gate", SECRET)],
        FORM,
        form.to_owned(),
    )
    .await
}

pub(super) async fn introspect(app: &TestApp, token: &str) -> Answer {
    ask(app, INTROSPECT, &format!("token={token}")).await
}

pub(super) async fn revoke(app: &TestApp, token: &str) -> Answer {
    ask(app, REVOKE, &format!("token={token}")).await
}

/// Asserts that this is all that is said of a token that is not alive.
#[track_caller]
pub(super) fn inactive(answer: &Answer) {
    assert_eq!(
        (answer.status.as_u16(), answer.text().as_str()),
        (200, r#"{"active":false}"#)
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.header("cache-control"), Some("no-store"));
}

/// A token that nobody was given.
fn unknown() -> String {
    claviger::auth::token::Token::generate().expose().to_owned()
}
