//! A real nginx with our own configuration files.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Connection};

/// The program.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its servers are"
)]
fn program() -> PathBuf {
    std::env::var_os("TEST_NGINX")
        .expect("TEST_NGINX is the program nginx")
        .into()
}

/// An nginx in the foreground; it ends when this is dropped.
pub(crate) struct Nginx {
    /// `http://` and the address that it listens on.
    pub(crate) url: String,
    child: Child,
    lines: Receiver<String>,
    log: Vec<String>,
    _folder: TempDir,
}

impl Nginx {
    /// Starts nginx with what stands in the `http` block, which is told the address to listen on.
    pub(crate) fn start(configuration: impl Fn(&str) -> String) -> Self {
        // Somebody may take the port between the look and the start; then the next one is tried.
        (0..5)
            .find_map(|_| Self::try_start(&configuration))
            .expect("nginx starts")
    }

    fn try_start(configuration: impl Fn(&str) -> String) -> Option<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(listener);
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &configuration(&address));
        let mut child = command(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = mpsc::channel();
        read_lines(child.stdout.take().unwrap(), sender.clone());
        read_lines(child.stderr.take().unwrap(), sender);
        let mut nginx = Self {
            url: format!("http://{address}"),
            child,
            lines,
            log: Vec::new(),
            _folder: folder,
        };
        // It says so once it listens.
        while let Ok(line) = nginx.lines.recv_timeout(LONGEST_SILENCE) {
            let ready = line.contains(" event method");
            nginx.log.push(line);
            if ready {
                return Some(nginx);
            }
        }
        let log = nginx.log.join("\n");
        assert!(
            log.contains("bind()"),
            "nginx ends or falls silent while it starts:\n{log}"
        );
        None
    }

    /// Whether nginx accepts a configuration, and what it says about it.
    pub(crate) fn test(configuration: &str) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), configuration);
        let Output { status, stderr, .. } = command(folder.path()).arg("-t").output().unwrap();
        (status.success(), String::from_utf8(stderr).unwrap())
    }

    /// The version of the program: `[1, 22, 1]`.
    pub(crate) fn version() -> Vec<u32> {
        let text = said(Command::new(program()).arg("-v"));
        let (_, version) = text.trim().split_once("nginx/").expect("a version");
        let version = version.split(' ').next().unwrap();
        version
            .split('.')
            .map(|number| number.parse().unwrap())
            .collect()
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(&self.url).await
    }

    /// Sends a request on a connection of its own.
    pub(crate) async fn send(&self, request: &str) -> Answer {
        let mut connection = self.connect().await;
        connection.send(request).await;
        connection.answer().await
    }

    /// The line of the access log with this request id. Panics if nginx ends or falls silent before it.
    pub(crate) fn wait_for_access(&mut self, request_id: &str) -> Value {
        loop {
            let Ok(line) = self.lines.recv_timeout(LONGEST_SILENCE) else {
                panic!("no access of {request_id} in\n{}", self.log.join("\n"));
            };
            let access: Option<Value> = serde_json::from_str(&line).ok();
            self.log.push(line);
            if let Some(access) = access
                && access["request_id"] == request_id
            {
                return access;
            }
        }
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An nginx that logs nothing for so long will not log what is waited for.
const LONGEST_SILENCE: Duration = Duration::from_mins(2);

/// Around what is tested, as little as it runs with. It is one process and stays who it is: nothing is left when it is
/// killed, and no other user has to be able to read its folder.
const MAIN: &str = "\
daemon off;
master_process off;
pid nginx.pid;
error_log stderr notice;
events {}
http {
    access_log off;
    client_body_temp_path body;
    proxy_temp_path proxy;
    include folders.conf;
    include tested.conf;
}
";

/// Modules that make their folders at the start, although nobody uses them. A program can be built without them.
const UNUSED: [&str; 3] = ["fastcgi", "scgi", "uwsgi"];

fn write(folder: &Path, configuration: &str) {
    std::fs::write(folder.join("nginx.conf"), MAIN).unwrap();
    std::fs::write(folder.join("tested.conf"), configuration).unwrap();
    let build = said(Command::new(program()).arg("-V"));
    let there = |module: &&str| !build.contains(&format!("--without-http_{module}_module"));
    let folders = UNUSED.into_iter().filter(there);
    let folders: Vec<String> = folders
        .map(|module| format!("{module}_temp_path {module};\n"))
        .collect();
    std::fs::write(folder.join("folders.conf"), folders.concat()).unwrap();
}

/// What nginx says to a question about itself.
fn said(command: &mut Command) -> String {
    String::from_utf8(command.output().unwrap().stderr).unwrap()
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new(program());
    command
        .env_clear()
        .arg("-p")
        .arg(folder)
        .arg("-c")
        .arg(folder.join("nginx.conf"))
        // What is said before the configuration is read.
        .args(["-e", "stderr"]);
    command
}

/// Reads in a thread of its own, so that a full pipe never stops nginx.
fn read_lines(pipe: impl Read + Send + 'static, sender: Sender<String>) {
    std::thread::spawn(move || {
        for line in BufReader::new(pipe).lines() {
            // The test may be over.
            let _ = sender.send(line.unwrap());
        }
    });
}
