//! Connections that are encrypted: to one server, to the sentinels and their master, and to a cluster.

use rstest::rstest;

use crate::common::{
    Backend, Certificates, Deployment, Program, RedisServer, Sentinel, post_login, tls_port,
    with_token,
};

/// A Redis that takes encrypted connections too, with these arguments beside the others.
fn server(certificates: &Certificates, others: &[&str]) -> RedisServer {
    let settings = certificates.settings();
    let names = settings.each_ref().map(|(name, _)| format!("--{name}"));
    let pairs = names.iter().zip(&settings);
    let mut arguments: Vec<&str> = pairs
        .flat_map(|(name, (_, value))| [name.as_str(), value.as_str()])
        .collect();
    arguments.extend(others);
    RedisServer::with(&arguments)
}

/// The service as a process, since the authorities are those of the system, and where they are the environment says.
async fn service(url: &str, authority: &str) -> (Deployment, Program) {
    let mut deployment = Deployment::new(Backend::External).await;
    deployment.user("alice");
    deployment.set("CLAVIGER_TOKENS__URL", url);
    deployment.set("CLAVIGER_TOKENS__TIMEOUT", "5s");
    deployment.set("SSL_CERT_FILE", authority);
    let service = deployment.start_unready();
    (deployment, service)
}

async fn a_session_comes_and_goes(service: &mut Program) {
    service.wait_for("ready");
    let token = service.send(&post_login("alice")).await.token();
    let check = service.send(&with_token("GET", &token)).await;
    assert_eq!(check.status, 200);
    let log_out = service.send(&with_token("DELETE", &token)).await;
    assert_eq!(log_out.status, 204);
}

/// The authority that signed the certificate of the server has to be known, and the certificate has to be for its address.
#[rstest]
#[case::known("127.0.0.1", "ca.pem", true)]
#[case::unknown("127.0.0.1", "other.pem", false)]
#[case::of_another("127.0.0.2", "ca.pem", false)]
#[tokio::test]
async fn one_server(#[case] name: &str, #[case] authority: &str, #[case] trusted: bool) {
    let certificates = Certificates::new(name);
    let redis = server(&certificates, &[]);
    let url = format!("rediss://127.0.0.1:{}/0", tls_port(redis.port));
    let (_deployment, mut service) = service(&url, &certificates.path(authority)).await;
    if trusted {
        a_session_comes_and_goes(&mut service).await;
    } else {
        let why = service.wait_for("not ready");
        assert_eq!(why["failing"], "tokens");
        let causes = why["causes"].as_str().unwrap();
        assert!(causes.contains("invalid peer certificate"), "{causes}");
        let answer = service.send(&post_login("alice")).await;
        answer.problem(503, "dependency-unavailable");
    }
}

#[tokio::test]
async fn sentinels_and_their_master() {
    let certificates = Certificates::new("127.0.0.1");
    let redis = server(&certificates, &[]);
    let settings = certificates.settings();
    let lines = settings
        .each_ref()
        .map(|(name, value)| format!("{name} {value}"));
    let mut lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    lines.push("tls-replication yes");
    let sentinel = Sentinel::watch(&redis, &lines);
    let url = format!(
        "rediss+sentinel://127.0.0.1:{}/main/0",
        tls_port(sentinel.port)
    );
    let (_deployment, mut service) = service(&url, &certificates.path("ca.pem")).await;
    a_session_comes_and_goes(&mut service).await;
}

#[tokio::test]
async fn a_cluster() {
    let certificates = Certificates::new("127.0.0.1");
    let redis = server(
        &certificates,
        &["--cluster-enabled", "yes", "--tls-cluster", "yes"],
    );
    redis
        .command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"])
        .await;
    redis.wait_for_cluster("cluster_state:ok").await;
    let url = format!("rediss+cluster://127.0.0.1:{}", tls_port(redis.port));
    let (_deployment, mut service) = service(&url, &certificates.path("ca.pem")).await;
    a_session_comes_and_goes(&mut service).await;
}
