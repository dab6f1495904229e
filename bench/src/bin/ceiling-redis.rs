//! The ceiling of a check over Redis: HTTP and one GET on one multiplexed connection.

use std::net::SocketAddr;

use axum::Router;
use axum::routing::get;
use clap::Parser;
use claviger_bench::{ROUTE, check, connect, serve};

#[derive(Parser)]
struct Arguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let router = Router::new()
        .route(ROUTE, get(check))
        .with_state(connect().await?);
    Ok(serve(Arguments::parse().listen, router).await?)
}
