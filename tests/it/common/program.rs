//! The built program, as an operator runs it.

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use claviger::store::schema::Schema;
use claviger::store::users::{NewUser, Users};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use super::{Answer, Backend, Connection, PASSWORD, TestDatabase, get, redis_url, unique};

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, with these variables and no others of ours.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Run {
    let mut child = start(arguments, variables);
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Starts a command, for those who don't let it come to its end.
pub(crate) fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Child {
    command(arguments, variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    // Variables of whoever runs the tests must not change what is tested.
    command.env_clear();
    if let Some(file) = certificates() {
        command.env("SSL_CERT_FILE", file);
    }
    command.args(arguments).envs(variables.iter().copied());
    command
}

/// Where the certificates of authorities are, if it is no usual place: in a build by Nix there is no `/etc/ssl`, and a client
/// that finds none at all can't be built.
#[expect(
    clippy::disallowed_methods,
    reason = "the tests are configured by the environment"
)]
fn certificates() -> Option<OsString> {
    std::env::var_os("SSL_CERT_FILE")
}

/// The service as a process. It is ended when this is dropped.
pub(crate) struct Program {
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    /// `http://` and the address of the API.
    pub(crate) api: String,
    /// `http://` and the address of operations.
    pub(crate) ops: String,
}

impl Program {
    /// Starts the service on free ports and waits until it listens.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        Self::start_in(&std::env::temp_dir(), variables)
    }

    fn start_in(folder: &Path, variables: &[(&str, &str)]) -> Self {
        let mut command = command(&["serve"], &[]);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        Self::spawn(command, folder, variables)
    }

    /// Starts the service with these two as its listeners, in the way of systemd: from the descriptor 3 on, for the process
    /// with the number of `LISTEN_PID`.
    fn start_with_listeners(
        listeners: [&TcpListener; 2],
        folder: &Path,
        variables: &[(&str, &str)],
    ) -> Self {
        let mut command = Command::new("/bin/sh");
        let script = "LISTEN_FDS=2 LISTEN_PID=${PID:-$$} exec \"$0\" serve 3<&0 4<&1 0</dev/null 1>/dev/null";
        command
            .env_clear()
            .args(["-c", script, env!("CARGO_BIN_EXE_claviger")]);
        let [api, ops] = listeners.map(|listener| OwnedFd::from(listener.try_clone().unwrap()));
        command.stdin(api).stdout(ops);
        Self::spawn(command, folder, variables)
    }

    fn spawn(mut command: Command, folder: &Path, variables: &[(&str, &str)]) -> Self {
        let defaults = [
            ("CLAVIGER_SERVER__LISTEN", "127.0.0.1:0"),
            ("CLAVIGER_SERVER__OPS_LISTEN", "127.0.0.1:0"),
            ("CLAVIGER_PASSWORD__MEMORY_KIB", "8"),
            ("CLAVIGER_PASSWORD__ITERATIONS", "1"),
        ];
        let mut child = command
            .envs(defaults)
            .envs(variables.iter().copied())
            .current_dir(folder)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = read_lines(child.stderr.take().unwrap());
        let mut program = Self {
            child,
            lines,
            log: Vec::new(),
            api: String::new(),
            ops: String::new(),
        };
        let listening = program.wait_for("listening");
        program.api = format!("http://{}", listening["api"].as_str().unwrap());
        program.ops = format!("http://{}", listening["ops"].as_str().unwrap());
        program
    }

    /// The next log line with this message. Panics if the service ends or falls silent before it.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        self.next(message, |line| line["message"] == message)
    }

    /// The next access event. Panics if the service ends or falls silent before it.
    pub(crate) fn wait_for_access(&mut self) -> Value {
        self.next("an access event", |line| {
            line["target"] == "claviger::access"
        })
    }

    fn next(&mut self, what: &str, is_it: impl Fn(&Value) -> bool) -> Value {
        loop {
            let Ok(line) = self.lines.recv_timeout(LONGEST_SILENCE) else {
                panic!(
                    "the log ends or stops without {what:?}:\n{}",
                    self.log.join("\n")
                );
            };
            let parsed = parse(&line);
            self.log.push(line);
            if is_it(&parsed) {
                return parsed;
            }
        }
    }

    /// Sends a signal: `TERM`, `INT`; `STOP` and `CONT` hold the whole process and let it go on.
    pub(crate) fn signal(&self, name: &str) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = match name {
            "TERM" => rustix::process::Signal::TERM,
            "INT" => rustix::process::Signal::INT,
            "STOP" => rustix::process::Signal::STOP,
            "CONT" => rustix::process::Signal::CONT,
            other => panic!("no signal {other}"),
        };
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// A connection to the API.
    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.api).await
    }

    /// Sends a request to the API on a connection of its own.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let mut connection = self.connect().await;
        connection.send(request).await;
        connection.answer().await
    }

    /// `GET` from the operations listener.
    pub(crate) async fn ops(&self, path: &str) -> Answer {
        let mut connection = Connection::open(&self.ops).await;
        connection.send(&get(path)).await;
        connection.answer().await
    }

    /// The value of a metric, as it stands in a scrape: `name{labels}`.
    pub(crate) async fn metric(&self, series: &str) -> u64 {
        self.ops("/metrics").await.metric(series)
    }

    /// Scrapes until a metric has this value.
    pub(crate) async fn wait_for_metric(&self, series: &str, value: u64) {
        for _ in 0..MOST_LOOKS {
            if self.metric(series).await == value {
                return;
            }
        }
        panic!("{series} does not become {value}");
    }

    /// Asks `/readyz` until it says that the service is ending, and tells that answer.
    pub(crate) async fn wait_for_draining(&self) -> Answer {
        for _ in 0..MOST_LOOKS {
            let answer = self.ops("/readyz").await;
            if answer.text().contains("draining") {
                return answer;
            }
        }
        panic!("the service does not drain");
    }

    /// Waits for the end, and tells how it ended and all that was logged.
    pub(crate) fn end(mut self) -> (ExitStatus, Vec<String>) {
        let status = self.child.wait().unwrap();
        let mut log = std::mem::take(&mut self.log);
        log.extend(self.lines.iter());
        (status, log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A service that logs nothing for so long will not log what is waited for: nothing here takes a tenth of it.
const LONGEST_SILENCE: Duration = Duration::from_mins(2);

/// How often a condition is looked at before it is given up. Each look is a request of its own, so this is some minutes.
const MOST_LOOKS: u32 = 50_000;

/// A line of the log, in either format. The text format holds what the JSON format does, but all as text.
fn parse(line: &str) -> Value {
    if let Ok(line @ Value::Object(_)) = serde_json::from_str(line) {
        return line;
    }
    // TIME LEVEL SPANS TARGET: MESSAGE FIELDS, where a span is NAME{FIELDS}: and only targets begin with the name of a crate.
    let mut fields = Map::new();
    let mut message: Vec<&str> = Vec::new();
    let mut target = None;
    for word in line.split_whitespace() {
        match (target, word.split_once('=')) {
            (None, _) => {
                target = word
                    .strip_suffix(':')
                    .filter(|word| word.starts_with("claviger"));
            }
            (Some(_), Some((name, value))) => {
                fields.insert(name.to_owned(), value.trim_matches('"').into());
            }
            (Some(_), None) => message.push(word),
        }
    }
    fields.insert("target".to_owned(), target.into());
    fields.insert("message".to_owned(), message.join(" ").into());
    Value::Object(fields)
}

/// A database of its own with the schema at its latest version, and the settings of a service on it.
pub(crate) struct Deployment {
    pub(crate) database: TestDatabase,
    /// What precedes its tokens in Redis.
    pub(crate) key_prefix: String,
    users: Users,
    variables: Vec<(String, String)>,
}

impl Deployment {
    pub(crate) async fn new(backend: Backend) -> Self {
        let database = super::database(backend).await;
        let connection = database.connect().await;
        Schema::new(connection.clone()).up().await.unwrap();
        let key_prefix = unique("test-");
        let mut deployment = Self {
            key_prefix: key_prefix.clone(),
            users: Users::new(connection),
            variables: Vec::new(),
            database,
        };
        let url = deployment.database.url.clone();
        deployment.set("CLAVIGER_DATABASE__URL", url.expose_secret());
        if backend == Backend::External {
            deployment.set("CLAVIGER_TOKENS__URL", redis_url().expose_secret());
        }
        deployment.set("CLAVIGER_TOKENS__KEY_PREFIX", &key_prefix);
        deployment.set("CLAVIGER_LIMITS__ENABLED", "false");
        // A busy machine is no outage.
        deployment.set("CLAVIGER_DATABASE__ACQUIRE_TIMEOUT", "30s");
        deployment.set("CLAVIGER_TOKENS__TIMEOUT", "30s");
        deployment.set("CLAVIGER_PASSWORD__MEMORY_KIB", "8");
        deployment.set("CLAVIGER_PASSWORD__ITERATIONS", "1");
        deployment
    }

    /// Sets a variable of the service. The last value of a name counts.
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.variables.push((name.to_owned(), value.to_owned()));
    }

    /// A hash costs some dozen milliseconds, so that logins overlap.
    pub(crate) fn slow_hashes(&mut self) {
        self.set("CLAVIGER_PASSWORD__MEMORY_KIB", "19456");
        self.set("CLAVIGER_PASSWORD__ITERATIONS", "4");
        self.set("CLAVIGER_PASSWORD__QUEUE_TIMEOUT", "2m");
        self.set("CLAVIGER_SERVER__REQUEST_TIMEOUT", "3m");
        self.set("CLAVIGER_SERVER__SHUTDOWN_GRACE", "4m");
    }

    /// Creates a user with [`PASSWORD`] at the cost that is set.
    pub(crate) fn user(&self, username: &str) {
        let arguments = ["user", "add", username, "--password-stdin"];
        let run = run(&arguments, &self.variables(), PASSWORD);
        assert_eq!(run.code, 0, "{run:?}");
    }

    /// Creates a user as it is.
    pub(crate) async fn insert(&self, new: NewUser) {
        self.users.insert(new).await.unwrap();
    }

    /// Creates a user whose stored hash matches no password, but keeps a worker busy for about a second to find that out.
    pub(crate) async fn slow_user(&self, username: &str) {
        let hash = "$argon2id$v=19$m=8,t=150000,p=1$c2FsdHNhbHRzYWx0$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
        self.insert(NewUser {
            username: username.to_owned(),
            password_hash: Some(SecretString::from(hash)),
            is_admin: false,
            disabled: false,
        })
        .await;
    }

    /// Starts the service and waits until it listens.
    pub(crate) fn start_unready(&self) -> Program {
        Program::start_in(&self.database.folder(), &self.variables())
    }

    /// Starts the service on listeners of the caller, for the API and for operations, and waits until it listens.
    pub(crate) fn start_with_listeners(&self, api: &TcpListener, ops: &TcpListener) -> Program {
        Program::start_with_listeners([api, ops], &self.database.folder(), &self.variables())
    }

    /// Starts the service and waits until it is ready.
    pub(crate) fn start(&self) -> Program {
        let mut program = self.start_unready();
        program.wait_for("ready");
        program
    }

    /// Runs a command to its end with the settings of the service.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        run(arguments, &self.variables(), "")
    }

    pub(crate) fn variables(&self) -> Vec<(&str, &str)> {
        let variables = self.variables.iter();
        variables
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect()
    }
}

/// Reads in a thread of its own, so that a full pipe never stops the service.
fn read_lines(stderr: ChildStderr) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            // The test may be over.
            let _ = sender.send(line.unwrap());
        }
    });
    receiver
}
