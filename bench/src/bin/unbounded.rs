//! What a common design does to the checks beside it: each login hashes at once, on as many threads as there are logins,
//! in memory that it allocates. Not a ceiling: the service has to stay far away from it.
//!
//! It knows no users: every password is hashed and accepted. With glibc its memory grows to several GiB.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use clap::Parser;
use claviger_bench::{ROUTE, check, connect, hasher, json, serve};
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use serde::Deserialize;

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
}

#[derive(Deserialize)]
struct Credentials {
    username: String,
    password: String,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let redis = connect().await?;
    let issued = Arc::new(AtomicU64::new(0));
    let log_in = move |State(redis): State<ConnectionManager>, body: Bytes| {
        log_in(redis, issued.clone(), body)
    };
    let router = Router::new()
        .route(ROUTE, get(check))
        .route(ROUTE, post(log_in))
        .with_state(redis);
    Ok(serve(Arguments::parse().listen, router).await?)
}

async fn log_in(mut redis: ConnectionManager, issued: Arc<AtomicU64>, body: Bytes) -> Response {
    let Ok(Credentials { username, password }) = serde_json::from_slice(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "that it has no bound is what is measured"
    )]
    let hashed = tokio::task::spawn_blocking(move || {
        let mut hash = [0; 32];
        hasher()?.hash_password_into(password.as_bytes(), &[7; 16], &mut hash)
    })
    .await;
    if !matches!(hashed, Ok(Ok(()))) {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    // As long as a real token, and no secret.
    let token = format!(
        "clv_{username:0>43.43}{:06}",
        issued.fetch_add(1, Ordering::Relaxed) % 1_000_000
    );
    match redis.set_ex::<_, _, ()>(&token, 1, 86_400).await {
        Ok(()) => json(format!(
            r#"{{"access_token":"{token}","token_type":"Bearer","expires_in":86400,"user_id":1}}"#
        )),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
