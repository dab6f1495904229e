//! What the ceilings share: programs that do the one thing that a route of Claviger can't do without, and nothing else.
//! What the service reaches is told as a part of what they reach in the same run.

use std::io;
use std::net::SocketAddr;

use argon2::{Algorithm, Argon2, Params, Version};
use axum::Router;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use redis::AsyncCommands;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use tokio::net::TcpListener;

/// The one route that is measured. A log-in is a POST to it, a check a GET.
pub const ROUTE: &str = "/v1.0/user/auth";

/// Serves `router` at `listen` until the process is ended.
///
/// # Errors
///
/// Those of binding.
pub async fn serve(listen: SocketAddr, router: Router) -> io::Result<()> {
    let listener = TcpListener::bind(listen).await?.tap_io(|stream| {
        // A socket that can't take the option is slower; it works all the same.
        let _ = stream.set_nodelay(true);
    });
    axum::serve(listener, router).await
}

/// The variable `BENCH_REDIS_URL`.
///
/// # Errors
///
/// If it is missing.
pub fn redis_url() -> Result<String, Box<dyn std::error::Error>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "it carries a password, and everybody can read a program's arguments"
    )]
    let url = std::env::var("BENCH_REDIS_URL");
    Ok(url.map_err(|error| format!("BENCH_REDIS_URL: {error}"))?)
}

/// One connection, shared by all requests: it bundles what waits into one write.
///
/// # Errors
///
/// If the variable `BENCH_REDIS_URL` is missing, or the server.
pub async fn connect() -> Result<ConnectionManager, Box<dyn std::error::Error>> {
    let url = redis_url()?;
    // By default an answer that takes half a second is an error, and with unbounded hashing some take that long.
    let config = ConnectionManagerConfig::new().set_response_timeout(None);
    let client = redis::Client::open(url)?;
    Ok(ConnectionManager::new_with_config(client, config).await?)
}

/// A check as bare as can be: the header, one GET, the answer.
pub async fn check(State(mut redis): State<ConnectionManager>, headers: HeaderMap) -> Response {
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    let Some(token) = token else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match redis.get::<_, Option<String>>(token).await {
        Ok(Some(id)) => json(format!(r#"{{"user_id":{id},"expires_in":86000}}"#)),
        Ok(None) => StatusCode::UNAUTHORIZED.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

/// 200 with this JSON text.
pub fn json(text: impl Into<axum::body::Body>) -> Response {
    ([(CONTENT_TYPE, "application/json")], text.into()).into_response()
}

/// argon2id with the service's default cost: 19456 KiB, two passes, one lane.
///
/// # Errors
///
/// None for this cost.
pub fn hasher() -> argon2::Result<Argon2<'static>> {
    Ok(Argon2::new(
        Algorithm::Argon2id,
        Version::V0x13,
        Params::new(19_456, 2, 1, Some(32))?,
    ))
}
