//! What a process that ended between two steps left behind in Redis.

use redis::AsyncCommands;
use rstest::rstest;

use claviger::store::tokens::SessionId;

use super::{Kept, end_session, end_sessions, ids};
use crate::common::{Backend, PASSWORD, RedisServer, TestApp};

/// Marks a session as ending, as the first step of its end does.
async fn mark(kept: &mut Kept, user_id: i64, token: &str) {
    let record = kept.record(user_id, token).await.unwrap();
    let marked = record.replacen('1', "x", 1);
    kept.set_record(user_id, token, &marked).await;
}

#[tokio::test]
async fn an_end_that_was_begun_is_finished_by_the_next_login() {
    let app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    mark(&mut kept, id, &token).await;
    // It is alive, and its user can end it once more.
    let sessions = app.sessions(&other).await;
    let mut listed = ids(&sessions);
    let mut alive = [&token, &other].map(|token| SessionId::of(id, token).to_string());
    listed.sort_unstable();
    alive.sort();
    assert_eq!(listed, alive);

    app.token("alice").await;
    assert!(!kept.is_there(&token).await);
    assert_eq!(kept.record(id, &token).await, None);
    app.check(&token).await.problem(401, "invalid-token");
    assert_eq!(app.check(&other).await.status, 200);
}

#[rstest]
#[tokio::test]
async fn an_end_that_was_begun_is_finished_by_whoever_ends_it_again(
    #[values("one", "all", "others", "password")] way: &str,
) {
    let app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    mark(&mut kept, id, &token).await;
    let answer = match way {
        "one" => end_session(&app, &other, &SessionId::of(id, &token).to_string()).await,
        "all" => end_sessions(&app, &other, "").await,
        "others" => end_sessions(&app, &other, "?keep=current").await,
        _ => {
            app.change_password(&other, PASSWORD, "another long password")
                .await
        }
    };
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(!kept.is_there(&token).await);
    assert_eq!(kept.record(id, &token).await, None);
    app.check(&token).await.problem(401, "invalid-token");
}

/// The key went first, and the process ended before it had forgotten the session.
#[tokio::test]
async fn a_session_whose_key_is_gone_is_none() {
    let app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    let key = kept.key(&token);
    kept.redis.del::<_, ()>(key).await.unwrap();

    let sessions = app.sessions(&other).await;
    assert_eq!(ids(&sessions), [SessionId::of(id, &other).to_string()]);
    let gone = SessionId::of(id, &token).to_string();
    end_session(&app, &other, &gone)
        .await
        .problem(404, "not-found");
    // Having been asked to end it, the service forgets it.
    assert_eq!(kept.record(id, &token).await, None);
}

/// A login that wrote the key, and could neither give it its whole life nor take it back: the key ends soon, and until then it is
/// among those that are ended.
#[tokio::test]
async fn a_key_that_was_never_confirmed_ends_soon_and_is_in_the_index() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        // They need the same rights.
        config.limits.enabled = false;
    })
    .await;
    let id = app.user("alice").await;
    let asker = app.token("alice").await;
    let mut kept = Kept::by(&app).await;
    // So long that no step before that has to prolong it.
    let hash = kept.hash(id);
    kept.redis.expire::<_, ()>(&hash, 200_000).await.unwrap();
    let fields: usize = kept.redis.hlen(&hash).await.unwrap();
    let rights = async |expire: &str, delete: &str| {
        let command = ["ACL", "SETUSER", "default", expire, delete];
        redis.command(&command).await;
    };
    rights("-pexpire", "-del").await;
    app.log_in("alice", PASSWORD)
        .await
        .problem(503, "dependency-unavailable");

    let tokens: Vec<String> = kept.redis.keys(kept.key("clv_*")).await.unwrap();
    let own = kept.key(&asker);
    let left = tokens.iter().find(|key| **key != own).unwrap();
    assert_eq!(tokens.len(), 2);
    let ttl: i64 = kept.redis.pttl(left).await.unwrap();
    assert!((1..=30_000).contains(&ttl), "{ttl}");
    let indexed: usize = kept.redis.hlen(&hash).await.unwrap();
    assert_eq!(indexed, fields + 1);

    rights("+pexpire", "+del").await;
    let answer = end_sessions(&app, &asker, "?keep=current").await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    assert!(!kept.redis.exists::<_, bool>(left).await.unwrap());
    assert_eq!(app.sessions(&asker).await.len(), 1);
}

#[tokio::test]
async fn records_that_expired_are_swept_by_the_next_login_and_do_not_count() {
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.max_sessions_per_user = 2;
    })
    .await;
    let id = app.user("alice").await;
    let (token, other) = (app.token("alice").await, app.token("alice").await);
    let mut kept = Kept::by(&app).await;
    // An hour past its end.
    let record = kept.record(id, &token).await.unwrap();
    let mut lines: Vec<String> = record.split('\n').map(str::to_owned).collect();
    lines[3] = (chrono::Utc::now().timestamp_millis() - 3_600_000).to_string();
    kept.set_record(id, &token, &lines.join("\n")).await;
    let key = kept.key(&token);
    kept.redis.del::<_, ()>(key).await.unwrap();

    let third = app.token("alice").await;
    assert_eq!(kept.record(id, &token).await, None);
    for alive in [&other, &third] {
        assert_eq!(app.check(alive).await.status, 200);
    }
}

/// What is no record of this version does no harm.
#[tokio::test]
async fn a_record_that_can_not_be_read_is_left_alone() {
    let app = TestApp::start(Backend::External).await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;
    let mut kept = Kept::by(&app).await;
    let hash = kept.hash(id);
    for (field, value) in [
        ("AAAAAAAAAAAAAAAAAAAAAA", "2\nof a later version"),
        ("z", ""),
    ] {
        kept.redis
            .hset::<_, _, _, ()>(&hash, field, value)
            .await
            .unwrap();
    }
    assert_eq!(app.sessions(&token).await.len(), 1);
    let other = app.token("alice").await;
    assert_eq!(app.sessions(&other).await.len(), 2);
    end_session(&app, &token, &format!("{id}.AAAAAAAAAAAAAAAAAAAAAA"))
        .await
        .problem(404, "not-found");
    assert_eq!(end_sessions(&app, &token, "").await.status, 204);
    for token in [&token, &other] {
        app.check(token).await.problem(401, "invalid-token");
    }
    let left: Option<String> = kept.redis.hget(&hash, "z").await.unwrap();
    assert_eq!(left.as_deref(), Some(""));
}
