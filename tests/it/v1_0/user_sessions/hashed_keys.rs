//! `tokens.key = "sha256"`: nothing that Redis is told or keeps can be used as a token.

use std::fmt::Write as _;

use claviger::config::{Database, TokenKey};
use claviger::store::tokens::SessionId;
use futures_util::StreamExt;
use redis::AsyncCommands;
use secrecy::ExposeSecret;

use super::{end_session, end_sessions, ids, sha256};
use crate::common::{Backend, PASSWORD, RedisServer, TestApp};

#[tokio::test]
async fn no_token_reaches_redis_and_everything_works() {
    let redis = RedisServer::start();
    redis
        .command(&["CONFIG", "SET", "slowlog-log-slower-than", "0"])
        .await;
    redis
        .command(&["CONFIG", "SET", "slowlog-max-len", "10000"])
        .await;
    let client = redis::Client::open(redis.url.expose_secret()).unwrap();
    let monitor = client.get_async_monitor().await.unwrap();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        config.tokens.key = TokenKey::Sha256;
        config.tokens.key_prefix = "auth:".to_owned();
    })
    .await;
    let id = app.user("alice").await;
    let mut redis = redis.connect().await;

    let mut tokens = Vec::new();
    for _ in 0..6 {
        tokens.push(app.token("alice").await);
    }
    for token in &tokens {
        let key = format!("auth:{}", sha256(token));
        assert_eq!(redis.get::<_, String>(&key).await.unwrap(), id.to_string());
        let ttl: i64 = redis.ttl(&key).await.unwrap();
        assert!((86_300..=86_400).contains(&ttl), "{ttl}");
        assert_eq!(app.check(token).await.status, 200);
    }
    // The hash of a token is no token.
    app.check(&sha256(&tokens[0]))
        .await
        .problem(401, "invalid-token");
    let sessions = app.sessions(&tokens[0]).await;
    assert_eq!(sessions.len(), 6);
    let second = SessionId::of(id, &tokens[1]).to_string();
    assert!(ids(&sessions).contains(&second.as_str()));

    // Every way in which a session ends.
    assert_eq!(app.log_out(&tokens[5]).await.status, 204);
    assert_eq!(end_session(&app, &tokens[0], &second).await.status, 204);
    let answer = app
        .change_password(&tokens[2], PASSWORD, "another long password")
        .await;
    assert_eq!(answer.status, 204, "{}", answer.text());
    tokens.push(app.log_in("alice", "another long password").await.token());
    let answer = end_sessions(&app, &tokens[2], "?keep=current").await;
    assert_eq!(answer.status, 204);
    assert_eq!(app.sessions(&tokens[2]).await.len(), 1);

    let all = everything(&mut redis).await;
    assert!(all.contains(&sha256(&tokens[2])), "{all}");
    for (at, token) in tokens.iter().enumerate() {
        let key = format!("auth:{}", sha256(token));
        let alive: bool = redis.exists(&key).await.unwrap();
        assert_eq!(alive, at == 2, "{at}");
    }
    let slow: redis::Value = redis::cmd("SLOWLOG")
        .arg("GET")
        .arg(-1)
        .query_async(&mut redis)
        .await
        .unwrap();
    let slow = format!("{slow:?}");
    redis::cmd("ECHO")
        .arg("the end of the test")
        .exec_async(&mut redis)
        .await
        .unwrap();
    let mut said = monitor.into_on_message::<String>();
    let mut commands = Vec::new();
    while let Some(command) = said.next().await {
        if command.contains("the end of the test") {
            break;
        }
        commands.push(command);
    }
    let commands = commands.join("\n");
    assert!(commands.contains(&sha256(&tokens[5])), "{commands}");
    assert!(slow.contains(&sha256(&tokens[5])), "{slow}");
    for token in &tokens {
        // Nor the part that is secret.
        let secret = &token[4..47];
        for (what, text) in [("kept", &all), ("told", &commands), ("slow log", &slow)] {
            assert!(!text.contains(secret), "{what}: {text}");
        }
    }
    assert!(!commands.contains("clv_"), "{commands}");
}

/// All keys and values, as text.
async fn everything(redis: &mut redis::aio::MultiplexedConnection) -> String {
    let mut all = String::new();
    let keys: Vec<String> = redis.keys("*").await.unwrap();
    for key in keys {
        let kind: String = redis::cmd("TYPE")
            .arg(&key)
            .query_async(redis)
            .await
            .unwrap();
        let value = if kind == "hash" {
            let fields: Vec<(String, String)> = redis.hgetall(&key).await.unwrap();
            format!("{fields:?}")
        } else {
            redis.get(&key).await.unwrap()
        };
        writeln!(all, "{key}: {value}").unwrap();
    }
    all
}

#[tokio::test]
async fn another_form_of_key_ends_all_sessions() {
    let redis = RedisServer::start();
    let start = async |database: Option<Database>, key| {
        TestApp::start_with(Backend::External, |config| {
            config.database = database.unwrap_or_else(|| config.database.clone());
            config.tokens.url = redis.url.clone();
            config.tokens.key_prefix = String::new();
            config.tokens.key = key;
            config.tokens.max_sessions_per_user = 2;
        })
        .await
    };
    let plain = start(None, TokenKey::Plain).await;
    let id = plain.user("alice").await;
    let token = plain.token("alice").await;
    let hashed = start(Some(plain.config.database.clone()), TokenKey::Sha256).await;
    hashed.check(&token).await.problem(401, "invalid-token");
    assert_eq!(plain.check(&token).await.status, 200);

    let one = hashed.token("alice").await;
    let listed = hashed.sessions(&one).await;
    let name = SessionId::of(id, &one).to_string();
    assert_eq!(ids(&listed), [name.as_str()]);

    // One more than may be, and the oldest is not of this form, but the one that is in use: of both the first is given up.
    let mut connection = redis.connect().await;
    for (token, age) in [(&token, 200_000), (&one, 300_000)] {
        make_older(&mut connection, &SessionId::of(id, token), age).await;
    }
    let two = hashed.token("alice").await;
    assert_eq!(hashed.check(&one).await.status, 200);
    assert_eq!(hashed.check(&two).await.status, 200);
    let ended: bool = connection.exists(&token).await.unwrap();
    assert!(!ended, "what is refused ends first");
}

/// Has a session begin so many milliseconds earlier.
async fn make_older(redis: &mut redis::aio::MultiplexedConnection, session: &SessionId, age: i64) {
    let pattern = format!("*{{u:{}}}:sessions", session.user_id());
    let hashes: Vec<String> = redis.keys(pattern).await.unwrap();
    let record: String = redis.hget(&hashes[0], session.name()).await.unwrap();
    let mut lines: Vec<String> = record.split('\n').map(str::to_owned).collect();
    let created: i64 = lines[2].parse().unwrap();
    lines[2] = format!("{:013}", created - age);
    let record = lines.join("\n");
    let () = redis
        .hset(&hashes[0], session.name(), record)
        .await
        .unwrap();
}
