//! What happens to every request of the API, around its handler: id, span, time-out, panic, metrics, access log.
//!
//! One layer and not six, since they share what they know: the id stands in the span, the answer, the problem document and
//! the access log; the route template in the span, the metrics and the log.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::body::{Body, HttpBody};
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use tracing::{Instrument, Span, field};

use super::AppState;
use super::error::{self, ApiError, SpeaksOAuth};
use super::extract::{ClientAddress, Encoding};
use super::request_id;
use crate::telemetry;

/// Stands for every path that no route matches: the path itself would give each stranger a metric of his own.
const UNMATCHED: &str = "unmatched";

/// In the extensions of a response: whom it speaks of, for the access log.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserId(pub(super) i64);

/// Observes a request of the API.
pub(super) async fn observe(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    let matched = request.extensions().get::<MatchedPath>().cloned();
    let route = matched.as_ref().map_or(UNMATCHED, MatchedPath::as_str);
    let method = method_label(request.method());
    let id = request_id::of(request.headers());
    let request_id = id.to_str().unwrap_or_default();
    let client = client_address(&state, &request);
    let speaks_oauth = Encoding::of(request.headers()) == Some(Encoding::Form);

    let span = span(&state, request.headers(), method, route, request_id);
    let response = answer(&state, request, next).instrument(span.clone()).await;
    let mut response = if speaks_oauth {
        with_oauth(response)
    } else {
        response
    };
    let user_id = response
        .extensions_mut()
        .remove::<UserId>()
        .map(|UserId(id)| id);
    let mut response = error::render(response, request_id);
    let status = response.status().as_u16();
    let elapsed = started.elapsed();
    state
        .metrics()
        .observe_request(method, route, status, elapsed);

    if state.traces() {
        span.record("http.response.status_code", status);
        if let Some(user_id) = user_id {
            span.record("user_id", user_id);
        }
    }
    tracing::info!(
        target: "claviger::access",
        parent: None,
        method,
        route,
        status,
        duration_ms = elapsed.as_secs_f64() * 1e3,
        request_id,
        user_id,
        client = client.map(field::display),
    );
    response.headers_mut().insert(request_id::HEADER, id);
    response
}

/// The span in which all that is logged and traced for a request stands.
///
/// Without a collector it holds the id alone: the log takes the rest from the access event, and each field of a span is
/// written for every request, each one that comes later by reading and writing the others anew.
fn span(
    state: &AppState,
    headers: &HeaderMap,
    method: &str,
    route: &str,
    request_id: &str,
) -> Span {
    if !state.traces() {
        return tracing::info_span!("request", request_id);
    }
    let span = tracing::info_span!(
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        request_id,
        user_id = field::Empty,
    );
    telemetry::join_trace(&span, headers);
    span
}

/// The little that the operations listener needs: an id, and problem documents. A probe every second is no news, so it
/// is neither logged nor counted.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = request_id::of(request.headers());
    let mut response = error::render(next.run(request).await, id.to_str().unwrap_or_default());
    response.headers_mut().insert(request_id::HEADER, id);
    response
}

/// Runs the handler; an answer comes within `server.request_timeout` and even after a panic.
async fn answer(state: &AppState, request: Request, next: Next) -> Response {
    let (request, arrived) = watch_body(request);
    let handler = AssertUnwindSafe(next.run(request)).catch_unwind();
    match tokio::time::timeout(state.config().server.request_timeout, handler).await {
        Ok(Ok(response)) => response,
        // The panic hook has logged it.
        Ok(Err(_)) => ApiError::Internal.into_response(),
        Err(_) if arrived.is_some_and(|arrived| !arrived.load(Ordering::Acquire)) => {
            ApiError::RequestTimeout.into_response()
        }
        Err(_) => {
            tracing::warn!("a request took longer than server.request_timeout");
            ApiError::Overloaded {
                retry_after: state.config().server.request_timeout,
            }
            .into_response()
        }
    }
}

/// Notes when the whole body has arrived: what tells a slow client (408) from a slow service (503). Requests without a
/// body, which are nearly all, are left alone.
fn watch_body(request: Request) -> (Request, Option<Arc<AtomicBool>>) {
    if request.body().is_end_stream() {
        return (request, None);
    }
    let arrived = Arc::new(AtomicBool::new(false));
    let mark = Arc::clone(&arrived);
    let request = request.map(|body| {
        // The end of the stream is polled for, or the last frame says that it is the last.
        Body::new(Watched {
            body,
            arrived: mark,
        })
    });
    (request, Some(arrived))
}

struct Watched {
    body: Body,
    arrived: Arc<AtomicBool>,
}

impl HttpBody for Watched {
    type Data = axum::body::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<http_body::Frame<Self::Data>, Self::Error>>> {
        let frame = std::pin::Pin::new(&mut self.body).poll_frame(context);
        if frame.is_ready()
            && (self.body.is_end_stream() || matches!(frame, std::task::Poll::Ready(None)))
        {
            self.arrived.store(true, Ordering::Release);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.body.size_hint()
    }
}

fn with_oauth(mut response: Response) -> Response {
    response.extensions_mut().insert(SpeaksOAuth);
    response
}

fn client_address(state: &AppState, request: &Request) -> Option<std::net::IpAddr> {
    let trusted = &state.config().server.trusted_proxies;
    let client = ClientAddress::of(request.extensions(), request.headers(), trusted)?;
    if client.ignored_header {
        state.warn_of_untrusted_proxy(client.address);
    }
    Some(client.address)
}

/// Only the methods of RFC 9110 and `PATCH`: a client could make up any number of others.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        Method::TRACE => "TRACE",
        Method::CONNECT => "CONNECT",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;
    use crate::app::App;
    use crate::config::Config;

    async fn state() -> AppState {
        let mut config = Config::default();
        config.database.url = "sqlite::memory:".into();
        config.password.memory_kib = 8;
        config.password.iterations = 1;
        config.password.foreign_max_mib = 1;
        config.password.workers = Some(1);
        Box::pin(App::build(config, || 0)).await.unwrap().state
    }

    /// No handler panics that is known of, so here is one.
    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_no_more() {
        let panics = async |State(_): State<AppState>| -> StatusCode {
            panic!("this quotes what was worked on");
        };
        let state = state().await;
        let router = Router::new()
            .route("/", get(async || "fine"))
            .route("/panics", get(panics))
            .layer(from_fn_with_state(state.clone(), observe))
            .with_state(state.clone());
        let send = async |path: &str| {
            let request = Request::get(path).header("x-request-id", "of-the-caller");
            let request = request.body(Body::empty()).unwrap();
            router.clone().oneshot(request).await.unwrap()
        };

        for _ in 0..2 {
            let answer = send("/panics").await;
            assert_eq!(answer.status(), 500);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
            assert_eq!(answer.headers()["x-request-id"], "of-the-caller");
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(problem["code"], "internal");
            assert_eq!(problem["request_id"], "of-the-caller");
            assert!(!problem.to_string().contains("worked on"), "{problem}");
        }
        assert_eq!(send("/").await.status(), 200);

        let scrape = state.metrics().encode(&crate::metrics::Snapshot::default());
        let scrape = String::from_utf8(scrape.unwrap()).unwrap();
        let counted =
            r#"claviger_http_requests_total{method="GET",route="/panics",status="500"} 2"#;
        assert!(scrape.contains(counted), "{scrape}");
    }
}
