//! The examples for services that read Redis themselves, against a real Redis.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use claviger::auth::token::Token;
use claviger::config::TokenKey;
use redis::AsyncCommands;
use redis::aio::ConnectionManager;
use rstest::rstest;
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use crate::common::{Backend, Proxy, RedisServer, TestApp};

mod promises;
#[path = "../../examples/consumers/rust/user_id.rs"]
#[expect(
    unreachable_pub,
    clippy::format_collect,
    reason = "it is written as a part of somebody's program, and short"
)]
mod rust;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/consumers");

/// What may precede a token in its key.
const PREFIX: &str = "clv_of_others:";

#[derive(Clone, Copy, Debug)]
enum Language {
    Python,
    Nodejs,
    Rust,
}

/// An example that runs.
enum Consumer {
    Program(Box<Running>),
    Rust {
        connection: ConnectionManager,
        key_prefix: String,
        sha256: bool,
    },
}

struct Running {
    _child: Child,
    stdin: ChildStdin,
    stdout: Lines<BufReader<ChildStdout>>,
    _folder: TempDir,
}

/// A program or a folder that the harness names.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its servers are"
)]
fn named(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is set"))
        .into()
}

impl Consumer {
    async fn start(language: Language, url: &str, key_prefix: &str, key: TokenKey) -> Self {
        let sha256 = key == TokenKey::Sha256;
        let folder = tempfile::tempdir().unwrap();
        let mut command = match language {
            Language::Rust => {
                return Self::Rust {
                    connection: rust::connect(url).await.unwrap(),
                    key_prefix: key_prefix.to_owned(),
                    sha256,
                };
            }
            Language::Python => {
                let mut command = Command::new(named("TEST_CONSUMER_PYTHON"));
                // Nothing is left beside the example.
                command.args(["-B", &format!("{FOLDER}/python/user_id.py")]);
                command
            }
            Language::Nodejs => {
                // It looks for the client beside itself.
                let example = folder.path().join("user-id.mjs");
                std::fs::copy(Path::new(FOLDER).join("nodejs/user-id.mjs"), &example).unwrap();
                let modules = folder.path().join("node_modules");
                std::os::unix::fs::symlink(named("TEST_NODE_MODULES"), modules).unwrap();
                let mut command = Command::new(named("TEST_NODE"));
                command.arg(example);
                command
            }
        };
        let mut child = command
            .env_clear()
            .env("REDIS_URL", url)
            .env("CLAVIGER_TOKENS__KEY_PREFIX", key_prefix)
            .env(
                "CLAVIGER_TOKENS__KEY",
                if sha256 { "sha256" } else { "plain" },
            )
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // One says there that its connection was closed.
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self::Program(Box::new(Running {
            stdin: child.stdin.take().unwrap(),
            stdout: BufReader::new(child.stdout.take().unwrap()).lines(),
            _child: child,
            _folder: folder,
        }))
    }

    /// What it says of a token: an id, `not logged in`, or `can't tell`.
    async fn ask(&mut self, token: &str) -> String {
        match self {
            Self::Program(running) => {
                let line = format!("{token}\n");
                running.stdin.write_all(line.as_bytes()).await.unwrap();
                let answer = running.stdout.next_line().await.unwrap();
                answer.expect("the example goes on")
            }
            Self::Rust {
                connection,
                key_prefix,
                sha256,
            } => match rust::user_id(connection, token, key_prefix, *sha256).await {
                Ok(Some(id)) => id.to_string(),
                Ok(None) => NOBODY.to_owned(),
                Err(_) => UNKNOWN.to_owned(),
            },
        }
    }

    /// Asks until it says this: it connects anew when it likes.
    async fn wait_for(&mut self, token: &str, answer: &str) {
        for _ in 0..200_000 {
            if self.ask(token).await == answer {
                return;
            }
        }
        panic!("it never says {answer}");
    }
}

const NOBODY: &str = "not logged in";
const UNKNOWN: &str = "can't tell";

/// A service on a Redis of its own, behind a proxy, and a user of that Redis who may do nothing but `GET` tokens.
struct Setup {
    app: TestApp,
    redis: RedisServer,
    proxy: Proxy,
    /// For the consumer.
    url: String,
}

impl Setup {
    async fn start(key_prefix: &str, key: TokenKey) -> Self {
        let redis = RedisServer::start();
        let app = TestApp::start_with(Backend::External, |config| {
            config.tokens.url = redis.url.clone();
            config.tokens.key_prefix = key_prefix.to_owned();
            config.tokens.key = key;
        })
        .await;
        let keys = match (key, key_prefix) {
            (TokenKey::Sha256, "") => "~[0-9a-f]*",
            _ => "~clv_*",
        };
        let rights = [
            "on",
            ">secret",
            "resetkeys",
            keys,
            "resetchannels",
            "-@all",
            "+get",
        ];
        redis
            .command(&[&["ACL", "SETUSER", "consumer"], &rights[..]].concat())
            .await;
        let (proxy, url) = Proxy::before(&redis.url).await;
        let url = url
            .expose_secret()
            .replace("redis://", "redis://consumer:secret@");
        Self {
            app,
            redis,
            proxy,
            url,
        }
    }
}

