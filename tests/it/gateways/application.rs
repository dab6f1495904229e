//! An application that says what it was sent.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{Request, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// Answers until it is dropped: 200 with what it was sent, or to `/status/N` that status and the body `mine`.
pub(super) struct Application {
    pub(super) address: String,
    calls: Arc<AtomicU64>,
    _tasks: JoinSet<()>,
}

impl Application {
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let calls = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&calls);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let counted = Arc::clone(&counted);
                let answer = service_fn(move |request| {
                    counted.fetch_add(1, Ordering::Relaxed);
                    answer(request)
                });
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
                connections.spawn(async move {
                    // A gateway may leave when it likes.
                    let _ = connection.await;
                });
            }
        });
        Self {
            address,
            calls,
            _tasks: tasks,
        }
    }

    /// How many requests have reached it.
    pub(super) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Body>, Infallible> {
    let (head, body) = request.into_parts();
    if let Some(status) = head.uri.path().strip_prefix("/status/") {
        let response = Response::builder()
            .status(status)
            .header("x-of", "the application");
        return Ok(response.body(Body::from("mine")).unwrap());
    }
    let body = match body.collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::from("cut off"),
    };
    let headers: Vec<[String; 2]> = head
        .headers
        .iter()
        .map(|(name, value)| {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            [name.to_string(), value]
        })
        .collect();
    let seen = json!({
        "method": head.method.as_str(),
        "target": head.uri.to_string(),
        "headers": headers,
        "length": body.len(),
        "sha256": digest(&body),
    });
    Ok(Response::new(Body::from(seen.to_string())))
}

/// The SHA-256 of a body, in base64.
pub(super) fn digest(body: &[u8]) -> String {
    STANDARD.encode(Sha256::digest(body))
}
