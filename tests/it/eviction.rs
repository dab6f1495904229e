//! Whether Redis may end sessions for want of memory: told by a metric and, when it becomes so, by the log.

use claviger::store::tokens::Tokens;
use secrecy::ExposeSecret;

use crate::common::{Backend, Deployment, RedisServer, TestApp};

const METRIC: &str = "claviger_tokens_may_be_evicted";
const WARNING: &str = "Redis may end sessions when its memory is full: it has a maxmemory, and a \
                       maxmemory-policy other than noeviction";

async fn set(redis: &RedisServer, policy: &str, limit: &str) {
    let policy = [
        "CONFIG",
        "SET",
        "maxmemory-policy",
        policy,
        "maxmemory",
        limit,
    ];
    redis.command(&policy).await;
}

#[tokio::test]
async fn it_may_with_a_limit_and_any_policy_that_evicts() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    for (policy, limit, expected) in [
        ("noeviction", "0", 0),
        ("volatile-ttl", "100mb", 1),
        ("allkeys-lru", "100mb", 1),
        ("noeviction", "100mb", 0),
        ("volatile-lru", "100mb", 1),
        ("volatile-lru", "0", 0),
    ] {
        set(&redis, policy, limit).await;
        assert_eq!(app.ops("/readyz").await.status, 200);
        assert_eq!(app.metric(METRIC).await, expected, "{policy} {limit}");
    }
}

#[tokio::test]
async fn a_server_that_does_not_tell_is_as_good_as_any_and_is_not_asked_again_and_again() {
    let redis = RedisServer::start();
    set(&redis, "allkeys-lru", "100mb").await;
    redis.command(&["ACL", "SETUSER", "default", "-info"]).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    app.user("alice").await;
    app.token("alice").await;
    for _ in 0..3 {
        assert_eq!(app.ops("/readyz").await.status, 200);
    }
    let scrape = app.ops("/metrics").await.text();
    assert!(!scrape.contains(METRIC), "{scrape}");

    redis.command(&["ACL", "SETUSER", "default", "+info"]).await;
    let mut connection = redis.connect().await;
    let mut command = redis::cmd("INFO");
    command.arg("commandstats");
    let stats: redis::InfoDict = command.query_async(&mut connection).await.unwrap();
    let info: String = stats.get("cmdstat_info").unwrap();
    assert!(info.contains("rejected_calls=1,"), "{info}");
}

#[tokio::test]
async fn a_server_that_is_down_tells_nothing() {
    let redis = RedisServer::start();
    set(&redis, "allkeys-lru", "100mb").await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    assert_eq!(app.metric(METRIC).await, 1);
    drop(redis);
    assert_eq!(app.ops("/readyz").await.status, 503);
    let scrape = app.ops("/metrics").await.text();
    assert!(!scrape.contains(METRIC), "{scrape}");
    let tokens = Tokens::open(&app.config.tokens).unwrap();
    assert_eq!(tokens.may_evict().await, None);
}

#[tokio::test]
async fn the_log_warns_when_it_becomes_so() {
    let redis = RedisServer::start();
    let mut deployment = Deployment::new(Backend::Embedded).await;
    deployment.set("CLAVIGER_TOKENS__URL", redis.url.expose_secret());
    let mut service = deployment.start();
    for _ in 0..2 {
        set(&redis, "volatile-lru", "100mb").await;
        service.wait_for(WARNING);
        // Seen again, also after a time in which nothing was to be seen, it is no news.
        for (right, status) in [("-setrange", 503), ("+setrange", 200)] {
            redis.command(&["ACL", "SETUSER", "default", right]).await;
            assert_eq!(service.ops("/readyz").await.status, status);
        }
        set(&redis, "noeviction", "100mb").await;
        service.wait_for_metric(METRIC, 0).await;
    }
    service.signal("TERM");
    let (_, log) = service.end();
    let warnings = log.iter().filter(|line| line.contains(WARNING)).count();
    assert_eq!(warnings, 2, "{log:#?}");
}
