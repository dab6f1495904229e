//! What happens to every request of the API, around its handler: id, span, time-out, panic, metrics, access log.
//!
//! One function and not six layers, since they share what they know: the id stands in the span, the answer, the problem
//! document and the access log; the route template in the span, the metrics and the log.

use std::future::Future;
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::http::header::{CONNECTION, CONTENT_LENGTH};
use axum::http::{HeaderMap, HeaderValue, Method};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::future::RouteFuture;
use futures_util::FutureExt;
use tower::Service;
use tracing::{Instrument, Span, field};

use super::AppState;
use super::dialect::Dialect;
use super::error::{self, ApiError};
use super::extract::ClientAddress;
use super::request_id;
use crate::telemetry;

/// The status of what was never answered, as nginx has it: the client left first, or the shutdown did not wait for it.
const UNANSWERED: u16 = 499;

/// In the extensions of a response: whom it speaks of, for the access log.
#[derive(Clone, Copy, Debug)]
pub(super) struct UserId(pub(super) i64);

/// In the extensions of a response: the registered client that asked, for the access log.
#[derive(Clone, Debug)]
pub(super) struct ClientName(pub(super) String);

/// Lets `router` answer a request, and observes it.
///
/// What can be known before is taken here and not within the future: that is made for each request, and stays small
/// enough for the allocator's fast path as long as it doesn't hold the request, too.
pub(super) fn observe(
    state: AppState,
    route: Arc<str>,
    request: Request,
    mut router: Router,
) -> impl Future<Output = Response> + Send {
    let id = request_id::of(request.headers());
    let dialect = Dialect::of(request.uri().path(), request.headers());
    let observation = Observation::begin(state, route, &id, &request);
    let (request, arrived) = watch_body(request);
    // An answer that opens a tunnel has no length (RFC 9110, section 9.3.6): the server would rather give none than this one.
    let tunnel = dialect == Dialect::Bare && request.method() == Method::CONNECT;
    let handler = router.call(request);

    let scope = id.clone();
    telemetry::with_request_id(scope, async move {
        let span = observation.span.clone();
        let answer = answer(&observation.state, handler, arrived);
        let response = answer.instrument(span).await;
        let request_id = id.to_str().unwrap_or_default();
        let mut response = error::render(response, request_id, dialect);
        if tunnel {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        observation.end(&mut response);
        response.headers_mut().insert(request_id::HEADER, id);
        response
    })
}

/// A request that is being answered. When it is dropped before its end, nobody was answered, and that too is counted and
/// logged.
struct Observation {
    state: AppState,
    started: Instant,
    method: &'static str,
    route: Arc<str>,
    client: Option<IpAddr>,
    span: Span,
    ended: bool,
}

impl Observation {
    fn begin(state: AppState, route: Arc<str>, id: &HeaderValue, request: &Request) -> Self {
        let method = method_label(request.method());
        Self {
            started: Instant::now(),
            method,
            client: client_address(&state, request),
            span: span(&state, request.headers(), method, &route, id),
            state,
            route,
            ended: false,
        }
    }

    fn end(mut self, response: &mut Response) {
        let user_id = response.extensions_mut().remove::<UserId>();
        let client_name = response.extensions_mut().remove::<ClientName>();
        self.tell(
            response.status().as_u16(),
            user_id.map(|UserId(user_id)| user_id),
            client_name.as_ref().map(|ClientName(name)| name.as_str()),
        );
    }

    fn tell(&mut self, status: u16, user_id: Option<i64>, client_name: Option<&str>) {
        self.ended = true;
        let elapsed = self.started.elapsed();
        let metrics = self.state.metrics();
        metrics.observe_request(self.method, &self.route, status, elapsed);
        if let Some(trace_id) = telemetry::trace_id(&self.span) {
            metrics.keep_trace(self.method, &self.route, elapsed, trace_id);
        }
        self.span.record("http.response.status_code", status);
        if let Some(user_id) = user_id {
            self.span.record("user_id", user_id);
        }
        tracing::info!(
            target: "claviger::access",
            method = self.method,
            route = &*self.route,
            status,
            // To the microsecond: what comes after it is noise.
            duration_ms = (elapsed.as_secs_f64() * 1e6).round() / 1e3,
            user_id,
            client = self.client.map(field::display),
            client_name,
        );
    }
}

impl Drop for Observation {
    fn drop(&mut self) {
        if !self.ended {
            self.tell(UNANSWERED, None, None);
        }
    }
}

/// The span that is exported for a request; none where nobody collects it, as every request would pay for it.
fn span(
    state: &AppState,
    headers: &HeaderMap,
    method: &str,
    route: &str,
    id: &HeaderValue,
) -> Span {
    if !state.traces() {
        return Span::none();
    }
    let span = tracing::info_span!(
        "request",
        otel.name = format_args!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
        http.response.status_code = field::Empty,
        request_id = id.to_str().unwrap_or_default(),
        user_id = field::Empty,
    );
    telemetry::join_trace(&span, headers);
    span
}

/// The little that the operations listener needs: an id, and problem documents. A probe every second is no news, so it
/// is neither logged nor counted.
pub(super) async fn identify(request: Request, next: Next) -> Response {
    let id = request_id::of(request.headers());
    let mut response = error::render(
        next.run(request).await,
        id.to_str().unwrap_or_default(),
        Dialect::Problem,
    );
    response.headers_mut().insert(request_id::HEADER, id);
    response
}

/// Runs the handler; an answer comes within `server.request_timeout` and even after a panic.
async fn answer<E>(
    state: &AppState,
    handler: RouteFuture<E>,
    arrived: Option<Arc<AtomicBool>>,
) -> Response {
    let handler = AssertUnwindSafe(handler).catch_unwind();
    let unread = || {
        arrived
            .as_ref()
            .is_some_and(|arrived| !arrived.load(Ordering::Acquire))
    };
    let mut response =
        match tokio::time::timeout(state.config().server.request_timeout, handler).await {
            Ok(Ok(Ok(response))) => response,
            // The panic hook has logged it.
            Ok(_) => ApiError::Internal.into_response(),
            Err(_) if unread() => ApiError::RequestTimeout.into_response(),
            Err(_) => {
                tracing::warn!("a request took longer than server.request_timeout");
                ApiError::Overloaded {
                    retry_after: state.config().server.request_timeout,
                }
                .into_response()
            }
        };
    // What is left of the body would be taken for the next request, so the server closes the connection. A client that is not
    // told may send that request first, and never learn what became of it. A gateway that passes on the length of a body, and
    // not the body, would send the request of somebody else.
    if unread() {
        let close = HeaderValue::from_static("close");
        response.headers_mut().insert(CONNECTION, close);
    }
    response
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

fn client_address(state: &AppState, request: &Request) -> Option<IpAddr> {
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
    use axum::extract::State;
    use axum::http::StatusCode;
    use axum::routing::get;
    use http_body_util::BodyExt;

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
            .route("/v1.0/forward-auth", get(panics))
            .with_state(state.clone());
        let send = async |path: &str| {
            let request = Request::get(path).header("x-request-id", "of-the-caller");
            let request = request.body(Body::empty()).unwrap();
            observe(state.clone(), path.into(), request, router.clone()).await
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

        // nginx makes a 500 of any status that is not 200 or 401, and could tell nobody of a 500 when to come back.
        let answer = send("/v1.0/forward-auth").await;
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.headers()["x-request-id"], "of-the-caller");
        assert_eq!(answer.headers()["content-length"], "0");
        assert!(answer.headers().contains_key("retry-after"));
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(body.is_empty());

        let scrape = state.metrics().encode(&crate::metrics::Snapshot::default());
        let scrape = String::from_utf8(scrape.unwrap()).unwrap();
        let counted =
            r#"claviger_http_requests_total{method="GET",route="/panics",status="500"} 2"#;
        assert!(scrape.contains(counted), "{scrape}");
    }
}
