//! The failure table: each dependency is broken, the answers are looked at, it is healed, and all is well again.

use claviger::auth::token::Token;
use claviger::store::schema::Target;
use rstest::rstest;
use sea_orm::sqlx;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use crate::common::{Answer, Backend, PASSWORD, Proxy, RedisServer, TestApp, redis_url, server};

async fn failing(app: &TestApp) -> Value {
    let answer = app.ops("/readyz").await;
    let expected = if answer.json()["failing"] == json!([]) {
        200
    } else {
        503
    };
    assert_eq!(answer.status, expected);
    assert_eq!(
        app.ops("/healthz").await.status,
        200,
        "liveness is of the process only"
    );
    answer.json()["failing"].clone()
}

fn away(answer: &Answer) {
    answer.problem(503, "dependency-unavailable");
    let retry_after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&retry_after));
}

/// Logins that could not be answered because of the database, and because of the token store.
async fn unavailable_logins(app: &TestApp) -> [u64; 2] {
    let scrape = app.ops("/metrics").await;
    ["database", "tokens"].map(|dependency| {
        scrape.metric(&format!(
            "claviger_logins_unavailable_total{{dependency=\"{dependency}\"}}"
        ))
    })
}

/// How a dependency breaks.
#[derive(Clone, Copy, Debug)]
enum Fault {
    Cut,
    Stall,
}

fn break_with(proxy: &Proxy, fault: Fault) {
    match fault {
        Fault::Cut => proxy.cut(),
        Fault::Stall => proxy.stall(),
    }
}

#[rstest]
#[tokio::test]
async fn the_token_store_is_away(#[values(Fault::Cut, Fault::Stall)] fault: Fault) {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url;
        config.tokens.timeout = std::time::Duration::from_secs(1);
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let revoked = app.token("alice").await;
    app.log_out(&revoked).await;

    // Many idle connections, so that a hanging server could make a request wait for each of them.
    futures_util::future::join_all((0..12).map(|_| app.token("alice"))).await;

    break_with(&proxy, fault);
    let runs = app.hash_runs();
    let bound = 5 * app.config.tokens.timeout;
    let refused = tokio::time::timeout(bound, app.log_in("alice", PASSWORD)).await;
    away(&refused.expect("all idle connections together are one time-out"));
    away(&app.log_in("nobody", PASSWORD).await);
    assert_eq!(
        app.hash_runs(),
        runs,
        "no password is hashed while the answer could not be kept"
    );
    // Nobody is told "not logged in".
    away(&app.check(&token).await);
    away(&app.check(Token::generate().expose()).await);
    away(&app.log_out(&token).await);
    assert_eq!(failing(&app).await, json!(["tokens"]));
    assert_eq!(
        app.metric(r#"claviger_dependency_up{dependency="tokens"}"#)
            .await,
        0
    );
    assert!(
        app.metric(r#"claviger_logins_total{outcome="unavailable"}"#)
            .await
            >= 2
    );
    assert_eq!(unavailable_logins(&app).await, [0, 2]);

    proxy.heal();
    assert_eq!(
        app.check(&token).await.status,
        200,
        "without a restart, and nothing was claimed"
    );
    app.check(&revoked).await.problem(401, "invalid-token");
    app.token("alice").await;
    assert_eq!(app.log_out(&token).await.status, 204);
    assert_eq!(failing(&app).await, json!([]));
}

#[tokio::test]
async fn the_token_store_is_a_replica() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;

    // It keeps what it has, and serves reads; but it may not have heard of a revocation.
    redis
        .command(&["CONFIG", "SET", "replica-serve-stale-data", "yes"])
        .await;
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let runs = app.hash_runs();
    away(&app.log_in("alice", PASSWORD).await);
    assert_eq!(app.hash_runs(), runs);
    assert_eq!(failing(&app).await, json!(["tokens"]));
    away(&app.check(&token).await);
    away(&app.log_out(&token).await);

    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(failing(&app).await, json!([]));
    assert_eq!(app.check(&token).await.status, 200);
    app.token("alice").await;
}

#[tokio::test]
async fn the_name_of_the_token_store_leads_to_another_master() {
    let (old, new) = (RedisServer::start(), RedisServer::start());
    let (proxy, url) = Proxy::before(&old.url).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url.clone();
        config.tokens.pool_size = 1;
    })
    .await;
    app.user("alice").await;
    let before = app.token("alice").await;
    assert_eq!(app.check(&before).await.status, 200);

    // The old one is a replica now, and keeps its connections; new ones lead to the new one.
    proxy.lead_to(&new.url);
    old.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    assert_eq!(failing(&app).await, json!(["tokens"]));
    away(&app.check(&before).await);
    assert_eq!(failing(&app).await, json!([]));
    let token = app.token("alice").await;
    assert_eq!(app.check(&token).await.status, 200);
    app.check(&before).await.problem(401, "invalid-token");
}

#[tokio::test]
async fn a_replica_without_tokens_is_no_proof_that_sessions_ended() {
    let redis = RedisServer::start();
    redis.command(&["REPLICAOF", "127.0.0.1", "1"]).await;
    let settings = claviger::config::Tokens {
        url: redis.url.clone(),
        ..claviger::config::Config::default().tokens
    };
    let tokens = claviger::store::tokens::Tokens::open(&settings).unwrap();
    tokens.clear().await.unwrap_err();
    redis.command(&["REPLICAOF", "NO", "ONE"]).await;
    assert_eq!(tokens.clear().await.unwrap(), 0);
}

