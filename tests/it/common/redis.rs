//! Redis: the shared server, or one of the test's own, to be broken.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, InfoDict};
use rustix::process::Signal;
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
    pub(crate) port: u16,
    arguments: Vec<String>,
    child: Child,
    _folder: TempDir,
}

/// The last line of the log before it answers.
const READY: &str = "Ready to accept";

impl RedisServer {
    pub(crate) fn start() -> Self {
        Self::with(&[])
    }

    /// A server with these arguments beside the usual ones.
    pub(crate) fn with(arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (port, (arguments, child)) = start_on_free_port(|port| {
            let dir = folder.path().to_str().unwrap();
            let (port, tls) = (port.to_string(), tls_port(port).to_string());
            let usual = [
                "--bind",
                "127.0.0.1",
                "--port",
                &port,
                "--save",
                "",
                "--dir",
                dir,
            ];
            let all = usual.iter().chain(arguments);
            let all: Vec<String> = all.map(|word| word.replace("TLS_PORT", &tls)).collect();
            let child = spawn(&all, READY)?;
            Some((all, child))
        });
        Self {
            url: format!("redis://127.0.0.1:{port}").into(),
            port,
            arguments,
            child,
            _folder: folder,
        }
    }

    /// It dies, at once and without a word.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// The same server once more, on the same port and with what it has kept.
    pub(crate) fn again(&mut self) {
        self.child = spawn(&self.arguments, READY).expect("redis-server starts again");
    }

    /// The same, but it takes long to load what it has kept, and is not waited for.
    pub(crate) fn again_slowly(&mut self) {
        let slow = [
            "--key-load-delay",
            "1000",
            "--loading-process-events-interval-bytes",
            "1024",
        ];
        let all = self.arguments.iter().map(String::as_str).chain(slow);
        let all: Vec<String> = all.map(str::to_owned).collect();
        self.child = spawn(&all, "Loading RDB").expect("redis-server starts again");
    }

    /// It hangs, and goes on.
    pub(crate) fn hold(&self) {
        self.signal(Signal::STOP);
    }

    pub(crate) fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url.expose_secret()).unwrap();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let connection = client.get_multiplexed_async_connection_with_config(&config);
        connection.await.unwrap()
    }

    /// Runs a command whose answer doesn't matter.
    pub(crate) async fn command(&self, words: &[&str]) {
        self.ask::<()>(words).await;
    }

    /// Runs a command and tells the answer.
    pub(crate) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> T {
        let mut command = redis::cmd(words[0]);
        command.arg(&words[1..]);
        command
            .query_async(&mut self.connect().await)
            .await
            .unwrap()
    }

    /// Has another server hold all that this one does, from now on, and waits until it is in step.
    pub(crate) async fn has_replica(&self, replica: &Self) {
        let port = self.port.to_string();
        replica.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        self.wait_for_replica(replica).await;
    }

    /// Waits until a replica has all that there is now.
    pub(crate) async fn wait_for_replica(&self, replica: &Self) {
        let mut both = [self.connect().await, replica.connect().await];
        for _ in 0..MOST_LOOKS {
            let mut infos: Vec<InfoDict> = Vec::new();
            for connection in &mut both {
                let mut info = redis::cmd("INFO");
                let info = info.arg("replication").query_async(connection);
                infos.push(info.await.unwrap());
            }
            let written: u64 = infos[0].get("master_repl_offset").unwrap();
            let link: Option<String> = infos[1].get("master_link_status");
            let read: Option<u64> = infos[1].get("slave_repl_offset");
            if link.as_deref() == Some("up") && read >= Some(written) {
                return;
            }
        }
        panic!("the replica is never in step");
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How often a server is looked at before it is given up: far longer than anything here takes.
pub(super) const MOST_LOOKS: u32 = 1_000_000;

/// Somebody may take the port between the look and the start; then the next one is tried.
pub(super) fn start_on_free_port<T>(start: impl Fn(u16) -> Option<T>) -> (u16, T) {
    (0..5)
        .find_map(|_| {
            let port = free_port();
            start(port).map(|started| (port, started))
        })
        .expect("redis-server starts")
}

/// A second port that is free with the first one, which an argument can name as `TLS_PORT`.
pub(crate) fn tls_port(port: u16) -> u16 {
    port + 20_000
}

/// A port of 127.0.0.1 that is free, and so are the one 10,000 above it, on which a server of a cluster talks to the others,
/// and that of TLS.
fn free_port() -> u16 {
    (0..1_000)
        .find_map(|_| {
            let mut random = [0; 2];
            getrandom::fill(&mut random).unwrap();
            // Mostly below those from which the ports of outgoing connections are taken.
            let port = 4_000 + u16::from_be_bytes(random) % 8_000;
            let free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
            (free(port) && free(port + 10_000) && free(tls_port(port))).then_some(port)
        })
        .expect("a port is free")
}

/// Starts a server and waits for a line of its log with these words; `None` if it ends before.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its servers are"
)]
pub(super) fn spawn(arguments: &[String], words: &str) -> Option<Child> {
    let program = std::env::var("TEST_REDIS_SERVER").expect("TEST_REDIS_SERVER is a program");
    let mut child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines
        .by_ref()
        .any(|line| line.is_ok_and(|line| line.contains(words)));
    // Nobody reads the rest, and a full pipe would stop the server.
    std::thread::spawn(move || lines.for_each(drop));
    if !ready {
        child.wait().unwrap();
        return None;
    }
    Some(child)
}
