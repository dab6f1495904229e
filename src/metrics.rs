//! What is counted and timed. The registry is a value in the state, so that many instances can live in one process.
//!
//! Every metric stands with its meaning in docs/operations.md; a test compares that table with a live scrape.

mod exemplars;
mod register;

use std::time::Duration;

use prometheus::{
    Encoder, Histogram, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder,
};

use self::exemplars::Exemplars;
pub use self::exemplars::OPEN_METRICS;
use self::register::Register;

/// The content type of [`Metrics::encode`].
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// The only histogram that a request's trace is kept for.
const REQUEST_TIMES: &str = "claviger_http_request_duration_seconds";

/// From a check in this process to a login that waited for its turn, in seconds.
const REQUEST_BUCKETS: [f64; 14] = [
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
];

/// From a cheap hash to one that asks too much, in seconds.
const HASH_BUCKETS: [f64; 10] = [0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0];

/// From an idle gate to one at its deadline, in seconds.
const WAIT_BUCKETS: [f64; 10] = [0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0];

/// How a login ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginOutcome {
    /// A token was issued.
    Success,
    /// The name and the password don't belong together, or the user may not log in.
    Refused,
    /// Too many attempts for the name, or from the address.
    Throttled,
    /// The request was malformed.
    Invalid,
    /// The hash gate was full.
    Overloaded,
    /// The database or the token store was away.
    Unavailable,
    /// A bug.
    Error,
    /// Nobody waited for the end: the client left, or the request took longer than it may.
    Abandoned,
}

impl LoginOutcome {
    const ALL: [Self; 8] = [
        Self::Success,
        Self::Refused,
        Self::Throttled,
        Self::Invalid,
        Self::Overloaded,
        Self::Unavailable,
        Self::Error,
        Self::Abandoned,
    ];

    fn label(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Refused => "refused",
            Self::Throttled => "throttled",
            Self::Invalid => "invalid",
            Self::Overloaded => "overloaded",
            Self::Unavailable => "unavailable",
            Self::Error => "error",
            Self::Abandoned => "abandoned",
        }
    }
}

/// How a token check ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckOutcome {
    /// The token is alive.
    Valid,
    /// The token is malformed, unknown, expired or revoked, or there was none.
    Invalid,
    /// The token store was away.
    Unavailable,
    /// A bug.
    Error,
}

impl CheckOutcome {
    const ALL: [Self; 4] = [Self::Valid, Self::Invalid, Self::Unavailable, Self::Error];

    fn label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Unavailable => "unavailable",
            Self::Error => "error",
        }
    }
}

/// What is read at the moment of a scrape, and not counted as it happens.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Logins that wait for a hash worker.
    pub hash_queue_length: usize,
    /// Logins that may wait.
    pub hash_queue_capacity: usize,
    /// Hash workers.
    pub hash_workers: usize,
    /// Hash workers that are at work.
    pub hash_workers_busy: usize,
    /// Open, idle and most connections, for each pool.
    pub pools: Vec<(&'static str, PoolConnections)>,
    /// Which dependencies could be used when they were last looked at.
    pub dependencies: Vec<(&'static str, bool)>,
    /// The version of the schema, and the newest that this binary knows.
    pub schema_version: Option<(usize, usize)>,
    /// Whether the token store would end sessions for want of memory; `None` where it does not tell.
    pub tokens_may_be_evicted: Option<bool>,
    /// Log lines that were dropped because they could not be written fast enough.
    pub log_lines_dropped: u64,
}

/// The connections of one pool.
#[derive(Clone, Copy, Debug, Default)]
pub struct PoolConnections {
    /// Open ones.
    pub open: usize,
    /// Open ones that nobody uses.
    pub idle: usize,
    /// The most that may be open.
    pub max: usize,
}

/// The metrics of one instance.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    http_requests: IntCounterVec,
    http_duration: HistogramVec,
    exemplars: Exemplars,
    logins: IntCounterVec,
    logins_unavailable: IntCounterVec,
    token_checks: IntCounterVec,
    tokens_issued: IntCounter,
    /// Without labels; a vector, since one can be taken out of it where nothing is known.
    tokens_may_be_evicted: IntGaugeVec,
    tokens_revoked: IntCounter,
    hash_duration: Histogram,
    hash_wait: Histogram,
    hash_queue_length: IntGauge,
    hash_queue_capacity: IntGauge,
    hash_workers: IntGauge,
    hash_workers_busy: IntGauge,
    pool_connections: IntGaugeVec,
    pool_connections_max: IntGaugeVec,
    dependency_up: IntGaugeVec,
    schema_version: IntGauge,
    schema_version_latest: IntGauge,
    log_lines_dropped: IntCounter,
}

