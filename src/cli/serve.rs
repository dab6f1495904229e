//! `claviger serve`: the service itself.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use secrecy::{ExposeSecret, SecretString};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::exit::Failure;
use crate::app::{self, App};
use crate::config::{self, Loaded, Mode, Sources};
use crate::server::{self, Inherited, Timeouts};
use crate::store::schema::SchemaError;
use crate::store::with_sources;
use crate::telemetry::Telemetry;

pub(super) fn run(sources: &Sources) -> Result<(), Failure> {
    let inherited = Inherited::from_process();
    let loaded = config::load(sources)?;
    super::refuse(&loaded, &app::check(&loaded.config))?;
    let telemetry =
        Telemetry::start(&loaded.config).map_err(|error| Failure::Config(with_sources(&error)))?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if !loaded.config.limits.enabled {
        tracing::warn!("limits.enabled is false: nobody who guesses passwords is slowed down");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(&loaded, inherited, &telemetry));
    // Names are looked up in threads that can't be told to stop.
    runtime.shutdown_timeout(LOOKUP_GRACE);
    outcome
}

/// How long the end waits for look-ups of names that are under way.
const LOOKUP_GRACE: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, and then ends as it was told to: that is a success, also if some clients did not end their
/// requests within `server.shutdown_grace`, or if a second signal did not let it wait for them. The log says which.
async fn serve(
    loaded: &Loaded,
    mut inherited: Inherited,
    telemetry: &Telemetry,
) -> Result<(), Failure> {
    let config = &loaded.config;
    let settings = config.server.clone();
    let database = scheme(&config.database.url);
    let tokens = scheme(&config.tokens.url);
    let traces = config.telemetry.traces();
    if config.mode == Mode::Prod && tokens == "memory" {
        tracing::warn!(
            "tokens.url is memory: tokens end with this process, and no other instance or service knows them"
        );
    }
    let mut signals = Signals::new()?;
    let app = App::build(config.clone(), telemetry.dropped_lines())
        .await
        .map_err(|error| super::not_built(loaded, error))?;
    let hash_pool = app.state.authenticator().hash_pool().clone();
    let (api, ops, state, startup) = app.into_parts();

    let api_listener = listener(&mut inherited, 0, settings.listen, "server.listen")?;
    let ops_listener = listener(&mut inherited, 1, settings.ops_listen, "server.ops_listen")?;
    tracing::info!(
        api = %api_listener.local_addr()?,
        ops = %ops_listener.local_addr()?,
        version = env!("CARGO_PKG_VERSION"),
        database,
        tokens,
        traces,
        "listening"
    );

    let timeouts = Timeouts {
        head: settings.request_timeout,
        grace: settings.shutdown_grace,
    };
    let (stop, stop_ops) = (CancellationToken::new(), CancellationToken::new());
    let mut watch = tokio::spawn(startup.watch(stop.clone()));
    let mut api = tokio::spawn(server::serve(api_listener, api, stop.clone(), timeouts));
    let ops = tokio::spawn(server::serve(ops_listener, ops, stop_ops.clone(), timeouts));

    let outcome = tokio::select! {
        name = signals.next() => {
            tracing::info!(signal = name, "shutting down");
            Ok(())
        }
        // Only ever ends before the signal with an error.
        ended = &mut watch => ended.context("the watch of the dependencies ended")?.map_err(Failure::from),
        // A bug: there is nothing left to drain.
        _ = &mut api => return Err(Failure::Other(anyhow::anyhow!("the API's listener ended"))),
    };

    // What was accepted is answered. The operations listener stays until the end, and says "draining".
    let deadline = Instant::now() + settings.shutdown_grace;
    state.start_draining();
    stop.cancel();
    let end = tokio::select! {
        drained = api => if drained.unwrap_or(false) { End::Drained } else { End::GraceOver },
        name = signals.next() => End::ToldTwice(name),
    };
    match end {
        End::Drained => {
            tracing::info!("all accepted requests were answered");
            // It may be at a migration, which is not to be dropped half-way.
            if outcome.is_ok() {
                finish(watch, deadline).await;
            }
            hash_pool.close();
        }
        End::GraceOver => {
            tracing::warn!("some requests were not answered within server.shutdown_grace");
        }
        End::ToldTwice(signal) => {
            tracing::warn!(signal, "signalled twice: not waiting for open requests");
        }
    }
    stop_ops.cancel();
    ops.abort();
    outcome
}

/// Waits for what the start had to do, if it is still at it.
async fn finish(watch: JoinHandle<Result<(), SchemaError>>, deadline: Instant) {
    match tokio::time::timeout_at(deadline, watch).await {
        Ok(Ok(Ok(()))) => {}
        Ok(Ok(Err(error))) => tracing::error!(cause = %with_sources(&error), "the schema"),
        Ok(Err(error)) => tracing::error!(%error, "the watch of the dependencies ended"),
        Err(_) => tracing::warn!("the schema was not done within server.shutdown_grace"),
    }
}

/// Which store a URL names. All that comes after the scheme may be secret.
fn scheme(url: &SecretString) -> String {
    let (scheme, _) = url.expose_secret().split_once(':').unwrap_or_default();
    scheme.to_owned()
}

/// The listener that was inherited at this position, or else a new one on `address`, which is the setting `key`.
fn listener(
    inherited: &mut Inherited,
    position: usize,
    address: SocketAddr,
    key: &str,
) -> Result<TcpListener, Failure> {
    let taken = inherited.take(position).map_err(|error| {
        Failure::Config(format!(
            "LISTEN_FDS: number {} can't be listened on: {error}",
            position + 1
        ))
    })?;
    if let Some(listener) = taken {
        return Ok(listener);
    }
    server::bind(address)
        .map_err(|error| Failure::Unavailable(format!("{key}: {address}: {error}")))
}

/// How the open requests ended.
enum End {
    /// All were answered.
    Drained,
    /// Some were open when `server.shutdown_grace` was over.
    GraceOver,
    /// The second signal, of this name, came before that.
    ToldTwice(&'static str),
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
