//! What docs/consuming-tokens.md promises to those who read Redis, each as a test.

use claviger::config::TokenKey;
use futures_util::future::join_all;
use redis::aio::MultiplexedConnection;
use redis::{AsyncCommands, RedisError, Script};
use rstest::rstest;
use secrecy::ExposeSecret;
use tokio::sync::watch;

use super::Setup;
use crate::common::{
    Answer, Backend, Deployment, PASSWORD, Program, RedisServer, TestApp, post_login, run,
    with_token,
};

/// A service with registered client, on a Redis of its own.
struct Served {
    deployment: Deployment,
    service: Program,
    redis: MultiplexedConnection,
    _server: RedisServer,
}

impl Served {
    async fn start() -> Self {
        let server = RedisServer::start();
        let mut deployment = Deployment::new(Backend::External).await;
        deployment.set("CLAVIGER_TOKENS__URL", server.url.expose_secret());
        deployment.set("CLAVIGER_TOKENS__KEY_PREFIX", "");
        deployment.set(
            "CLAVIGER_CLIENTS__GATE__SECRET",
            "a secret of twenty and more",
        );
        deployment.user("alice");
        deployment.user("bob");
        Self {
            service: deployment.start(),
            redis: server.connect().await,
            deployment,
            _server: server,
        }
    }

    async fn log_in(&self, name: &str) -> String {
        self.service.send(&post_login(name)).await.token()
    }

    /// A request of the holder of a token.
    async fn as_user(&self, method: &str, path: &str, token: &str, body: &str) -> Answer {
        let length = body.len();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: test\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.service.send(&request).await
    }

    async fn get(&mut self, token: &str) -> Option<i64> {
        self.redis.get(token).await.unwrap()
    }

    fn command(&self, arguments: &[&str], input: &str) -> String {
        let run = run(arguments, &self.deployment.variables(), input);
        assert_eq!(run.code, 0, "{run:?}");
        run.out
    }
}

/// How a token ends before its time.
#[derive(Clone, Copy, Debug)]
enum End {
    LogOut,
    EndedByUser,
    AllEndedByUser,
    OwnNewPassword,
    RevokedByClient,
    RevokedByCommand,
    AllRevoked,
    Disabled,
    NewPassword,
    Deleted,
}

