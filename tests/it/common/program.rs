//! The built program, as an operator runs it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::Value;

/// What a command printed and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end, with these variables and no others of ours.
pub(crate) fn run(arguments: &[&str], variables: &[(&str, &str)], input: &str) -> Run {
    let mut child = command(arguments, variables)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may end without reading.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn command(arguments: &[&str], variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_claviger"));
    // Variables of whoever runs the tests must not change what is tested.
    command
        .env_clear()
        .args(arguments)
        .envs(variables.iter().copied());
    command
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
    /// Starts the service on free ports, with JSON logs, and waits until it listens.
    pub(crate) fn start(variables: &[(&str, &str)]) -> Self {
        let mut all = vec![
            ("CLAVIGER_SERVER__LISTEN", "127.0.0.1:0"),
            ("CLAVIGER_SERVER__OPS_LISTEN", "127.0.0.1:0"),
            ("CLAVIGER_PASSWORD__MEMORY_KIB", "8"),
            ("CLAVIGER_PASSWORD__ITERATIONS", "1"),
        ];
        all.extend_from_slice(variables);
        let mut child = command(&["serve"], &all)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
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

    /// The next log line with this message. Panics if the service ends before it.
    pub(crate) fn wait_for(&mut self, message: &str) -> Value {
        loop {
            let Ok(line) = self.lines.recv() else {
                panic!(
                    "no line with the message {message:?} in\n{}",
                    self.log.join("\n")
                );
            };
            let parsed: Option<Value> = serde_json::from_str(&line).ok();
            self.log.push(line);
            if let Some(line) = parsed
                && line["message"] == message
            {
                return line;
            }
        }
    }

    /// Sends a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let pid = rustix::process::Pid::from_child(&self.child);
        let signal = match name {
            "TERM" => rustix::process::Signal::TERM,
            "INT" => rustix::process::Signal::INT,
            other => panic!("no signal {other}"),
        };
        rustix::process::kill_process(pid, signal).unwrap();
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
