//! What other services may rely on when they read Redis themselves.

use claviger::auth::token::Token;
use claviger::store::StoreError;
use claviger::store::schema::Schema;
use claviger::store::tokens::{Device, Issued, Tokens};
use futures_util::FutureExt;
use futures_util::future::join_all;
use redis::{AsyncCommands, RedisError};
use secrecy::ExposeSecret;

use crate::common::{Backend, RedisServer, TestApp};

async fn app_on(redis: &RedisServer, prefix: &str) -> TestApp {
    TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        config.tokens.key_prefix = prefix.to_owned();
    })
    .await
}

#[tokio::test]
async fn the_key_is_the_token_and_the_value_is_the_user() {
    let redis = RedisServer::start();
    let app = app_on(&redis, "").await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;

    let mut connection = redis.connect().await;
    let value: String = connection.get(&token).await.unwrap();
    assert_eq!(value, id.to_string());
    let ttl: i64 = connection.ttl(&token).await.unwrap();
    assert!((86_300..=86_400).contains(&ttl), "{ttl}");

    app.log_out(&token).await;
    assert!(!connection.exists::<_, bool>(&token).await.unwrap());
}

#[tokio::test]
async fn a_prefix_precedes_the_token() {
    let redis = RedisServer::start();
    let app = app_on(&redis, "auth:*[").await;
    let id = app.user("alice").await;
    let token = app.token("alice").await;
    let mut connection = redis.connect().await;
    assert_eq!(
        connection
            .get::<_, i64>(format!("auth:*[{token}"))
            .await
            .unwrap(),
        id
    );
    assert_eq!(app.check(&token).await.status, 200);
}

#[tokio::test]
async fn nothing_else_is_kept_and_no_key_is_without_an_end() {
    let redis = RedisServer::start();
    let app = app_on(&redis, "").await;
    app.user("alice").await;
    let mut tokens = vec![app.token("alice").await, app.token("alice").await];
    app.ops("/readyz").await;
    let mut connection = redis.connect().await;
    let mut keys: Vec<String> = connection.keys("*").await.unwrap();
    keys.sort();
    for key in &keys {
        let ttl: i64 = connection.ttl(key).await.unwrap();
        // That an account knows an address is kept for a month.
        let most = if key.ends_with(":attempts") {
            30 * 86_400
        } else {
            90_000
        };
        assert!((1..=most).contains(&ttl), "{key}: {ttl}");
    }
    tokens.sort();
    let (private, public): (Vec<_>, Vec<_>) = keys
        .into_iter()
        .partition(|key| key.starts_with("claviger:"));
    assert_eq!(public, tokens);

    let db = app.database.connect().await;
    let installation = Schema::new(db).installation_id().await.unwrap().unwrap();
    // What the throttle counts, that of nobody, which the self-test left, and that of the user who logged in.
    let of_name = format!("claviger:{installation}:{{n:");
    let of_user = format!("claviger:{installation}:{{u:1}}:sessions");
    let of_nobody = format!("claviger:{installation}:{{u:-");
    assert_eq!(private.len(), 3, "{private:?}");
    assert!(private[0].starts_with(&of_name), "{private:?}");
    assert!(private[1].starts_with(&of_nobody), "{private:?}");
    assert_eq!(private[2], of_user);
    for key in private {
        let answer: Result<Option<String>, RedisError> = connection.get(key).await;
        assert_eq!(answer.unwrap_err().code(), Some("WRONGTYPE"));
    }
}

