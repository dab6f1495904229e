//! The service, without a socket: requests go straight into what the listeners would serve.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::request::Builder;
use axum::http::{HeaderMap, Request, StatusCode};
use claviger::api::{Api, AppState};
use claviger::app::{App, Startup};
use claviger::auth::password::Password;
use claviger::config::{Config, MigrateMode, Mode};
use claviger::store::database;
use claviger::store::users::{NewUser, Users};
use http_body_util::BodyExt;
use secrecy::SecretString;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::{Backend, TestDatabase, redis_url, unique};

/// The password of every user that [`TestApp::user`] makes.
pub(crate) const PASSWORD: &str = "correct horse battery staple";

/// A service of its own, with a database of its own.
pub(crate) struct TestApp {
    pub(crate) state: AppState,
    pub(crate) startup: Startup,
    pub(crate) database: TestDatabase,
    pub(crate) users: Users,
    pub(crate) config: Config,
    api: Api,
    ops: Router,
}

impl TestApp {
    /// A service that is ready, with hashes that cost next to nothing.
    pub(crate) async fn start(backend: Backend) -> Self {
        Self::start_with(backend, |_| ()).await
    }

    /// The same, with other settings.
    pub(crate) async fn start_with(backend: Backend, set: impl FnOnce(&mut Config)) -> Self {
        let mut app = Box::pin(Self::build_with(backend, set)).await;
        Box::pin(app.startup.round()).await.unwrap();
        app
    }

    /// A service that has not yet looked at anything.
    pub(crate) async fn build_with(backend: Backend, set: impl FnOnce(&mut Config)) -> Self {
        let database = super::database(backend).await;
        let mut config = Config {
            mode: Mode::Prod,
            ..Config::default()
        };
        config.database = database.settings();
        config.database.migrate = Some(MigrateMode::Auto);
        // A busy machine is no outage; what tests one sets a time-out of its own.
        config.database.acquire_timeout = Duration::from_secs(20);
        config.tokens.timeout = Duration::from_secs(20);
        config.tokens.url = match backend {
            Backend::Embedded => SecretString::from("memory:"),
            Backend::External => redis_url(),
        };
        config.tokens.key_prefix = unique("test-");
        config.password.memory_kib = 8;
        config.password.iterations = 1;
        config.password.foreign_max_mib = 1;
        config.password.workers = Some(2);
        set(&mut config);

        let users = Users::new(database::connect(&config.database).await.unwrap());
        let app = Box::pin(App::build(config.clone(), || 0)).await.unwrap();
        let (api, ops, state, startup) = app.into_parts();
        Self {
            state,
            startup,
            database,
            users,
            config,
            api,
            ops,
        }
    }

    /// Creates a user with [`PASSWORD`] and tells the id.
    pub(crate) async fn user(&self, username: &str) -> i64 {
        let password_hash = Some(self.hash(PASSWORD).await);
        self.insert(NewUser {
            username: username.to_owned(),
            password_hash,
            is_admin: false,
            disabled: false,
        })
        .await
    }

    /// Creates a user and tells the id.
    pub(crate) async fn insert(&self, new: NewUser) -> i64 {
        self.users.insert(new).await.unwrap().id
    }

    /// A hash of the current cost.
    pub(crate) async fn hash(&self, password: &str) -> SecretString {
        let password = Password::parse(password.into()).unwrap();
        self.state
            .authenticator()
            .hash_pool()
            .hash(&password)
            .await
            .unwrap()
    }

    /// How many passwords were hashed since the start.
    pub(crate) fn hash_runs(&self) -> u64 {
        self.state.authenticator().hash_pool().stats().runs
    }

