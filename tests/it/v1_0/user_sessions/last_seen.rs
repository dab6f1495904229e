//! When a session was last seen: to the minute, and written once a minute.

use claviger::store::tokens::SessionId;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, InfoDict};

use super::Kept;
use crate::common::{Backend, RedisServer, TestApp};

/// How often is looked for a time that moves. Each look is a question to Redis; the service writes after a second.
const MOST_LOOKS: u32 = 200_000;

/// What was last written as the time of a session, in seconds since 1970.
async fn last_seen(kept: &mut Kept, user_id: i64, token: &str) -> i64 {
    let record = kept.record(user_id, token).await.unwrap();
    record.lines().nth(1).unwrap().parse().unwrap()
}

/// Puts the time of a session to an older minute.
async fn set_back(kept: &mut Kept, user_id: i64, token: &str) {
    let record = kept.record(user_id, token).await.unwrap();
    let mut lines: Vec<&str> = record.split('\n').collect();
    lines[1] = "1700000040";
    kept.set_record(user_id, token, &lines.join("\n")).await;
}

/// Looks until the time of a session is another one than it was put to, and tells it.
async fn moved(kept: &mut Kept, user_id: i64, token: &str) -> i64 {
    for _ in 0..MOST_LOOKS {
        let last_seen = last_seen(kept, user_id, token).await;
        if last_seen != 1_700_000_040 {
            return last_seen;
        }
    }
    panic!("the time of a session that was checked does not move");
}

async fn hash_writes(redis: &mut MultiplexedConnection) -> u64 {
    let mut command = redis::cmd("INFO");
    command.arg("commandstats");
    let stats: InfoDict = command.query_async(redis).await.unwrap();
    let told: String = stats.get("cmdstat_hset").unwrap();
    let calls = told.strip_prefix("calls=").unwrap().split(',').next();
    calls.unwrap().parse().unwrap()
}

async fn minute(redis: &mut MultiplexedConnection) -> i64 {
    let (seconds, _): (i64, i64) = redis::cmd("TIME").query_async(redis).await.unwrap();
    seconds / 60
}

#[tokio::test]
async fn a_check_moves_it_to_this_minute_and_once_a_minute_only() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
    })
    .await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    set_back(&mut kept, id, &token).await;
    set_back(&mut kept, id, &other).await;
    let before = minute(&mut kept.redis).await;
    let writes = hash_writes(&mut kept.redis).await;

    for _ in 0..100 {
        assert_eq!(app.check(&token).await.status, 200);
    }
    let seen = moved(&mut kept, id, &token).await;
    for _ in 0..100 {
        assert_eq!(app.check(&token).await.status, 200);
    }
    // What is written for a session that is checked later is written with all that is due by then.
    assert_eq!(app.check(&other).await.status, 200);
    moved(&mut kept, id, &other).await;

    let after = minute(&mut kept.redis).await;
    assert!(
        (before * 60..=after * 60).contains(&seen) && seen % 60 == 0,
        "{seen}"
    );
    // Two, unless a minute has ended in between.
    let most = 2 + 2 * u64::try_from(after - before).unwrap();
    let writes = hash_writes(&mut kept.redis).await - writes;
    assert!((2..=most).contains(&writes), "{writes} of at most {most}");

    let sessions = app.sessions(&other).await;
    for session in &sessions {
        let time: chrono::DateTime<chrono::Utc> =
            session["last_seen_at"].as_str().unwrap().parse().unwrap();
        assert!(
            (before..=after + 1).contains(&(time.timestamp() / 60)),
            "{session}"
        );
    }
}

/// Every check counts, not just that of the route.
#[tokio::test]
async fn whatever_asks_for_the_holder_of_a_token_counts() {
    let app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let mut kept = Kept::by(&app).await;
    for (method, path) in [
        ("GET", "/v1.0/forward-auth"),
        ("GET", "/v1.0/user"),
        ("GET", "/v1.0/user/sessions"),
    ] {
        let token = app.token("alice").await;
        set_back(&mut kept, id, &token).await;
        let answer = app.call_with(method, path, &token).await;
        assert_eq!(answer.status, 200, "{path}");
        moved(&mut kept, id, &token).await;
    }
}

/// A session that ends while its time waits to be written does not come back by that.
#[tokio::test]
async fn a_session_that_ended_is_not_written_anew() {
    let app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    set_back(&mut kept, id, &other).await;
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.check(&other).await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);
    moved(&mut kept, id, &other).await;
    let session = SessionId::of(id, &token);
    let exists: bool = kept
        .redis
        .hexists(kept.hash(id), session.name())
        .await
        .unwrap();
    assert!(!exists);
}
