//! Traces: the built program exports to a collector, which is this test.
//!
//! The program is ended before the spans are looked at: it flushes what it has, so nothing is waited for.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::http::{Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use prost::Message;
use rstest::rstest;
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::common::{
    Backend, Connection, Deployment, PASSWORD, Program, credentials, get, post, post_login, run,
    with_token,
};

/// Far longer than an export takes, and less than for ever.
const LONGEST_EXPORT: Duration = Duration::from_mins(2);

/// An OpenTelemetry collector, for OTLP over HTTP.
struct Collector {
    endpoint: String,
    received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
    /// What it answers.
    status: Arc<AtomicU16>,
    _tasks: JoinSet<()>,
}

impl Collector {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::default();
        let status = Arc::new(AtomicU16::new(200));
        let mut tasks = JoinSet::new();
        let listen = Self::listen(listener, Arc::clone(&received), Arc::clone(&status));
        tasks.spawn(listen);
        Self {
            endpoint,
            received,
            status,
            _tasks: tasks,
        }
    }

    /// Returns when there are more exports than this, and how many there are.
    async fn more_than(&self, exports: usize) -> usize {
        let more = async {
            while self.exports().len() == exports {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONGEST_EXPORT, more)
            .await
            .expect("an export");
        self.exports().len()
    }

    fn answer(&self, status: u16) {
        self.status.store(status, Ordering::Relaxed);
    }

    async fn listen(
        listener: TcpListener,
        received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
        status: Arc<AtomicU16>,
    ) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let (received, status) = (Arc::clone(&received), Arc::clone(&status));
            let answer = service_fn(move |request| {
                let status = status.load(Ordering::Relaxed);
                Self::receive(request, Arc::clone(&received), status)
            });
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), answer);
            connections.spawn(async move {
                let _ = connection.await;
            });
        }
    }

    async fn receive(
        request: Request<Incoming>,
        received: Arc<Mutex<Vec<ExportTraceServiceRequest>>>,
        status: u16,
    ) -> Result<Response<Empty<Bytes>>, Infallible> {
        assert_eq!(request.method(), Method::POST);
        assert_eq!(request.uri().path(), "/v1/traces");
        assert_eq!(request.headers()["content-type"], "application/x-protobuf");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let export = ExportTraceServiceRequest::decode(body).unwrap();
        received.lock().unwrap().push(export);
        let answer = Response::builder().status(status);
        Ok(answer.body(Empty::new()).unwrap())
    }

    fn exports(&self) -> Vec<ExportTraceServiceRequest> {
        self.received.lock().unwrap().clone()
    }

    /// All spans, of whatever trace.
    fn spans(&self) -> Vec<Span> {
        let exports = self.exports().into_iter();
        exports
            .flat_map(|export| export.resource_spans)
            .flat_map(|resource| resource.scope_spans)
            .flat_map(|scope| scope.spans)
            .collect()
    }

    fn trace(&self, id: &str) -> Vec<Span> {
        let mut spans = self.spans();
        spans.retain(|span| hex(&span.trace_id) == id);
        spans
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// An attribute as text.
fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = &attributes.iter().find(|pair| pair.key == key)?.value;
    match value {
        Some(AnyValue {
            value: Some(Value::StringValue(text)),
        }) => Some(text.clone()),
        Some(AnyValue {
            value: Some(Value::IntValue(number)),
        }) => Some(number.to_string()),
        other => panic!("{key} is {other:?}"),
    }
}

/// A service on a backend that exports to a collector.
async fn exporting(backend: Backend) -> (Collector, Deployment) {
    let collector = Collector::start().await;
    let mut deployment = Deployment::new(backend).await;
    deployment.set("OTEL_EXPORTER_OTLP_ENDPOINT", &collector.endpoint);
    deployment.user("alice");
    (collector, deployment)
}

/// Has the service flush what it has.
#[track_caller]
fn end(service: Program) {
    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{log:?}");
    let complaint = log.iter().find(|line| line.contains("spans"));
    assert_eq!(complaint, None);
}

