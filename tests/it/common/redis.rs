//! Redis: the shared server, or one of the test's own, to be broken.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

/// The server that all tests share.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its servers are"
)]
pub(crate) fn redis_url() -> SecretString {
    std::env::var("TEST_REDIS_URL")
        .expect("TEST_REDIS_URL names a Redis server")
        .into()
}

/// A server of the test's own; it ends when this is dropped.
pub(crate) struct RedisServer {
    pub(crate) url: SecretString,
    child: Child,
    _folder: TempDir,
}

impl RedisServer {
    pub(crate) fn start() -> Self {
        // Somebody may take the port between the look and the start; then the next one is tried.
        (0..5)
            .find_map(|_| Self::try_start())
            .expect("redis-server starts")
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the harness says where its servers are"
    )]
    fn try_start() -> Option<Self> {
        let program = std::env::var("TEST_REDIS_SERVER").expect("TEST_REDIS_SERVER is a program");
        let folder = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let mut child = Command::new(program)
            .args([
                "--bind",
                "127.0.0.1",
                "--port",
                &port.to_string(),
                "--save",
                "",
                "--dir",
            ])
            .arg(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines
            .by_ref()
            .any(|line| line.is_ok_and(|line| line.contains("Ready to accept")));
        // Nobody reads the rest, and a full pipe would stop the server.
        std::thread::spawn(move || lines.for_each(drop));
        if !ready {
            child.wait().unwrap();
            return None;
        }
        let url = format!("redis://127.0.0.1:{port}").into();
        Some(Self {
            url,
            child,
            _folder: folder,
        })
    }

    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url.expose_secret()).unwrap();
        client.get_multiplexed_async_connection().await.unwrap()
    }

    /// Runs a command whose answer doesn't matter.
    pub(crate) async fn command(&self, words: &[&str]) {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command.exec_async(&mut self.connect().await).await.unwrap();
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