#[tokio::test]
async fn a_key_that_another_program_wrote_is_no_token() {
    let redis = RedisServer::start();
    let app = app_on(&redis, "").await;
    let token = |()| Token::generate().expose().to_owned();
    let mut connection = redis.connect().await;

    // Without an end: this service never writes such.
    let for_ever = token(());
    connection.set::<_, _, ()>(&for_ever, 1).await.unwrap();
    app.check(&for_ever).await.problem(401, "invalid-token");

    let no_number = token(());
    connection
        .set_ex::<_, _, ()>(&no_number, "admin", 60)
        .await
        .unwrap();
    app.check(&no_number).await.problem(500, "internal");

    let no_string = token(());
    connection
        .hset::<_, _, _, ()>(&no_string, "user", 1)
        .await
        .unwrap();
    app.check(&no_string).await.problem(500, "internal");
    assert_eq!(
        app.metric("claviger_token_checks_total{outcome=\"error\"}")
            .await,
        2
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn checks_that_come_together_share_a_write_and_nothing_else() {
    let redis = RedisServer::start();
    let app = app_on(&redis, "").await;
    let tokens = Tokens::open(&app.config.tokens).unwrap();
    let names: Vec<String> = (0..100)
        .map(|_| Token::generate().expose().to_owned())
        .collect();
    let mut connection = redis.connect().await;
    for (id, name) in (0..).zip(&names) {
        connection.set_ex::<_, i64, ()>(name, id, 60).await.unwrap();
    }
    connection.del::<_, ()>(&names[10]).await.unwrap();
    connection.del::<_, ()>(&names[20]).await.unwrap();
    connection
        .hset::<_, _, _, ()>(&names[20], "user", 1)
        .await
        .unwrap();
    // The first check makes the connection.
    tokens.get(&names[0]).await.unwrap();

    let before = reads(&mut connection).await;
    // Begun by a task of the only worker, so that they are all ready before the first runs, and none is answered meanwhile.
    let together = tokio::spawn(async move {
        // A client that leaves takes its own check along, and no other.
        assert!(tokens.get(&names[30]).now_or_never().is_none());
        let checks = names.into_iter().map(|name| {
            let tokens = tokens.clone();
            tokio::spawn(async move { tokens.get(&name).await })
        });
        join_all(checks.collect::<Vec<_>>()).await
    });
    let answers = together.await.unwrap();
    let reads = reads(&mut connection).await - before;
    assert!(reads < 10, "the server read {reads} times for 100 checks");

    for (index, answer) in answers.into_iter().enumerate() {
        match (index, answer.unwrap()) {
            (10, Ok(None)) | (20, Err(StoreError::Corrupt { .. })) => {}
            (index, Ok(Some(holder))) => {
                assert_eq!(usize::try_from(holder.user_id).unwrap(), index);
            }
            (index, answer) => panic!("{index}: {answer:?}"),
        }
    }
}

/// How often the server has read from its clients.
async fn reads(connection: &mut impl AsyncCommands) -> u64 {
    let stats: redis::InfoDict = redis::cmd("INFO")
        .arg("stats")
        .query_async(connection)
        .await
        .unwrap();
    stats.get("total_reads_processed").unwrap()
}

#[tokio::test]
async fn clearing_ends_all_sessions_and_touches_nothing_else() {
    let redis = RedisServer::start();
    let app = app_on(&redis, "a*:").await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let mut connection = redis.connect().await;
    // A token of another installation on the same Redis has the form of ours, and a name of ours may stand before another's.
    let foreign = format!("a*:{}", Token::generate().expose());
    let others = ["clv_of_another_prefix", "ab:clv_x", "a*:other", &foreign];
    for other in others {
        connection.set::<_, _, ()>(other, "kept").await.unwrap();
    }
    let of_others = format!("claviger:{}:{{u:1}}:sessions", "0".repeat(32));
    connection
        .hset::<_, _, _, ()>(&of_others, "g", "kept")
        .await
        .unwrap();

    let db = app.database.connect().await;
    let installation = Schema::new(db).installation_id().await.unwrap().unwrap();
    let tokens = Tokens::open(&app.config.tokens).unwrap();
    tokens.belong_to(&installation);
    // More than a look of SCAN shows, each with a session or two.
    for user_id in 2..1_500 {
        for _ in 0..=user_id % 2 {
            let token = Token::generate();
            let generation = tokens.generation(user_id).await.unwrap();
            let device = Device::default();
            let issued = tokens.issue(token.expose(), user_id, "x", &device, &generation);
            assert_eq!(issued.await.unwrap(), Issued::Done);
        }
    }
    assert_eq!(tokens.clear().await.unwrap(), 1_498 + 749 + 1);

    app.check(&token).await.problem(401, "invalid-token");
    let mut keys: Vec<String> = connection.keys("*").await.unwrap();
    keys.sort();
    // That of the throttle, which has an end.
    keys.retain(|key| !key.ends_with(":attempts"));
    let mut kept = [&others[..], &[&of_others]].concat();
    kept.sort_unstable();
    assert_eq!(keys, kept);
}

#[tokio::test]
async fn a_user_of_redis_needs_few_rights() {
    let redis = RedisServer::start();
    let rule = "on >secret resetkeys ~clv_* ~claviger:* resetchannels -@all +get +mget +set +pttl +pexpire \
                +del +hget +hgetall +hset +hdel +setrange +evalsha +eval +time +scan +ping +info +role";
    let words: Vec<&str> = ["ACL", "SETUSER", "claviger"]
        .into_iter()
        .chain(rule.split(' '))
        .collect();
    redis.command(&words).await;
    let url = redis
        .url
        .expose_secret()
        .replace("redis://", "redis://claviger:secret@");
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = url.into();
        config.tokens.key_prefix = String::new();
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);
    assert_eq!(app.ops("/readyz").await.status, 200);
    assert_eq!(app.metric("claviger_tokens_may_be_evicted").await, 0);
}