#[rstest]
#[tokio::test]
async fn a_token_is_resolved_until_it_ends(
    #[values(Language::Python, Language::Nodejs, Language::Rust)] language: Language,
    #[values("", PREFIX)] key_prefix: &str,
    #[values(TokenKey::Plain, TokenKey::Sha256)] key: TokenKey,
) {
    let setup = Setup::start(key_prefix, key).await;
    setup.app.user("first").await;
    let id = setup.app.user("alice").await.to_string();
    let (token, other) = (
        setup.app.token("alice").await,
        setup.app.token("alice").await,
    );
    let mut consumer = Consumer::start(language, &setup.url, key_prefix, key).await;
    for _ in 0..2 {
        assert_eq!(consumer.ask(&token).await, id);
        assert_eq!(consumer.ask(Token::generate().expose()).await, NOBODY);
    }
    // From the moment of the answer.
    assert_eq!(setup.app.log_out(&token).await.status, 204);
    assert_eq!(consumer.ask(&token).await, NOBODY);
    assert_eq!(consumer.ask(&other).await, id);
}

#[rstest]
#[tokio::test]
async fn what_is_no_token_is_not_looked_up(
    #[values(Language::Python, Language::Nodejs, Language::Rust)] language: Language,
) {
    let setup = Setup::start("", TokenKey::Plain).await;
    let mut connection = setup.redis.connect().await;
    let token = Token::generate().expose().to_owned();
    let almost = [
        "clv_1".to_owned(),
        "clv_".to_owned(),
        String::new(),
        format!(" {token}"),
        format!("{token} "),
        format!("{token}x"),
        token[..52].to_owned(),
        token.replacen("clv_", "clv-", 1),
        token.replacen("clv_", "CLV_", 1),
        format!("{}*", &token[..52]),
        format!("clv_{}\u{e9}{}", &token[4..20], &token[22..]),
        format!("clv_{}\u{661}{}", &token[4..20], &token[22..]),
        format!("{}-", &token[..52]),
    ];
    // Somebody has a string under each of these names.
    for name in almost.iter().filter(|name| !name.is_empty()) {
        connection.set_ex::<_, _, ()>(name, 1, 60).await.unwrap();
    }
    connection.set_ex::<_, _, ()>(&token, 7, 60).await.unwrap();
    let mut consumer = Consumer::start(language, &setup.url, "", TokenKey::Plain).await;
    assert_eq!(consumer.ask(&token).await, "7");
    for name in &almost {
        assert_eq!(consumer.ask(name).await, NOBODY, "{name:?}");
    }
    // Redis is not asked, so it need not be there.
    setup.proxy.cut();
    for name in &almost {
        assert_eq!(consumer.ask(name).await, NOBODY, "{name:?}");
    }
    assert_eq!(consumer.ask(&token).await, UNKNOWN);
}

#[rstest]
#[tokio::test]
async fn redis_away_is_not_logged_out(
    #[values(Language::Python, Language::Nodejs, Language::Rust)] language: Language,
    #[values(true, false)] cut: bool,
) {
    let setup = Setup::start("", TokenKey::Plain).await;
    let id = setup.app.user("alice").await.to_string();
    let token = setup.app.token("alice").await;
    let mut consumer = Consumer::start(language, &setup.url, "", TokenKey::Plain).await;
    assert_eq!(consumer.ask(&token).await, id);
    for _ in 0..2 {
        if cut {
            setup.proxy.cut();
        } else {
            setup.proxy.stall();
        }
        for _ in 0..2 {
            assert_eq!(consumer.ask(&token).await, UNKNOWN);
        }
        setup.proxy.heal();
        consumer.wait_for(&token, &id).await;
    }
    // A restart is noticed by nobody, or for a moment.
    setup.proxy.restart();
    consumer.wait_for(&token, &id).await;
}

#[rstest]
#[tokio::test]
async fn what_another_program_wrote_is_nobody(
    #[values(Language::Python, Language::Nodejs, Language::Rust)] language: Language,
) {
    let setup = Setup::start("", TokenKey::Plain).await;
    let mut connection = setup.redis.connect().await;
    let mut consumer = Consumer::start(language, &setup.url, "", TokenKey::Plain).await;
    let (no_number, no_string) = (Token::generate(), Token::generate());
    connection
        .set_ex::<_, _, ()>(no_number.expose(), "admin", 60)
        .await
        .unwrap();
    connection
        .hset::<_, _, _, ()>(no_string.expose(), "user", 1)
        .await
        .unwrap();
    assert_eq!(consumer.ask(no_number.expose()).await, UNKNOWN);
    assert_eq!(consumer.ask(no_string.expose()).await, UNKNOWN);
}