#[tokio::test]
async fn the_token_store_is_full() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;

    redis
        .command(&["CONFIG", "SET", "maxmemory-policy", "noeviction"])
        .await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    let runs = app.hash_runs();
    away(&app.log_in("alice", PASSWORD).await);
    assert_eq!(app.hash_runs(), runs);
    assert_eq!(failing(&app).await, json!(["tokens"]));
    assert_eq!(
        app.check(&token).await.status,
        200,
        "reading needs no memory"
    );

    redis.command(&["CONFIG", "SET", "maxmemory", "0"]).await;
    assert_eq!(failing(&app).await, json!([]));
    app.token("alice").await;
}

#[tokio::test]
async fn the_token_store_was_restarted() {
    let (proxy, url) = Proxy::before(&redis_url()).await;
    let app = TestApp::start_with(Backend::External, |config| config.tokens.url = url).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.check(&token).await.status, 200);
    // All connections die, and the server is there again before anybody asks: nobody notices.
    proxy.restart();
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.log_in("alice", PASSWORD).await.status, 200);
}

#[rstest]
#[tokio::test]
async fn the_database_is_away(#[values(Fault::Cut, Fault::Stall)] fault: Fault) {
    let mut proxy = None;
    let database = crate::common::database(Backend::External).await;
    let (broken, url) = Proxy::before(&database.url).await;
    let app = TestApp::start_with(Backend::External, |config| {
        config.database.url = url;
        config.database.acquire_timeout = std::time::Duration::from_secs(1);
        proxy = Some(broken);
    })
    .await;
    let proxy = proxy.unwrap();
    app.user("alice").await;
    let token = app.token("alice").await;

    break_with(&proxy, fault);
    away(&app.log_in("alice", PASSWORD).await);
    away(&app.log_in("nobody", PASSWORD).await);
    assert_eq!(unavailable_logins(&app).await, [2, 0]);
    assert_eq!(failing(&app).await, json!(["database"]));
    assert_eq!(
        app.check(&token).await.status,
        200,
        "a check needs no database"
    );
    assert_eq!(app.log_out(&token).await.status, 204);

    proxy.heal();
    assert_eq!(failing(&app).await, json!([]));
    app.token("alice").await;
}

#[tokio::test]
async fn the_database_is_read_only() {
    let app = TestApp::start(Backend::External).await;
    app.user("alice").await;
    let token = app.token("alice").await;

    let url = url::Url::parse(app.database.url.expose_secret()).unwrap();
    let name = url.path().trim_start_matches('/').to_owned();
    let set = async |value: &str| {
        let mut server = server().await;
        let sql = format!("ALTER DATABASE {name} SET default_transaction_read_only = {value}");
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut server)
            .await
            .unwrap();
        // Settings of a database are taken by new connections.
        let sql = format!(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        );
        sqlx::raw_sql(AssertSqlSafe(sql))
            .execute(&mut server)
            .await
            .unwrap();
    };
    set("on").await;
    away(&app.log_in("alice", PASSWORD).await);
    assert_eq!(failing(&app).await, json!(["database"]));
    // Once that was noticed, no password is looked at.
    let hashed = app.metric("claviger_hash_duration_seconds_count").await;
    away(&app.log_in("alice", "a wrong password").await);
    away(&app.log_in("nobody", PASSWORD).await);
    assert_eq!(
        app.metric("claviger_hash_duration_seconds_count").await,
        hashed
    );
    assert_eq!(app.check(&token).await.status, 200);

    set("off").await;
    assert_eq!(failing(&app).await, json!([]));
    app.token("alice").await;
}

#[rstest]
#[tokio::test]
async fn the_schema_is_behind(#[values(Backend::Embedded, Backend::External)] backend: Backend) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let schema = claviger::store::schema::Schema::new(app.database.connect().await);
    let token = app.token("alice").await;

    schema
        .down(async || Ok::<(), std::io::Error>(()))
        .await
        .unwrap();
    assert_eq!(failing(&app).await, json!(["schema"]));
    away(&app.log_in("alice", PASSWORD).await);
    away(&app.log_in("nobody", PASSWORD).await);
    if backend == Backend::External {
        assert_eq!(
            app.check(&token).await.status,
            200,
            "a check needs no database"
        );
    }

    schema.up().await.unwrap();
    assert_eq!(failing(&app).await, json!([]));
    app.user("bob").await;
    app.token("bob").await;
}

#[rstest]
#[tokio::test]
async fn tokens_end_with_the_schema_that_they_belong_to(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
    #[values(Target::Zero, Target::Version(1))] target: Target,
) {
    let app = TestApp::start(backend).await;
    let first = app.user("alice").await;
    let token = app.token("alice").await;
    app.ops("/readyz").await;
    assert_eq!(app.check(&token).await.status, 200);

    // From another process, which doesn't reach the tokens. Between two looks, so that "behind" is never seen.
    let schema = claviger::store::schema::Schema::new(app.database.connect().await);
    schema
        .to(target, async || Ok::<(), std::io::Error>(()))
        .await
        .unwrap();
    schema.up().await.unwrap();
    let again = app.user("mallory").await;
    assert_eq!(first, again, "ids start again");

    // At the latest the next look ends them.
    assert_eq!(app.ops("/readyz").await.status, 200);
    app.check(&token).await.problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn a_schema_that_is_ahead_works(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let sql =
        "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m29990101_000001_later', 0)";
    sea_orm::ConnectionTrait::execute_unprepared(&app.database.connect().await, sql)
        .await
        .unwrap();
    assert_eq!(failing(&app).await, json!([]));
    app.token("alice").await;
    assert_eq!(
        app.metric(r#"claviger_dependency_up{dependency="schema"}"#)
            .await,
        1
    );
}
