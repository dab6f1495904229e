//! The programs that run the recipes.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use crate::common::Nginx;

const NGINX: &str = include_str!("../../../examples/gateways/nginx/app.conf");
const CADDY: &str = include_str!("../../../examples/gateways/caddy/Caddyfile");
const HAPROXY: &str = include_str!("../../../examples/gateways/haproxy/haproxy.cfg");
const HAPROXY_ACTION: &str = include_str!("../../../examples/gateways/haproxy/claviger.lua");

/// A recipe that is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recipe {
    Nginx,
    Caddy,
    Haproxy,
}

/// The program of a recipe; it ends when this is dropped.
pub(super) struct Gateway {
    /// `http://` and the address that it listens on.
    pub(super) url: String,
    _process: Process,
}

#[expect(dead_code, reason = "what is held is ended when it is dropped")]
enum Process {
    Nginx(Nginx),
    Other(Other),
}

/// A program with its folder, in which there may be a log.
struct Other {
    child: Child,
    folder: TempDir,
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.folder.path().join("log"));
            println!("the log of the gateway:\n{}", log.unwrap_or_default());
        }
    }
}

impl Gateway {
    /// Starts the program with the file of its recipe, of which nothing is changed but the addresses and TLS.
    pub(super) fn start(recipe: Recipe, claviger: &str, application: &str) -> Self {
        let addressed = |text: &str| {
            let text = replace(text, "claviger.internal:8000", claviger);
            replace(&text, "app.internal:3000", application)
        };
        match recipe {
            Recipe::Nginx => nginx(&addressed(NGINX)),
            Recipe::Caddy => caddy(&addressed(CADDY)),
            Recipe::Haproxy => haproxy(&addressed(HAPROXY)),
        }
    }
}

/// Puts something in place of text that has to be there; the remarks at the head of a recipe name it too.
#[track_caller]
fn replace(text: &str, from: &str, to: &str) -> String {
    let code = text
        .split_inclusive('\n')
        .filter(|line| !line.starts_with('#'));
    assert_eq!(code.collect::<String>().matches(from).count(), 1, "{from}");
    text.replace(from, to)
}

/// A program that the harness names.
#[expect(
    clippy::disallowed_methods,
    reason = "the harness says where its servers are"
)]
fn program(variable: &str) -> PathBuf {
    std::env::var_os(variable)
        .unwrap_or_else(|| panic!("{variable} is a program"))
        .into()
}

fn nginx(text: &str) -> Gateway {
    let text = replace(
        text,
        "    ssl_certificate /etc/nginx/tls/app.example.com.pem;\n",
        "",
    );
    let text = replace(
        &text,
        "    ssl_certificate_key /etc/nginx/tls/app.example.com.key;\n",
        "",
    );
    let nginx =
        Nginx::start(|listen| replace(&text, "listen 443 ssl;", &format!("listen {listen};")));
    Gateway {
        url: nginx.url.clone(),
        _process: Process::Nginx(nginx),
    }
}

/// A program that logs nothing for so long will not start.
const LONGEST_SILENCE: Duration = Duration::from_mins(2);

fn caddy(text: &str) -> Gateway {
    // Somebody may take the port between the look and the start; then the next one is tried.
    (0..5).find_map(|_| try_caddy(text)).expect("Caddy starts")
}

fn try_caddy(text: &str) -> Option<Gateway> {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let folder = tempfile::tempdir().unwrap();
    let site = replace(
        text,
        "app.example.com {",
        &format!("http://app.example.com:{port} {{"),
    );
    let options = "{\n\tadmin off\n\tauto_https off\n\tdefault_bind 127.0.0.1\n}\n";
    let file = folder.path().join("Caddyfile");
    fs::write(&file, format!("{options}{site}")).unwrap();
    let mut child = Command::new(program("TEST_CADDY"))
        .env_clear()
        .env("HOME", folder.path())
        .args(["run", "--adapter", "caddyfile", "--config"])
        .arg(file)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stderr = child.stderr.take().unwrap();
    let (sender, lines) = mpsc::channel();
    // Read to the end, so that a full pipe never stops it.
    std::thread::spawn(move || {
        for line in BufReader::new(stderr).lines() {
            let _ = sender.send(line.unwrap());
        }
    });
    let process = Process::Other(Other { child, folder });
    let mut log = Vec::new();
    while let Ok(line) = lines.recv_timeout(LONGEST_SILENCE) {
        // It says so once it listens.
        let ready = line.contains("serving initial configuration");
        log.push(line);
        if ready {
            return Some(Gateway {
                url: format!("http://127.0.0.1:{port}"),
                _process: process,
            });
        }
    }
    let log = log.join("\n");
    assert!(
        log.contains("address already in use"),
        "Caddy ends or falls silent while it starts:\n{log}"
    );
    None
}

fn haproxy(text: &str) -> Gateway {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (configuration, action) = (path("haproxy.cfg"), path("claviger.lua"));
    // An abstract socket would be that of all tests.
    let socket = format!("unix@{}", path("claviger"));
    let text = replace(text, "/etc/haproxy/claviger.lua", &action);
    let text = replace(&text, "bind abns@claviger", &format!("bind {socket}"));
    let text = replace(
        &text,
        "bind :443 ssl crt /etc/haproxy/app.example.com.pem",
        "bind fd@3",
    );
    fs::write(&configuration, text).unwrap();
    fs::write(&action, replace(HAPROXY_ACTION, "abns@claviger", &socket)).unwrap();

    // In the way of systemd: it is given a socket that listens already.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let haproxy = program("TEST_HAPROXY");
    let log = File::create(path("log")).unwrap();
    let child = Command::new("/bin/sh")
        .env_clear()
        .args(["-c", "exec \"$0\" -db -f \"$1\" 3<&0 0</dev/null"])
        .arg(&haproxy)
        .arg(&configuration)
        .stdin(OwnedFd::from(listener))
        .stdout(log.try_clone().unwrap())
        .stderr(log)
        .spawn()
        .unwrap();
    Gateway {
        url,
        _process: Process::Other(Other { child, folder }),
    }
}