impl Metrics {
    /// The metrics, all at zero.
    ///
    /// # Errors
    /// Two metrics have the same name, or a name is malformed: a bug that any test finds.
    pub fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        let metrics = Self {
            http_requests: register.counters(
                "claviger_http_requests_total",
                "Requests answered by the API, by method, route template and status.",
                &["method", "route", "status"],
            )?,
            http_duration: register.histograms(
                REQUEST_TIMES,
                "Time from a request's head to its answer, by method and route template.",
                &REQUEST_BUCKETS,
                &["method", "route"],
            )?,
            exemplars: Exemplars::default(),
            logins: register.counters(
                "claviger_logins_total",
                "Logins, by outcome.",
                &["outcome"],
            )?,
            logins_unavailable: register.counters(
                "claviger_logins_unavailable_total",
                "Logins that could not be answered, by the dependency (database, tokens) that was away.",
                &["dependency"],
            )?,
            token_checks: register.counters(
                "claviger_token_checks_total",
                "Token checks, by outcome.",
                &["outcome"],
            )?,
            tokens_issued: register.counter("claviger_tokens_issued_total", "Tokens issued.")?,
            tokens_may_be_evicted: register.gauges(
                "claviger_tokens_may_be_evicted",
                "Whether the token store would end sessions for want of memory.",
                &[],
            )?,
            tokens_revoked: register.counter(
                "claviger_tokens_revoked_total",
                "Tokens ended before their time.",
            )?,
            hash_duration: register.histogram(
                "claviger_hash_duration_seconds",
                "Time of one run of the password hash.",
                &HASH_BUCKETS,
            )?,
            hash_wait: register.histogram(
                "claviger_hash_wait_seconds",
                "Time that a login waited for a hash worker until its run began.",
                &WAIT_BUCKETS,
            )?,
            hash_queue_length: register.gauge(
                "claviger_hash_queue_length",
                "Logins that wait for a hash worker.",
            )?,
            hash_queue_capacity: register.gauge(
                "claviger_hash_queue_capacity",
                "Logins that may wait before the next one is refused.",
            )?,
            hash_workers: register.gauge("claviger_hash_workers", "Hash workers.")?,
            hash_workers_busy: register.gauge(
                "claviger_hash_workers_busy",
                "Hash workers that are at work.",
            )?,
            pool_connections: register.gauges(
                "claviger_pool_connections",
                "Connections of a pool, by pool (database, tokens) and state (used, idle).",
                &["pool", "state"],
            )?,
            pool_connections_max: register.gauges(
                "claviger_pool_connections_max",
                "The most connections that a pool may open.",
                &["pool"],
            )?,
            dependency_up: register.gauges(
                "claviger_dependency_up",
                "Whether a dependency (database, tokens, schema) could be used at the last probe.",
                &["dependency"],
            )?,
            schema_version: register.gauge(
                "claviger_schema_version",
                "Version of the database schema at the last probe.",
            )?,
            schema_version_latest: register.gauge(
                "claviger_schema_version_latest",
                "Newest version of the schema that this binary knows.",
            )?,
            log_lines_dropped: register.counter(
                "claviger_log_lines_dropped_total",
                "Log lines dropped because they could not be written fast enough.",
            )?,
            registry: registry.clone(),
        };
        register.build_info()?;
        #[cfg(target_os = "linux")]
        registry.register(Box::new(
            prometheus::process_collector::ProcessCollector::for_self(),
        ))?;
        metrics.expect_outcomes();
        Ok(metrics)
    }

    /// A rate over a series that appears with its first event misses that event, so all are there from the start.
    fn expect_outcomes(&self) {
        for outcome in LoginOutcome::ALL {
            self.logins.with_label_values(&[outcome.label()]);
        }
        for outcome in CheckOutcome::ALL {
            self.token_checks.with_label_values(&[outcome.label()]);
        }
        for dependency in ["database", "tokens"] {
            self.logins_unavailable.with_label_values(&[dependency]);
        }
    }

    /// Names a route, so that its times and its failures are there, at zero, before the first of them.
    pub fn expect_requests(&self, method: &str, route: &str) {
        self.http_duration.with_label_values(&[method, route]);
        for status in ["500", "503"] {
            self.http_requests
                .with_label_values(&[method, route, status]);
        }
    }

    /// Counts and times an answered request.
    pub fn observe_request(&self, method: &str, route: &str, status: u16, elapsed: Duration) {
        let mut buffer = [0; 3];
        let status = status_label(status, &mut buffer);
        self.http_requests
            .with_label_values(&[method, route, status])
            .inc();
        self.http_duration
            .with_label_values(&[method, route])
            .observe(elapsed.as_secs_f64());
    }

    /// Keeps the trace of a request that took so long, to be found from its bucket.
    pub fn keep_trace(&self, method: &str, route: &str, elapsed: Duration, trace_id: String) {
        let seconds = elapsed.as_secs_f64();
        self.exemplars.keep(
            REQUEST_TIMES,
            &REQUEST_BUCKETS,
            (method, route),
            seconds,
            trace_id,
        );
    }

    /// Counts a login that never began or is over; a successful one has issued a token.
    pub fn count_login(&self, outcome: LoginOutcome) {
        self.logins.with_label_values(&[outcome.label()]).inc();
        if outcome == LoginOutcome::Success {
            self.tokens_issued.inc();
        }
    }

    /// Counts a login that a dependency left without an answer, beside its outcome.
    pub fn count_unavailable_login(&self, dependency: &str) {
        self.logins_unavailable
            .with_label_values(&[dependency])
            .inc();
    }

    /// A login begins; unless its outcome is told, it is counted as abandoned.
    pub fn begin_login(&self) -> LoginUnderWay<'_> {
        LoginUnderWay {
            metrics: self,
            outcome: LoginOutcome::Abandoned,
        }
    }

    /// Counts a token check.
    pub fn count_check(&self, outcome: CheckOutcome) {
        self.token_checks
            .with_label_values(&[outcome.label()])
            .inc();
    }

    /// Counts tokens that were ended before their time.
    pub fn count_revoked(&self, tokens: u64) {
        self.tokens_revoked.inc_by(tokens);
    }

    /// Times of hash runs; a cheap handle for the hash gate.
    pub fn hash_duration(&self) -> Histogram {
        self.hash_duration.clone()
    }

    /// Times of waits for a hash worker; a cheap handle for the hash gate.
    pub fn hash_wait(&self) -> Histogram {
        self.hash_wait.clone()
    }

    /// All metrics in Prometheus' text format.
    ///
    /// # Errors
    /// A metric can't be encoded: a bug.
    pub fn encode(&self, snapshot: &Snapshot) -> Result<Vec<u8>, prometheus::Error> {
        let gauge = |value: usize| i64::try_from(value).unwrap_or(i64::MAX);
        self.hash_queue_length
            .set(gauge(snapshot.hash_queue_length));
        self.hash_queue_capacity
            .set(gauge(snapshot.hash_queue_capacity));
        self.hash_workers.set(gauge(snapshot.hash_workers));
        self.hash_workers_busy
            .set(gauge(snapshot.hash_workers_busy));
        for (pool, connections) in &snapshot.pools {
            let used = connections.open.saturating_sub(connections.idle);
            self.pool_connections
                .with_label_values(&[*pool, "used"])
                .set(gauge(used));
            self.pool_connections
                .with_label_values(&[*pool, "idle"])
                .set(gauge(connections.idle));
            self.pool_connections_max
                .with_label_values(&[*pool])
                .set(gauge(connections.max));
        }
        for (dependency, up) in &snapshot.dependencies {
            self.dependency_up
                .with_label_values(&[*dependency])
                .set(i64::from(*up));
        }
        if let Some((version, latest)) = snapshot.schema_version {
            self.schema_version.set(gauge(version));
            self.schema_version_latest.set(gauge(latest));
        }
        match snapshot.tokens_may_be_evicted {
            Some(may) => self
                .tokens_may_be_evicted
                .with_label_values::<&str>(&[])
                .set(i64::from(may)),
            None => self.tokens_may_be_evicted.reset(),
        }
        self.log_lines_dropped.inc_by(
            snapshot
                .log_lines_dropped
                .saturating_sub(self.log_lines_dropped.get()),
        );

        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }

    /// What [`Metrics::encode`] made, in the format that has room for the traces: [`OPEN_METRICS`].
    pub fn with_traces(&self, text: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(text);
        self.exemplars.open_metrics(&text).into_bytes()
    }
}

