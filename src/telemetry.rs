//! Logs and traces: the subscriber, and the export to an OpenTelemetry collector.

mod export;
mod lines;
mod writer;

use std::backtrace::{Backtrace, BacktraceStatus};
use std::future::Future;
use std::io::IsTerminal;
use std::panic::PanicHookInfo;
use std::time::Duration;

use axum::http::{HeaderMap, HeaderValue};
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::{TraceContextExt, TracerProvider};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::{Dispatch, Span};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Layer, Registry};

pub use self::export::ExportError;
use self::lines::Lines;
use self::writer::{LineSink, Writer};
use crate::config::{Config, parse_log_filter};

/// How long the last spans may take to reach the collector at the end.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(3);

/// Keeps logs and traces going. When it is dropped, what is buffered is written, so it must outlive all that logs.
#[derive(Debug)]
pub struct Telemetry {
    sink: LineSink,
    _writer: Writer,
    tracer: Option<SdkTracerProvider>,
}

/// Logs or traces can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `telemetry.log_level` can't be parsed.
    #[error("telemetry.log_level holds no filter directives")]
    Filter,
    /// The thread that writes the log can't be had.
    #[error("the log's thread can't be started: {0}")]
    Writer(#[from] std::io::Error),
    /// The exporter can't be made.
    #[error("spans can't be exported")]
    Exporter(#[from] ExportError),
    /// There is a subscriber already.
    #[error("logging is set up already")]
    Subscriber(#[from] tracing::subscriber::SetGlobalDefaultError),
}

impl Telemetry {
    /// Sets up logs on stderr, and traces where a collector is configured, for the whole process.
    ///
    /// # Errors
    /// The filter is malformed or the exporter can't be made.
    pub fn start(config: &Config) -> Result<Self, TelemetryError> {
        let filter = parse_log_filter(config.log_filter()).ok_or(TelemetryError::Filter)?;
        let (sink, writer) = Writer::start(std::io::stderr())?;
        let tracer = config
            .telemetry
            .traces()
            .then(|| tracer(config))
            .transpose()?;
        let lines = sink.clone();
        let write = move |line: &str| lines.push(line);
        let dispatch = dispatch(config, filter, tracer.as_ref(), write);
        tracing::dispatcher::set_global_default(dispatch)?;
        std::panic::set_hook(Box::new(log_panic));
        Ok(Self {
            sink,
            _writer: writer,
            tracer,
        })
    }

    /// Whether [`Telemetry::start`] could export spans, where it is to. Nothing is sent.
    ///
    /// # Errors
    /// It couldn't.
    pub fn check(config: &Config) -> Result<(), TelemetryError> {
        if config.telemetry.traces() {
            export::exporter()?;
        }
        Ok(())
    }

    /// Tells how many log lines were dropped since the start.
    pub fn dropped_lines(&self) -> impl Fn() -> u64 + Send + Sync + 'static {
        let sink = self.sink.clone();
        move || sink.dropped()
    }
}

impl Drop for Telemetry {
    fn drop(&mut self) {
        if let Some(tracer) = &self.tracer
            && let Err(error) = tracer.shutdown_with_timeout(FLUSH_TIMEOUT)
        {
            tracing::warn!(%error, "the last spans may not have reached the collector");
        }
    }
}

/// Brings the layers together.
fn dispatch(
    config: &Config,
    filter: Targets,
    tracer: Option<&SdkTracerProvider>,
    write: impl Fn(&str) + Send + Sync + 'static,
) -> Dispatch {
    let colours = std::io::stderr().is_terminal();
    let lines = Lines::new(config.log_format(), colours, write);
    let registry = Registry::default().with(ceiling());
    match tracer {
        // A filter for all is cheaper than one for each layer.
        None => Dispatch::new(registry.with(filter).with(lines)),
        // What is logged says nothing of what is exported: quiet logs must not cost the traces.
        Some(tracer) => {
            let spans = tracing_opentelemetry::layer().with_tracer(tracer.tracer("claviger"));
            let lines = lines.with_filter(filter);
            Dispatch::new(registry.with(spans.with_filter(exported())).with(lines))
        }
    }
}

tokio::task_local! {
    static REQUEST_ID: HeaderValue;
}

/// Runs `work`, all of whose log lines carry the id of the request.
pub fn with_request_id<F: Future>(id: HeaderValue, work: F) -> impl Future<Output = F::Output> {
    REQUEST_ID.scope(id, work)
}

/// The id of a request, to be carried to a thread that works for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestId(Option<HeaderValue>);

impl RequestId {
    /// The id; `None` outside of a request.
    pub fn text(&self) -> Option<&str> {
        self.0.as_ref()?.to_str().ok()
    }

    /// That of the request on which this task works, if there is one.
    pub fn current() -> Self {
        Self(REQUEST_ID.try_with(Clone::clone).ok())
    }

    /// Runs `work`, all of whose log lines carry the id.
    pub fn within<T>(self, work: impl FnOnce() -> T) -> T {
        match self.0 {
            Some(id) => REQUEST_ID.sync_scope(id, work),
            None => work(),
        }
    }
}

/// Passes the id of the request on which this task works, if there is one.
fn request_id(take: impl FnOnce(&str)) {
    let _ = REQUEST_ID.try_with(|id| id.to_str().map(take));
}

/// Libraries are heard from `debug` up, whatever `telemetry.log_level` asks for: there they tell their statements without the
/// parameters. At `trace` they record what their functions are called with, and that may be a hash or a URL with a password.
fn ceiling() -> Targets {
    Targets::new()
        .with_default(LevelFilter::DEBUG)
        .with_target(env!("CARGO_PKG_NAME"), LevelFilter::TRACE)
        // It logs the parameters of `database.url` that it doesn't know, with their values. config/validate.rs warns of them.
        .with_target("sqlx_postgres::options::parse", LevelFilter::OFF)
}

/// The spans that are exported: our own.
fn exported() -> Targets {
    Targets::new().with_target(env!("CARGO_PKG_NAME"), LevelFilter::INFO)
}

/// The endpoint, headers, sampler and batch sizes come from the standard `OTEL_*` variables, which the SDK reads itself.
fn tracer(config: &Config) -> Result<SdkTracerProvider, TelemetryError> {
    let name = config.telemetry.service_name().to_owned();
    let resource = Resource::builder()
        .with_service_name(name)
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let exporter = export::exporter()?;
    Ok(SdkTracerProvider::builder()
        .with_resource(resource)
        .with_batch_exporter(exporter)
        .build())
}

/// Makes `span` a child of the caller's span, if `traceparent` names one (W3C Trace Context).
pub fn join_trace(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    // The only failure is that the span is filtered out, and then there is nothing to join.
    let _ = span.set_parent(parent);
}

/// The trace that `span` belongs to; none where it is not exported.
pub fn trace_id(span: &Span) -> Option<String> {
    // The usual case without a collector, and cheap.
    if span.is_none() {
        return None;
    }
    let context = span.context();
    let span = context.span();
    let span = span.span_context();
    span.is_sampled().then(|| span.trace_id().to_string())
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(axum::http::HeaderName::as_str).collect()
    }
}

