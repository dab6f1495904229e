//! HTTP: the routers and the layers around them.
//!
//! ```text
//! base_path::rewrite      the path that the routes know
//! └ observe::observe      id, span, time-out, panic, metrics, access log
//!   └ Router
//!     └ handler           its signature says what it needs: Credentials, Bearer, RegisteredClient
//! ```

mod base_path;
mod dialect;
mod docs;
pub mod error;
pub mod extract;
mod hello;
pub(crate) mod objects;
mod observe;
mod ops;
mod request_id;
mod route;
mod v1_0;

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::http::Request;
use axum::middleware::from_fn;
use axum::response::Response;
use futures_util::FutureExt;
use tower::Service;
use utoipa::OpenApi;
use utoipa::openapi::PathItem;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use self::route::RouteTemplates;
use crate::auth::Authenticator;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::store::health::Health;

/// What handlers share. One cheap clone for each request.
#[derive(Clone)]
pub struct AppState(Arc<Inner>);

struct Inner {
    config: Config,
    authenticator: Authenticator,
    health: Arc<Health>,
    metrics: Metrics,
    traces: bool,
    draining: AtomicBool,
    warned_of_untrusted_proxy: AtomicBool,
    dropped_log_lines: Box<dyn Fn() -> u64 + Send + Sync>,
}

impl AppState {
    /// Brings the parts together.
    pub fn new(
        config: Config,
        authenticator: Authenticator,
        health: Arc<Health>,
        metrics: Metrics,
        dropped_log_lines: Box<dyn Fn() -> u64 + Send + Sync>,
    ) -> Self {
        Self(Arc::new(Inner {
            traces: config.telemetry.traces(),
            config,
            authenticator,
            health,
            metrics,
            draining: AtomicBool::new(false),
            warned_of_untrusted_proxy: AtomicBool::new(false),
            dropped_log_lines,
        }))
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.0.config
    }

    /// Logins, checks and revocations.
    pub fn authenticator(&self) -> &Authenticator {
        &self.0.authenticator
    }

    /// What is known of the dependencies.
    pub fn health(&self) -> &Health {
        &self.0.health
    }

    /// What is counted and timed.
    pub fn metrics(&self) -> &Metrics {
        &self.0.metrics
    }

    /// From now on `/readyz` says that no new requests are wanted.
    pub fn start_draining(&self) {
        self.0.draining.store(true, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Relaxed)
    }

    fn traces(&self) -> bool {
        self.0.traces
    }

    fn dropped_log_lines(&self) -> u64 {
        (self.0.dropped_log_lines)()
    }

    fn warn_of_untrusted_proxy(&self, peer: IpAddr) {
        if !self
            .0
            .warned_of_untrusted_proxy
            .swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                %peer,
                "X-Forwarded-For came from a peer that is not in server.trusted_proxies, and is ignored; said once"
            );
        }
    }
}

/// The service of the API listener.
///
/// What wraps the router is no layer of it: a layer is made anew for each request and each route.
#[derive(Clone)]
pub struct Api {
    router: Router,
    routes: RouteTemplates,
    state: AppState,
}

impl Service<Request<Body>> for Api {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        base_path::rewrite(request.uri_mut(), &self.state.config().server.base_path);
        let route = self.routes.of(request.uri().path());
        let answer = observe::observe(self.state.clone(), route, request, self.router.clone());
        Box::pin(answer.map(Ok))
    }
}

/// The API, as it is served on `server.listen`.
pub fn api(state: AppState) -> Api {
    let (router, openapi) = routes().split_for_parts();
    let router = router
        .merge(docs::router(&openapi, state.config().docs()))
        .fallback(async || error::ApiError::NotFound)
        .method_not_allowed_fallback(async || error::ApiError::MethodNotAllowed);
    let templates = v1_0::forward_auth::templates;
    for (path, item) in &openapi.paths.paths {
        for route in templates(path) {
            for method in methods(item) {
                state.metrics().expect_requests(method, route);
            }
        }
    }
    let documented = openapi.paths.paths.keys().flat_map(|path| templates(path));
    Api {
        routes: RouteTemplates::new(documented.chain(docs::PATHS)),
        router: router.with_state(state.clone()),
        state,
    }
}

/// The methods that a route has.
fn methods(item: &PathItem) -> impl Iterator<Item = &'static str> {
    let operations = [
        ("GET", &item.get),
        ("PUT", &item.put),
        ("POST", &item.post),
        ("DELETE", &item.delete),
        ("OPTIONS", &item.options),
        ("HEAD", &item.head),
        ("PATCH", &item.patch),
        ("TRACE", &item.trace),
    ];
    let known = |(method, operation): (_, &Option<_>)| operation.is_some().then_some(method);
    operations.into_iter().filter_map(known)
}

/// Operations, as they are served on `server.ops_listen`.
pub fn ops(state: AppState) -> Router {
    ops::router()
        .fallback(async || error::ApiError::NotFound)
        .method_not_allowed_fallback(async || error::ApiError::MethodNotAllowed)
        .layer(from_fn(observe::identify))
        .with_state(state)
}

/// The OpenAPI document of the API.
pub fn openapi() -> utoipa::openapi::OpenApi {
    routes().into_openapi()
}

fn routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(hello::hello))
        .merge(v1_0::router())
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Claviger",
        version = "1.0",
        description = "A username and a password in, an opaque token out.\n\nErrors are RFC 9457 problem documents; \
                       every answer carries `X-Request-Id`.",
    ),
    // Relative to the document, so that it holds behind any prefix.
    servers((url = ".")),
    modifiers(&Schemes),
)]
struct Document;

struct Schemes;

impl utoipa::Modify for Schemes {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let components = openapi.components.get_or_insert_default();
        for (name, scheme, description) in [
            (
                "bearer",
                HttpAuthScheme::Bearer,
                "The `access_token` of a login.",
            ),
            (
                "client",
                HttpAuthScheme::Basic,
                "Name and secret of a registered client (`clients.NAME.secret`).",
            ),
        ] {
            let mut scheme = Http::new(scheme);
            scheme.description = Some(description.to_owned());
            components.add_security_scheme(name, SecurityScheme::Http(scheme));
        }
    }
}