/// A login whose outcome is not known yet.
#[derive(Debug)]
pub struct LoginUnderWay<'a> {
    metrics: &'a Metrics,
    outcome: LoginOutcome,
}

impl LoginUnderWay<'_> {
    /// Counts it.
    pub fn end(mut self, outcome: LoginOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for LoginUnderWay<'_> {
    fn drop(&mut self) {
        self.metrics.count_login(self.outcome);
    }
}

/// The three digits of a status, without a heap allocation for each request.
fn status_label(status: u16, buffer: &mut [u8; 3]) -> &str {
    let mut rest = status;
    for digit in buffer.iter_mut().rev() {
        *digit = b'0' + u8::try_from(rest % 10).unwrap_or_default();
        rest /= 10;
    }
    std::str::from_utf8(buffer).unwrap_or("000")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_has_three_digits() {
        for status in [100, 200, 404, 503] {
            assert_eq!(status_label(status, &mut [0; 3]), status.to_string());
        }
    }

    #[test]
    fn every_outcome_is_there_before_its_first_event() {
        let metrics = Metrics::new().unwrap();
        let text = String::from_utf8(metrics.encode(&Snapshot::default()).unwrap()).unwrap();
        for outcome in LoginOutcome::ALL {
            assert!(text.contains(&format!(
                "claviger_logins_total{{outcome=\"{}\"}} 0",
                outcome.label()
            )));
        }
        for outcome in CheckOutcome::ALL {
            assert!(text.contains(&format!(
                "claviger_token_checks_total{{outcome=\"{}\"}} 0",
                outcome.label()
            )));
        }
    }
}
