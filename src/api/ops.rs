//! The operations listener: metrics, liveness, readiness. Never a route of the API, so that no proxy rule can expose it.

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
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

async fn scrape(State(state): State<AppState>) -> Result<Response, ApiError> {
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
    let text = state.metrics().encode(&snapshot).map_err(|error| {
        tracing::error!(%error, "the metrics can't be encoded");
        ApiError::Internal
    })?;
    Ok((
        [(
            CONTENT_TYPE,
            http::HeaderValue::from_static(metrics::CONTENT_TYPE),
        )],
        text,
    )
        .into_response())
}
