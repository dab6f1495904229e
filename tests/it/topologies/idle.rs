//! `tokens.idle_ttl`: a check prolongs the life of a token, up to its absolute end.

use std::time::Duration;

use rstest::rstest;
use secrecy::SecretString;

use super::{a_session_comes_and_goes, app_with};
use crate::common::{RedisCluster, RedisServer, TestApp};

/// The longest that a token may go unchecked.
const IDLE: i64 = 60_000;

/// The whole life of a token.
const WHOLE: i64 = 3_600_000;

/// For what happens between two looks.
const SLACK: i64 = 5_000;

async fn app_on(url: &SecretString) -> TestApp {
    let app = app_with(url, |tokens| {
        tokens.ttl = Duration::from_hours(1);
        tokens.idle_ttl = Some(Duration::from_mins(1));
        tokens.key_prefix = String::new();
        tokens.timeout = Duration::from_secs(20);
    })
    .await;
    app.user("alice").await;
    app
}

/// A token, and the names of its two keys.
async fn token(redis: &RedisServer, app: &TestApp) -> (String, String) {
    let token = app.token("alice").await;
    let pattern = format!("claviger:*:{{{token}}}:idle");
    let mut companions: Vec<String> = redis.ask(&["KEYS", &pattern]).await;
    assert_eq!(companions.len(), 1);
    (token, companions.remove(0))
}

async fn life(redis: &RedisServer, key: &str) -> i64 {
    redis.ask(&["PTTL", key]).await
}

/// As if the token had been checked last when it had `life` more to live than now.
async fn lives(redis: &RedisServer, key: &str, life: i64) {
    let set: u64 = redis.ask(&["PEXPIRE", key, &life.to_string()]).await;
    assert_eq!(set, 1);
}

/// As if the token were issued at another time: it ends in `life` in any case.
async fn ends_in(redis: &RedisServer, companion: &str, life: i64) {
    let time: (i64, i64) = redis.ask(&["TIME"]).await;
    let end = (time.0 * 1_000 + time.1 / 1_000 + life).to_string();
    redis.command(&["HSET", companion, "end", &end]).await;
}

#[track_caller]
fn assert_near(life: i64, expected: i64) {
    assert!(
        (expected - SLACK..=expected).contains(&life),
        "{life} is not {expected}"
    );
}

#[tokio::test]
async fn a_token_lives_as_long_as_it_may_go_unchecked() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, companion) = token(&redis, &app).await;
    assert_near(life(&redis, &token).await, IDLE);
    assert_near(life(&redis, &companion).await, WHOLE);
    let end: i64 = redis.ask(&["HGET", &companion, "end"]).await;
    let time: (i64, i64) = redis.ask(&["TIME"]).await;
    assert_near(end - time.0 * 1_000 - time.1 / 1_000, WHOLE);
    let expires_in = app.check(&token).await.json()["expires_in"].as_i64();
    assert_near(expires_in.unwrap() * 1_000, IDLE);
    a_session_comes_and_goes(&app, "alice").await;
}

#[tokio::test]
async fn a_check_prolongs_it_once_a_tenth_of_that_has_passed() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, _) = token(&redis, &app).await;
    for (before, after) in [
        (30_000, IDLE),
        (IDLE - 6_100, IDLE),
        (IDLE - SLACK, IDLE - SLACK),
    ] {
        lives(&redis, &token, before).await;
        let answer = app.check(&token).await;
        assert_eq!(answer.status, 200);
        let expires_in = answer.json()["expires_in"].as_i64().unwrap();
        assert_near(expires_in * 1_000, after);
        assert_near(life(&redis, &token).await, after);
    }
}

#[tokio::test]
async fn nobody_checks_it() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, _) = token(&redis, &app).await;
    lives(&redis, &token, 1).await;
    while redis.ask::<u64>(&["EXISTS", &token]).await > 0 {}
    app.check(&token).await.problem(401, "invalid-token");
    app.log_out(&token).await.problem(401, "invalid-token");
}

#[tokio::test]
async fn constant_use_does_not_put_off_the_end() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, companion) = token(&redis, &app).await;

    ends_in(&redis, &companion, 40_000).await;
    lives(&redis, &token, 10_000).await;
    assert_eq!(app.check(&token).await.status, 200);
    assert_near(life(&redis, &token).await, 40_000);

    // The last stretch belongs to it in whole, also if the last renewal promised a little less.
    ends_in(&redis, &companion, IDLE - 6_500).await;
    lives(&redis, &token, IDLE - 8_000).await;
    assert_eq!(app.check(&token).await.status, 200);
    let left = life(&redis, &token).await;
    assert!(left > IDLE - 8_000, "{left}");
    assert_near(left, IDLE - 6_500);

    ends_in(&redis, &companion, -1).await;
    app.check(&token).await.problem(401, "invalid-token");
    let left: u64 = redis.ask(&["EXISTS", &token, &companion]).await;
    assert_eq!(left, 0);
}

#[tokio::test]
async fn a_token_of_before_there_was_an_idle_limit_lives_as_it_was_said() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, companion) = token(&redis, &app).await;
    redis.command(&["DEL", &companion]).await;
    for left in [WHOLE, 10_000] {
        lives(&redis, &token, left).await;
        assert_eq!(app.check(&token).await.status, 200);
        assert_near(life(&redis, &token).await, left);
    }
    assert_eq!(app.log_out(&token).await.status, 204);
}

#[tokio::test]
async fn a_server_that_forgot_the_script_learns_it_again() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, _) = token(&redis, &app).await;
    assert_eq!(app.check(&token).await.status, 200);
    redis.command(&["SCRIPT", "FLUSH"]).await;
    let checks = (0..50).map(|_| app.check(&token));
    for answer in futures_util::future::join_all(checks).await {
        assert_eq!(answer.status, 200);
    }
}

/// To prolong a life needs no memory.
#[tokio::test]
async fn the_memory_is_full() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let (token, _) = token(&redis, &app).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]).await;
    lives(&redis, &token, 30_000).await;
    assert_eq!(app.check(&token).await.status, 200);
    assert_near(life(&redis, &token).await, IDLE);
}

#[tokio::test]
async fn a_key_that_another_program_wrote_is_no_token() {
    let redis = RedisServer::start();
    let app = app_on(&redis.url).await;
    let name = || claviger::auth::token::Token::generate().expose().to_owned();
    let (for_ever, no_number, no_string) = (name(), name(), name());
    redis.command(&["SET", &for_ever, "1"]).await;
    redis
        .command(&["SET", &no_number, "admin", "EX", "60"])
        .await;
    redis.command(&["HSET", &no_string, "user", "1"]).await;
    app.check(&for_ever).await.problem(401, "invalid-token");
    app.check(&no_number).await.problem(500, "internal");
    app.check(&no_string).await.problem(500, "internal");
}

#[rstest]
#[tokio::test]
async fn in_a_cluster_too() {
    let cluster = RedisCluster::start().await;
    let app = app_on(&cluster.url()).await;
    let mut seen = [false; 3];
    while seen.contains(&false) {
        let token = app.token("alice").await;
        let master = cluster.of(&token).await;
        let redis = &cluster.masters[master];
        lives(redis, &token, 30_000).await;
        assert_eq!(app.check(&token).await.status, 200);
        assert_near(life(redis, &token).await, IDLE);
        seen[master] = true;
    }
    a_session_comes_and_goes(&app, "alice").await;
}