#[rstest]
#[tokio::test]
async fn what_has_ended_is_gone_when_that_is_answered(
    #[values(
        End::LogOut,
        End::EndedByUser,
        End::AllEndedByUser,
        End::OwnNewPassword,
        End::RevokedByClient,
        End::RevokedByCommand,
        End::AllRevoked,
        End::Disabled,
        End::NewPassword,
        End::Deleted
    )]
    end: End,
) {
    let mut served = Served::start().await;
    let (token, bobs) = (served.log_in("alice").await, served.log_in("bob").await);
    assert_eq!(served.get(&token).await, Some(1));

    match end {
        End::LogOut => {
            let answer = served.service.send(&with_token("DELETE", &token)).await;
            assert_eq!(answer.status, 204);
        }
        End::EndedByUser => {
            let listed = served
                .as_user("GET", "/v1.0/user/sessions", &token, "")
                .await;
            let id = listed.json()["items"][0]["id"].as_str().unwrap().to_owned();
            let path = format!("/v1.0/user/sessions/{id}");
            let answer = served.as_user("DELETE", &path, &token, "").await;
            assert_eq!(answer.status, 204);
        }
        End::AllEndedByUser => {
            let path = "/v1.0/user/sessions";
            let answer = served.as_user("DELETE", path, &token, "").await;
            assert_eq!(answer.status, 204);
        }
        End::OwnNewPassword => {
            // The session that changes it goes on, and every other ends.
            let own = served.log_in("alice").await;
            let body = serde_json::json!({
                "current_password": PASSWORD,
                "new_password": format!("{PASSWORD}, and another"),
            });
            let path = "/v1.0/user/password";
            let answer = served.as_user("PUT", path, &own, &body.to_string()).await;
            assert_eq!(answer.status, 204);
            assert_eq!(served.get(&own).await, Some(1));
        }
        End::RevokedByClient => {
            // gate and its secret, form-encoded, in base64.
            let basic = "Z2F0ZTphK3NlY3JldCtvZit0d2VudHkrYW5kK21vcmU=";
            let body = format!("token={token}");
            let length = body.len();
            let request = format!(
                "POST /v1.0/token/revoke HTTP/1.1\r\nhost: test\r\nauthorization: Basic {basic}\r\n\
                 content-type: application/x-www-form-urlencoded\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            assert_eq!(served.service.send(&request).await.status, 200);
        }
        End::RevokedByCommand => {
            let listed = served.command(&["session", "list", "alice", "--json"], "");
            let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
            let id = listed[0]["id"].as_str().unwrap();
            served.command(&["session", "revoke", id], "");
        }
        End::AllRevoked => {
            served.command(&["session", "revoke-all", "alice"], "");
        }
        End::Disabled => {
            served.command(&["user", "disable", "alice"], "");
        }
        End::NewPassword => {
            let arguments = ["user", "passwd", "alice", "--password-stdin"];
            served.command(&arguments, &format!("{PASSWORD}, and another"));
        }
        End::Deleted => {
            served.command(&["user", "delete", "alice"], "");
        }
    }

    assert_eq!(served.get(&token).await, None);
    assert_eq!(served.get(&bobs).await, Some(2), "nobody else's ends");
}

#[tokio::test]
async fn there_is_no_moment_without_an_end() {
    let setup = Setup::start("", TokenKey::Plain).await;
    setup.app.user("alice").await;
    // In one step, so that no key comes or goes between the two questions.
    let endless = Script::new(
        "local found = {} for _, key in ipairs(redis.call('KEYS', '*')) do \
         if redis.call('PTTL', key) == -1 then found[#found + 1] = key end end return found",
    );
    let (stop, stopped) = watch::channel(false);
    let mut connection = setup.redis.connect().await;
    let looks = tokio::spawn(async move {
        let mut looks = 0;
        while !*stopped.borrow() {
            let found: Vec<String> = endless.invoke_async(&mut connection).await.unwrap();
            assert!(found.is_empty(), "{found:?}");
            looks += 1;
        }
        looks
    });
    for _ in 0..30 {
        let token = setup.app.token("alice").await;
        assert_eq!(setup.app.check(&token).await.status, 200);
        assert_eq!(setup.app.log_out(&token).await.status, 204);
        setup.app.token("alice").await;
    }
    stop.send(true).unwrap();
    let looks = looks.await.unwrap();
    assert!(looks > 30, "only {looks} looks");
}

#[rstest]
#[tokio::test]
async fn private_keys_are_never_strings_and_no_key_is_a_token_but_tokens(
    #[values(TokenKey::Plain, TokenKey::Sha256)] key: TokenKey,
    #[values(true, false)] idle: bool,
) {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        config.tokens.key_prefix = String::new();
        config.tokens.key = key;
        config.tokens.idle_ttl = idle.then(|| std::time::Duration::from_hours(1));
    })
    .await;
    app.user("alice").await;
    let tokens = [app.token("alice").await, app.token("alice").await];
    assert_eq!(app.check(&tokens[0]).await.status, 200);
    app.log_out(&tokens[1]).await;

    let mut connection = redis.connect().await;
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    let (private, public): (Vec<_>, Vec<_>) =
        keys.iter().partition(|key| key.starts_with("claviger:"));
    assert_eq!(public.len(), 1, "{keys:?}");
    assert_eq!(public[0] == &tokens[0], key == TokenKey::Plain);
    assert!(!private.is_empty());
    for name in private {
        // 128 bits that nobody can guess.
        let installation = name.split(':').nth(1).unwrap();
        assert_eq!(installation.len(), 32, "{name}");
        let answer: Result<Option<String>, RedisError> = connection.get(name).await;
        assert_eq!(answer.unwrap_err().code(), Some("WRONGTYPE"), "{name}");
    }
}