/// Logs where a thread panicked, but not with which message: a message may quote what was worked on, and that may be a
/// password.
pub(crate) fn log_panic(panic: &PanicHookInfo<'_>) {
    let location = panic
        .location()
        .map(ToString::to_string)
        .unwrap_or_default();
    let backtrace = Backtrace::capture();
    if backtrace.status() == BacktraceStatus::Captured {
        tracing::error!(%location, %backtrace, "panic");
    } else {
        tracing::error!(%location, "panic");
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::Mode;

    fn logged(mode: Mode, filter: &str, work: impl FnOnce()) -> String {
        let config = Config {
            mode,
            ..Config::default()
        };
        let log = Arc::new(Mutex::new(String::new()));
        let sink = Arc::clone(&log);
        let write = move |line: &str| sink.lock().unwrap().push_str(line);
        let dispatch = dispatch(&config, parse_log_filter(filter).unwrap(), None, write);
        tracing::dispatcher::with_default(&dispatch, work);
        let log = log.lock().unwrap();
        log.clone()
    }

    #[test]
    fn a_panic_is_logged_with_its_place_and_without_its_message() {
        // The hook is of the whole process: the panics of other tests go where they went.
        let (here, before) = (std::thread::current().id(), std::panic::take_hook());
        std::panic::set_hook(Box::new(move |panic| {
            if std::thread::current().id() == here {
                log_panic(panic);
            } else {
                before(panic);
            }
        }));
        for mode in [Mode::Prod, Mode::Dev] {
            let log = logged(mode, "info", || {
                let panics = || panic!("this quotes what was worked on");
                std::panic::catch_unwind(panics).unwrap_err();
            });
            assert!(log.contains("ERROR"), "{log}");
            assert!(log.contains("src/telemetry.rs:"), "{log}");
            assert!(!log.contains("worked on"), "{log}");
        }
    }

    #[test]
    fn libraries_are_heard_up_to_a_level_and_we_at_every_level() {
        let log = logged(Mode::Prod, "trace,quiet=info", || {
            tracing::trace!(target: "library", "called with");
            tracing::debug!(target: "library", "was called");
            tracing::debug!(target: "quiet", "filtered");
            tracing::trace!("ours");
        });
        assert!(!log.contains("called with"), "{log}");
        assert!(log.contains("was called"), "{log}");
        assert!(!log.contains("filtered"), "{log}");
        assert!(log.contains("ours"), "{log}");
    }
}