fn traced(request: &str, traceparent: &str) -> String {
    request.replacen("\r\n", &format!("\r\ntraceparent: {traceparent}\r\n"), 1)
}

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_joins_the_trace_of_its_caller(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (collector, deployment) = exporting(backend).await;
    let service = deployment.start();
    let answer = service
        .send(&traced(
            &post_login("alice"),
            &format!("00-{TRACE}-{CALLER}-01"),
        ))
        .await;
    let token = answer.token();
    end(service);

    let spans = collector.trace(TRACE);
    let named = |name: &str| {
        let mut found = spans.iter().filter(|span| span.name == name);
        let span = found
            .next()
            .unwrap_or_else(|| panic!("no span {name} in {spans:#?}"));
        assert!(found.next().is_none(), "{name} is there twice");
        span
    };
    let request = named("POST /v1.0/user/auth");
    assert_eq!(hex(&request.parent_span_id), CALLER);
    assert_eq!(request.kind(), SpanKind::Server);
    let children = [
        "limits",
        "lookup",
        "token_store_generation",
        "hash_wait",
        "hash",
        "record_login",
        "token_store",
    ]
    .map(named);
    for child in children {
        assert_eq!(child.parent_span_id, request.span_id, "{}", child.name);
        assert_eq!(child.kind(), SpanKind::Internal);
        assert!(child.start_time_unix_nano >= request.start_time_unix_nano);
        // SQLite's driver keeps the span of a statement a moment longer than its caller, and with tokens in this process nothing
        // that takes time comes behind the last one.
        if backend == Backend::External {
            assert!(child.end_time_unix_nano <= request.end_time_unix_nano);
        }
    }
    assert_eq!(spans.len(), 8, "{spans:#?}");
    // Not by their ends, for the same reason.
    for pair in children.windows(2) {
        assert!(
            pair[0].start_time_unix_nano <= pair[1].start_time_unix_nano,
            "one after the other: {pair:?}"
        );
    }

    let of_request = |key| attribute(&request.attributes, key);
    assert_eq!(of_request("http.request.method").as_deref(), Some("POST"));
    assert_eq!(of_request("http.route").as_deref(), Some("/v1.0/user/auth"));
    assert_eq!(
        of_request("http.response.status_code").as_deref(),
        Some("200")
    );
    assert_eq!(
        of_request("user_id"),
        Some(answer.json()["user_id"].to_string())
    );
    assert_eq!(
        of_request("request_id").as_deref(),
        answer.header("x-request-id")
    );
    for export in collector.exports() {
        for resource in export.resource_spans {
            let resource = resource.resource.unwrap();
            let of_service = |key| attribute(&resource.attributes, key);
            assert_eq!(of_service("service.name").as_deref(), Some("claviger"));
            assert_eq!(
                of_service("service.version").as_deref(),
                Some(env!("CARGO_PKG_VERSION"))
            );
        }
    }
    // Attributes, events, resources: all of it.
    let text = format!("{:?}", collector.exports());
    for secret in ["alice", PASSWORD, &token, "argon2", "clv_"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_are_traced_without_what_was_sent(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let (collector, mut deployment) = exporting(backend).await;
    deployment.set("RUST_LOG", "trace");
    let service = deployment.start();
    let bodies = [
        r#"{"username":"mallory-typed-this","password":"secret-typed-here"}"#,
        r#"{"username":"alice","password":"secret-typed-here"}"#,
        r#"{"username":"mallory-typed-this""#,
    ];
    for body in bodies {
        let answer = service.send(&post("", "application/json", body)).await;
        assert!(answer.status.is_client_error());
    }
    let mistyped = "clv_mistyped-token";
    service
        .send(&with_token("GET", mistyped))
        .await
        .problem(401, "invalid-token");
    let path = "/reset/secret-in-a-path?token=secret-in-a-query";
    service.send(&get(path)).await.problem(404, "not-found");
    let token = service.send(&post_login("alice")).await.token();
    service.send(&with_token("GET", &token)).await;
    service.send(&with_token("DELETE", &token)).await;
    end(service);

    let count = |name: &str| {
        let spans = collector.spans();
        spans.iter().filter(|span| span.name == name).count()
    };
    assert_eq!(count("POST /v1.0/user/auth"), 4);
    assert_eq!(count("GET /v1.0/user/auth"), 2);
    assert_eq!(count("DELETE /v1.0/user/auth"), 1);
    assert_eq!(count("GET unmatched"), 1);
    assert_eq!(count("hash"), 3, "one for each login that could be read");
    let text = format!("{:?}", collector.exports());
    let secrets = [
        "mallory", "alice", "typed", "secret", PASSWORD, mistyped, &token, "argon2", "SELECT",
    ];
    for secret in secrets {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_caller_decides_whether_his_trace_is_recorded() {
    let (collector, deployment) = exporting(Backend::Embedded).await;
    let service = deployment.start();
    let login = post_login("alice");
    let unsampled = traced(&login, &format!("00-{TRACE}-{CALLER}-00"));
    service.send(&unsampled).await.token();
    // What is no trace context begins a trace of our own.
    service.send(&traced(&login, "junk")).await.token();
    service.send(&login).await.token();
    end(service);

    assert!(collector.trace(TRACE).is_empty());
    let spans = collector.spans();
    let roots: Vec<&Span> = spans
        .iter()
        .filter(|span| span.parent_span_id.is_empty())
        .collect();
    assert_eq!(roots.len(), 2, "{roots:#?}");
    assert_ne!(roots[0].trace_id, roots[1].trace_id);
    assert_eq!(spans.len(), 16);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_logs_do_not_cost_the_traces() {
    let (collector, mut deployment) = exporting(Backend::Embedded).await;
    deployment.set(
        "RUST_LOG",
        "claviger::cli=info,claviger::store::health=info,error",
    );
    let service = deployment.start();
    service.send(&post_login("alice")).await.token();
    end(service);
    assert_eq!(collector.spans().len(), 8);
}

#[rstest]
#[case("OTEL_SDK_DISABLED", "true")]
#[case("OTEL_TRACES_EXPORTER", "none")]
#[case("OTEL_TRACES_SAMPLER", "always_off")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_standard_variables_switch_it_off(#[case] name: &str, #[case] value: &str) {
    let (collector, mut deployment) = exporting(Backend::Embedded).await;
    deployment.set(name, value);
    let service = deployment.start();
    let login = traced(&post_login("alice"), &format!("00-{TRACE}-{CALLER}-01"));
    service.send(&login).await.token();
    end(service);
    assert!(collector.exports().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_of_ones_own_and_a_path_of_ones_own_are_kept() {
    let (collector, mut deployment) = exporting(Backend::Embedded).await;
    deployment.set("OTEL_SERVICE_NAME", "login");
    deployment.set("OTEL_EXPORTER_OTLP_ENDPOINT", "");
    let endpoint = format!("{}/v1/traces", collector.endpoint);
    deployment.set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint);
    let service = deployment.start();
    service.send(&post_login("alice")).await.token();
    end(service);
    let exports = collector.exports();
    let resource = exports[0].resource_spans[0].resource.clone().unwrap();
    assert_eq!(
        attribute(&resource.attributes, "service.name").as_deref(),
        Some("login")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_costs_nobody_a_login() {
    let mut deployment = Deployment::new(Backend::Embedded).await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    drop(nobody);
    let endpoint = format!("http://user:collector-password@{address}");
    deployment.set("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint);
    deployment.set("OTEL_BSP_SCHEDULE_DELAY", "10");
    deployment.user("alice");
    let service = deployment.start();
    for _ in 0..20 {
        service.send(&post_login("alice")).await.token();
    }
    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{log:?}");
    let log = log.join("\n");
    assert_eq!(
        log.matches("spans can't be exported, and are lost").count(),
        1,
        "{log}"
    );
    assert!(!log.contains("collector-password"), "{log}");
    let secrets = [
        deployment.database.url.expose_secret(),
        &credentials("alice"),
    ];
    assert!(!secrets.iter().any(|secret| log.contains(secret)), "{log}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_refuses_is_logged_once_and_when_it_takes_spans_again() {
    const LOST: &str = "spans can't be exported, and are lost";
    let (collector, mut deployment) = exporting(Backend::Embedded).await;
    let secret = "authorization=Basic%20Sesame-0pen";
    deployment.set("OTEL_EXPORTER_OTLP_HEADERS", secret);
    deployment.set("OTEL_BSP_SCHEDULE_DELAY", "10");
    deployment.set("RUST_LOG", "trace");
    let mut service = deployment.start();
    let mut exports = 0;
    // Three batches for each answer, each sent when the one before has come.
    for status in [401, 400, 200] {
        collector.answer(status);
        for _ in 0..3 {
            service.send(&get("/")).await;
            exports = collector.more_than(exports).await;
        }
        let message = if status == 200 {
            "spans are exported again"
        } else {
            LOST
        };
        let line = service.wait_for(message);
        if status != 200 {
            assert_eq!(line["level"], "WARN");
            let cause = line["cause"].as_str().unwrap();
            assert!(cause.contains(&status.to_string()), "{cause}");
        }
    }
    service.signal("TERM");
    let (status, log) = service.end();
    assert!(status.success(), "{log:?}");
    assert_eq!(
        log.iter().filter(|line| line.contains(LOST)).count(),
        2,
        "{log:?}"
    );
    assert!(!log.join("\n").contains("Sesame"), "{log:?}");
}

#[tokio::test]
async fn an_endpoint_that_can_not_be_used_is_named_and_not_repeated() {
    let variables = [(
        "OTEL_EXPORTER_OTLP_ENDPOINT",
        "http://user:Sesame-0pen@a collector",
    )];
    for command in [&["serve"][..], &["config", "check"]] {
        let run = run(command, &variables, "");
        assert_eq!(run.code, 78, "{run:?}");
        let expected = "claviger: spans can't be exported: the value of OTEL_EXPORTER_OTLP_ENDPOINT can't be used\n";
        assert_eq!(run.err, expected);
    }
}

/// What Prometheus asks for.
const ACCEPT: &str =
    "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";

async fn scrape_as_prometheus(service: &Program) -> (String, String) {
    let request = get("/metrics").replacen("\r\n", &format!("\r\nAccept: {ACCEPT}\r\n"), 1);
    let mut connection = Connection::open(&service.ops).await;
    connection.send(&request).await;
    let answer = connection.answer().await;
    let content_type = answer.header("content-type").unwrap().to_owned();
    (content_type, answer.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_times_of_requests_name_a_trace_that_was_sampled() {
    let (_collector, deployment) = exporting(Backend::Embedded).await;
    let service = deployment.start();
    let of_nobody = with_token("GET", "clv_x");
    for (request, flags) in [(post_login("alice"), "01"), (of_nobody, "00")] {
        let traceparent = format!("00-{TRACE}-{CALLER}-{flags}");
        service.send(&traced(&request, &traceparent)).await;
    }

    let (content_type, scrape) = scrape_as_prometheus(&service).await;
    assert!(
        content_type.starts_with("application/openmetrics-text;"),
        "{content_type}"
    );
    assert!(scrape.ends_with("\n# EOF\n"), "{scrape}");
    let exemplars: Vec<&str> = scrape
        .lines()
        .filter(|line| line.contains(" # {"))
        .collect();
    let [exemplar] = exemplars[..] else {
        panic!("{exemplars:?}");
    };
    let series = r#"claviger_http_request_duration_seconds_bucket{method="POST",route="/v1.0/user/auth",le=""#;
    assert!(exemplar.starts_with(series), "{exemplar}");
    let trace = format!(" 1 # {{trace_id=\"{TRACE}\"}} ");
    assert!(exemplar.contains(&trace), "{exemplar}");

    // Who does not ask for it gets what everybody reads.
    let plain = service.ops("/metrics").await;
    assert!(
        plain
            .header("content-type")
            .unwrap()
            .starts_with("text/plain")
    );
    assert!(!plain.text().contains(" # {"));
}

#[tokio::test]
async fn without_a_collector_there_are_no_traces_to_name() {
    let service = Deployment::new(Backend::Embedded).await.start();
    let (content_type, _) = scrape_as_prometheus(&service).await;
    assert!(content_type.starts_with("text/plain"), "{content_type}");
}