#[tokio::test]
async fn no_token_of_before_survives_that_all_are_ended_whatever_logs_in_beside_it() {
    let setup = Setup::start("", TokenKey::Plain).await;
    let id = setup.app.user("alice").await;
    let authenticator = setup.app.state.authenticator();
    let mut connection = setup.redis.connect().await;
    for _ in 0..30 {
        let before = [
            setup.app.token("alice").await,
            setup.app.token("alice").await,
        ];
        let logins = join_all((0..4).map(|_| setup.app.log_in("alice", PASSWORD)));
        let (ended, beside) = tokio::join!(authenticator.end_sessions(id, None), logins);
        assert!(ended.unwrap() >= 2);
        for token in &before {
            assert_eq!(connection.get::<_, Option<i64>>(token).await.unwrap(), None);
        }
        // Who logged in beside it has a token, and it lives or was ended with the others: what counts is what Redis says.
        for login in beside {
            let token = login.token();
            let there = connection.get::<_, Option<i64>>(&token).await.unwrap();
            let checked = setup.app.check(&token).await.status;
            assert_eq!(checked == 200, there == Some(id));
        }
    }
    authenticator.end_sessions(id, None).await.unwrap();
    let left: Vec<String> = connection.keys("clv_*").await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_hashed_key_is_the_hash_in_lower_case_and_the_token_is_nowhere() {
    let setup = Setup::start("auth:", TokenKey::Sha256).await;
    let id = setup.app.user("alice").await;
    let token = setup.app.token("alice").await;
    let hash = sha256_in_hexadecimal(&token);
    let mut connection = setup.redis.connect().await;
    let value: i64 = connection.get(format!("auth:{hash}")).await.unwrap();
    assert_eq!(value, id);
    let keys: Vec<String> = connection.keys("*").await.unwrap();
    assert!(!keys.iter().any(|key| key.contains(&token)), "{keys:?}");
    let mut fields = 0;
    for key in keys.iter().filter(|key| key.ends_with(":sessions")) {
        let known: Vec<(String, String)> = connection.hgetall(key).await.unwrap();
        for (name, value) in &known {
            assert!(
                !name.contains(&token) && !value.contains(&token),
                "{known:?}"
            );
            fields += usize::from(value.contains(&hash));
        }
    }
    assert_eq!(fields, 1, "the record is where it was looked for: {keys:?}");
}

fn sha256_in_hexadecimal(token: &str) -> String {
    use sha2::{Digest, Sha256};
    let hash = Sha256::digest(token);
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits
        .map(|digit| char::from_digit(digit.into(), 16).unwrap())
        .collect()
}

#[rstest]
#[case::prefix("other:", TokenKey::Plain)]
#[case::key("", TokenKey::Sha256)]
#[tokio::test]
async fn another_prefix_or_kind_of_key_ends_all_sessions(
    #[case] key_prefix: &str,
    #[case] key: TokenKey,
) {
    let redis = RedisServer::start();
    let before = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        config.tokens.key_prefix = String::new();
    })
    .await;
    before.user("alice").await;
    let token = before.token("alice").await;
    let after = TestApp::start_with(Backend::External, |config| {
        config.database = before.config.database.clone();
        config.tokens.url = redis.url.clone();
        config.tokens.key_prefix = key_prefix.to_owned();
        config.tokens.key = key;
    })
    .await;
    after.check(&token).await.problem(401, "invalid-token");
    let newer = after.token("alice").await;
    let sessions = after.sessions(&newer).await;
    assert_eq!(sessions.len(), 1, "{sessions:?}");

    // Not even putting it back revives what was ended meanwhile.
    let all = "/v1.0/user/sessions";
    assert_eq!(after.call_with("DELETE", all, &newer).await.status, 204);
    before.check(&token).await.problem(401, "invalid-token");
}

#[rstest]
#[tokio::test]
async fn a_direct_reader_does_not_keep_an_idle_session_alive() {
    let redis = RedisServer::start();
    let app = TestApp::start_with(Backend::External, |config| {
        config.tokens.url = redis.url.clone();
        config.tokens.key_prefix = String::new();
        config.tokens.idle_ttl = Some(std::time::Duration::from_mins(10));
    })
    .await;
    app.user("alice").await;
    let token = app.token("alice").await;
    let mut connection = redis.connect().await;
    // The smaller of what is left of both.
    let most = 600_000;
    let whole: i64 = connection.pttl(&token).await.unwrap();
    assert!((most / 2 + 1..=most).contains(&whole), "{whole}");
    connection.pexpire::<_, ()>(&token, most / 2).await.unwrap();
    connection.get::<_, i64>(&token).await.unwrap();
    let read: i64 = connection.pttl(&token).await.unwrap();
    assert!((1..=most / 2).contains(&read), "{read}");
    assert_eq!(app.check(&token).await.status, 200);
    let checked: i64 = connection.pttl(&token).await.unwrap();
    assert!((most / 2 + 1..=most).contains(&checked), "{checked}");
}

/// The names in the guide, of which each has to be that of a test.
#[test]
fn each_test_that_the_guide_names_is_there() {
    let guide = include_str!("../../../docs/consuming-tokens.md");
    let (_, promises) = guide.split_once("## What is promised").unwrap();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it");
    let mut names = 0;
    for name in promises.split('`').filter(|word| word.contains("::")) {
        let (module, test) = name.rsplit_once("::").unwrap();
        let file = format!("{folder}/{}.rs", module.replace("::", "/"));
        let source = std::fs::read_to_string(&file).unwrap_or_else(|_| panic!("{name}: no {file}"));
        assert!(source.contains(&format!("fn {test}(")), "{name}");
        names += 1;
    }
    assert!(names > 10, "{names}");
}
