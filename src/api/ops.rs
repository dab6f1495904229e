//! The operations listener: metrics, liveness, readiness. Never a route of the API, so that no proxy rule can expose it.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, http};
use serde::Serialize;

use super::AppState;
use super::error::ApiError;
use crate::metrics::{self, PoolConnections, Snapshot};

pub(super) fn router() -> Router<AppState> {
    Router::new()
        .route("/metrics", get(scrape))
        .route("/healthz", get(liveness))
        .route("/readyz", get(readiness))
}

/// The process answers, and says nothing of what it depends on: restarting it would not bring a database back.
async fn liveness() -> Json<Liveness> {
    Json(Liveness { status: "alive" })
}

#[derive(Serialize)]
struct Liveness {
    status: &'static str,
}

/// Whether requests should be sent here, and if not, why.
async fn readiness(State(state): State<AppState>) -> (StatusCode, Json<Readiness>) {
    let report = state.health().probe().await;
    let mut failing = report.failing();
    if state.is_draining() {
        failing.push("draining");
    }
    if failing.is_empty() {
        (
            StatusCode::OK,
            Json(Readiness {
                status: "ready",
                failing,
            }),
        )
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            Json(Readiness {
                status: "unready",
                failing,
            }),
        )
    }
}

#[derive(Serialize)]
struct Readiness {
    status: &'static str,
    failing: Vec<&'static str>,
}

/// In Prometheus' text format; where requests are traced, in `OpenMetrics` for those who read it, since only that has room for
/// the traces.
async fn scrape(
    State(state): State<AppState>,
    headers: http::HeaderMap,
) -> Result<Response, ApiError> {
    let gate = state.authenticator().hash_pool().stats();
    let health = state.health();
    let (database, tokens) = (
        health.database_pool(),
        state.authenticator().tokens().pool_status(),
    );
    let connections = |open: usize, idle: usize, max: usize| PoolConnections { open, idle, max };
    let last = health.last();
    let snapshot = Snapshot {
        hash_queue_length: gate.queued,
        hash_queue_capacity: gate.queue_capacity,
        hash_workers: gate.workers,
        hash_workers_busy: gate.busy,
        pools: vec![
            (
                "database",
                connections(database.open, database.idle, database.max),
            ),
            ("tokens", connections(tokens.open, tokens.idle, tokens.max)),
        ],
        dependencies: last
            .as_ref()
            .map(|report| {
                vec![
                    ("database", report.database_up),
                    ("tokens", report.tokens_up),
                    ("schema", report.schema_fits()),
                ]
            })
            .unwrap_or_default(),
        schema_version: last.as_ref().and_then(|report| report.schema_version),
        tokens_may_be_evicted: last.and_then(|report| report.tokens_may_be_evicted),
        log_lines_dropped: state.dropped_log_lines(),
    };
    let mut text = state.metrics().encode(&snapshot).map_err(|error| {
        tracing::error!(%error, "the metrics can't be encoded");
        ApiError::Internal
    })?;
    let mut content_type = metrics::CONTENT_TYPE;
    if state.traces() && reads_open_metrics(&headers) {
        text = state.metrics().with_traces(&text);
        content_type = metrics::OPEN_METRICS;
    }
    Ok((
        [(CONTENT_TYPE, http::HeaderValue::from_static(content_type))],
        text,
    )
        .into_response())
}

/// Prometheus prefers it to all else, so the weights are not compared.
fn reads_open_metrics(headers: &http::HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|accept| accept.to_str().ok())
        .any(|accept| accept.contains("application/openmetrics-text"))
}