    /// Sends a request to the API.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.api.clone().oneshot(request).await.unwrap()).await
    }

    /// `GET` from the operations listener.
    pub(crate) async fn ops(&self, path: &str) -> Answer {
        let request = Request::get(path).body(Body::empty()).unwrap();
        Answer::of(self.ops.clone().oneshot(request).await.unwrap()).await
    }

    /// A request without a body and without headers.
    pub(crate) async fn call(&self, method: &str, path: &str) -> Answer {
        self.send(
            Request::builder()
                .method(method)
                .uri(path)
                .body(Body::empty())
                .unwrap(),
        )
        .await
    }

    /// Logs in with JSON.
    pub(crate) async fn log_in(&self, username: &str, password: &str) -> Answer {
        self.post_json(&json!({ "username": username, "password": password }).to_string())
            .await
    }

    /// Logs in as a user that [`TestApp::user`] made, and tells the token.
    pub(crate) async fn token(&self, username: &str) -> String {
        self.log_in(username, PASSWORD).await.token()
    }

    /// Posts to the login as JSON.
    pub(crate) async fn post_json(&self, body: &str) -> Answer {
        self.post("application/json", body.to_owned()).await
    }

    /// Posts to the login as a form.
    pub(crate) async fn post_form(&self, body: &str) -> Answer {
        self.post("application/x-www-form-urlencoded", body.to_owned())
            .await
    }

    /// Posts to the login.
    pub(crate) async fn post(&self, content_type: &str, body: impl Into<Body>) -> Answer {
        self.send(
            login()
                .header("content-type", content_type)
                .body(body.into())
                .unwrap(),
        )
        .await
    }

    /// Checks a token.
    pub(crate) async fn check(&self, token: &str) -> Answer {
        self.call_with("GET", "/v1.0/user/auth", token).await
    }

    /// Logs out.
    pub(crate) async fn log_out(&self, token: &str) -> Answer {
        self.call_with("DELETE", "/v1.0/user/auth", token).await
    }

    /// A request with a token and without a body.
    pub(crate) async fn call_with(&self, method: &str, path: &str, token: &str) -> Answer {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("authorization", format!("Bearer {token}"));
        self.send(request.body(Body::empty()).unwrap()).await
    }

    /// Changes the password of the one who holds the token.
    pub(crate) async fn change_password(&self, token: &str, current: &str, new: &str) -> Answer {
        let body = json!({ "current_password": current, "new_password": new });
        self.put_password(token, "application/json", body.to_string())
            .await
    }

    /// Puts to the own password.
    pub(crate) async fn put_password(
        &self,
        token: &str,
        content_type: &str,
        body: impl Into<Body>,
    ) -> Answer {
        let request = Request::put("/v1.0/user/password")
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", content_type);
        self.send(request.body(body.into()).unwrap()).await
    }

    /// The own sessions, the newest first.
    pub(crate) async fn sessions(&self, token: &str) -> Vec<Value> {
        let answer = self.call_with("GET", "/v1.0/user/sessions", token).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["items"].as_array().unwrap().clone()
    }

    /// The value of a metric, as it stands in a scrape: `name{labels}`.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        self.ops("/metrics").await.metric(series)
    }
}

/// The head of a login.
pub(crate) fn login() -> Builder {
    Request::post("/v1.0/user/auth")
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) async fn of(response: axum::response::Response) -> Self {
        let (parts, body) = response.into_parts();
        Self {
            status: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.to_vec()).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// A header that may be there once at most.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let value = values.next()?;
        assert!(values.next().is_none(), "{name} is there twice");
        Some(value.to_str().unwrap())
    }

    /// The value of a metric in a scrape: `name{labels}`.
    pub(crate) fn metric(&self, series: &str) -> u64 {
        let text = self.text();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}"))
            .parse()
            .unwrap()
    }

    /// The token that a login was answered with.
    pub(crate) fn token(&self) -> String {
        assert_eq!(self.status, 200, "{}", self.text());
        self.json()["access_token"].as_str().unwrap().to_owned()
    }

    /// Asserts that this is a problem document of the contract, and tells it.
    #[track_caller]
    pub(crate) fn problem(&self, status: u16, code: &str) -> Value {
        let text = self.text();
        assert_eq!(self.status.as_u16(), status, "{text}");
        assert_eq!(
            self.header("content-type"),
            Some("application/problem+json"),
            "{text}"
        );
        assert_eq!(self.header("cache-control"), Some("no-store"), "{text}");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{text}");
        assert_eq!(problem["code"], code, "{text}");
        assert_eq!(
            problem["type"],
            format!("urn:claviger:error:{code}"),
            "{text}"
        );
        assert!(
            problem["title"]
                .as_str()
                .is_some_and(|title| !title.is_empty()),
            "{text}"
        );
        assert!(
            problem["detail"]
                .as_str()
                .is_some_and(|detail| !detail.is_empty()),
            "{text}"
        );
        assert_eq!(
            problem["request_id"].as_str(),
            self.header("x-request-id"),
            "{text}"
        );
        assert_eq!(
            self.header("retry-after").is_some(),
            status == 503 || status == 429,
            "{text}"
        );
        assert_eq!(
            self.header("www-authenticate").is_some(),
            status == 401,
            "{text}"
        );
        problem
    }
}
