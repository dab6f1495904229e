//! The ceiling of a check over the in-process store: HTTP alone, with an answer of the same size.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use clap::Parser;
use claviger_bench::{ROUTE, json, serve};

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let router = Router::new().route(
        ROUTE,
        get(async || json(r#"{"user_id":1,"expires_in":86000}"#)),
    );
    serve(Arguments::parse().listen, router).await
}
