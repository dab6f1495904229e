//! `claviger serve`: the service itself.

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::exit::Failure;
use crate::app::App;
use crate::config::{self, Config, Sources};
use crate::server;
use crate::telemetry::Telemetry;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let loaded = config::load(sources)?;
    let telemetry =
        Telemetry::start(&loaded.config).map_err(|error| Failure::Config(error.to_string()))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if loaded.config.limits.enabled {
        tracing::warn!(
            "limits.enabled is set, but this version does not throttle logins yet: limit them at the proxy"
        );
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(serve(loaded.config, &telemetry))
}

async fn serve(config: Config, telemetry: &Telemetry) -> Result<(), Failure> {
    let settings = config.server.clone();
    let mut signals = Signals::new()?;
    let app = App::build(config, telemetry.dropped_lines()).await?;
    let hash_pool = app.state.authenticator().hash_pool().clone();
    let (api, ops, state, startup) = app.into_parts();

    let listener = bind(settings.listen, "server.listen").await?;
    let ops_listener = bind(settings.ops_listen, "server.ops_listen").await?;
    tracing::info!(
        api = %listener.local_addr()?,
        ops = %ops_listener.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        "listening"
    );

    let (stop, stop_ops) = (CancellationToken::new(), CancellationToken::new());
    let mut watch = tokio::spawn(startup.watch(stop.clone()));
    let mut api = tokio::spawn(server::serve(
        listener,
        api,
        stop.clone(),
        settings.shutdown_grace,
    ));
    let ops = tokio::spawn(server::serve(
        ops_listener,
        ops,
        stop_ops.clone(),
        settings.shutdown_grace,
    ));

    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "shutting down");
            Ok(())
        }
        // Only ever ends before the signal with an error.
        ended = &mut watch => ended.context("the watch of the dependencies ended")?.map_err(Failure::from),
        _ = &mut api => Err(Failure::Other(anyhow::anyhow!("the API's listener ended"))),
    };

    // Readiness first, so that whoever sends requests stops sending them; then what was accepted is answered. The operations
    // listener stays until the end, and says "draining".
    state.start_draining();
    stop.cancel();
    let drained = tokio::select! {
        drained = &mut api, if !api.is_finished() => drained.unwrap_or(false),
        name = signals.next() => {
            tracing::warn!(signal = name, "told twice: not waiting for open requests");
            false
        }
    };
    if drained {
        tracing::info!("all accepted requests were answered");
        hash_pool.close();
    } else {
        tracing::warn!("some requests were not answered within server.shutdown_grace");
    }
    stop_ops.cancel();
    ops.abort();
    outcome
}

async fn bind(address: std::net::SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .map_err(|error| Failure::Unavailable(format!("{key}: {address}: {error}")))
}

/// The signals that end the service.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
