//! The recipes of examples/gateways, each run by its own program, between a client and an application that says what it was
//! sent.

use axum::http::StatusCode;
use secrecy::ExposeSecret;
use serde_json::Value;

use self::application::Application;
use self::gateway::Gateway;
pub(crate) use self::gateway::Recipe;
use crate::common::{Answer, Backend, Connection, Deployment, Program, Proxy, post_login};

mod application;
mod asked;
mod bodies;
mod gateway;
mod identity;
mod outage;
mod refusals;
mod requests;

/// A client's way: gateway, then Claviger by a proxy that can be broken, then the application.
struct Setup {
    gateway: Gateway,
    application: Application,
    claviger: Proxy,
    service: Program,
    token: String,
}

impl Setup {
    async fn start(recipe: Recipe) -> Self {
        Self::start_on(recipe, Deployment::new(Backend::Embedded).await).await
    }

    async fn start_on(recipe: Recipe, deployment: Deployment) -> Self {
        // Nobody who is told an id of 1 can be sure that it is not made up.
        for name in ["first", "second", "alice"] {
            deployment.user(name);
        }
        let service = deployment.start();
        let token = service.send(&post_login("alice")).await.token();
        let (claviger, through) = Proxy::before(&service.api.clone().into()).await;
        let application = Application::start().await;
        let through = url::Url::parse(through.expose_secret()).unwrap();
        let claviger_address = format!("127.0.0.1:{}", through.port().unwrap());
        let gateway = Gateway::start(recipe, &claviger_address, &application.address);
        Self {
            gateway,
            application,
            claviger,
            service,
            token,
        }
    }

    async fn connect(&self) -> Connection {
        Connection::open(&self.gateway.url).await
    }

    /// Sends a request on a connection of its own.
    async fn send(&self, request: &str) -> Answer {
        let mut connection = self.connect().await;
        connection.send(request).await;
        connection.answer().await
    }

    /// A request with the token, and more headers.
    fn with_token(&self, method: &str, target: &str, headers: &str) -> String {
        let bearer = format!("authorization: Bearer {}\r\n{headers}", self.token);
        request(method, target, &bearer)
    }

    /// Asks with the token.
    async fn ask(&self) -> Answer {
        self.send(&self.with_token("GET", "/", "")).await
    }
}

/// The id of `alice`.
const ID: &str = "3";

/// A request with these headers, each `name: value` and an end of line.
fn request(method: &str, target: &str, headers: &str) -> String {
    format!("{method} {target} HTTP/1.1\r\nhost: app.example.com\r\n{headers}\r\n")
}

/// Asserts that the application was reached as `alice`, and tells what it was sent.
#[track_caller]
fn reached(answer: &Answer) -> Value {
    assert_eq!(answer.status, 200, "{answer:?}");
    let seen = answer.json();
    let ids: Vec<&str> = values(&seen, "x-user-id");
    assert_eq!(ids, [ID], "{seen}");
    // The token stays with the gateway.
    assert!(values(&seen, "authorization").is_empty(), "{seen}");
    assert!(!seen.to_string().contains("clv_"), "{seen}");
    seen
}

/// Asserts that the gateway refused with this status, and that its answer names nobody.
#[track_caller]
fn refused(answer: &Answer, status: u16) {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("x-user-id"), None);
    let challenge = answer.header("www-authenticate");
    assert_eq!(challenge.is_some(), status == 401, "{answer:?}");
    if answer.status == StatusCode::SERVICE_UNAVAILABLE {
        assert_eq!(answer.header("retry-after"), Some("2"), "{answer:?}");
    }
}

/// The values of a header that the application was sent.
fn values<'a>(seen: &'a Value, name: &str) -> Vec<&'a str> {
    let headers = seen["headers"].as_array().unwrap().iter();
    headers
        .filter(|header| header[0] == name)
        .map(|header| header[1].as_str().unwrap())
        .collect()
}
