//! How long a program takes from its start to its first answer.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http::{Connection, Request};

/// Between two attempts to connect, which take no time while nobody listens.
const PAUSE: Duration = Duration::from_micros(200);
const LIMIT: Duration = Duration::from_secs(10);

/// Waits until a server answers, whatever it says.
pub(crate) fn wait(addr: SocketAddr, limit: Duration) -> Result<()> {
    answered(addr, limit).map(|_| ())
}

/// Waits until `path` is answered with 200: a server that answers may not yet do what it is there for.
pub(crate) fn wait_for_ok(addr: SocketAddr, path: &str, limit: Duration) -> Result<()> {
    let begin = Instant::now();
    let mut connection = Connection::new(addr);
    loop {
        let told = match connection.exchange(&Request::get(path)) {
            Ok(answer) if answer.status == 200 => return Ok(()),
            Ok(answer) => answer.status.to_string(),
            Err(error) => error.to_string(),
        };
        if begin.elapsed() >= limit {
            return Err(format!("{path} at {addr} is not answered with 200: {told}").into());
        }
        thread::sleep(PAUSE);
    }
}

/// Starts the program `runs` times and prints the medians, in milliseconds, from just before its start to the first
/// connection that is taken and to the first answer.
pub(crate) fn measure(addr: SocketAddr, runs: usize, program: &[String]) -> Result<()> {
    let (name, arguments) = program.split_first().ok_or("no program")?;
    let mut accepted = Vec::new();
    let mut first_answer = Vec::new();
    for _ in 0..runs {
        let start = Instant::now();
        let child = Command::new(name)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let times = answered(addr, LIMIT);
        end(child)?;
        let (connected_at, answered_at) = times?;
        accepted.push(connected_at - start);
        first_answer.push(answered_at - start);
    }
    for (name, mut times) in [("accepted_ms", accepted), ("answered_ms", first_answer)] {
        times.sort_unstable();
        let median = times.get(times.len() / 2).ok_or("no runs")?;
        println!("{name} {:.1}", median.as_secs_f64() * 1e3);
    }
    Ok(())
}

/// When the first connection was taken, and when the first answer had come.
fn answered(addr: SocketAddr, limit: Duration) -> Result<(Instant, Instant)> {
    let begin = Instant::now();
    let mut connection = Connection::new(addr);
    loop {
        match connection.open() {
            Ok(_) => break,
            Err(_) if begin.elapsed() < limit => thread::sleep(PAUSE),
            Err(error) => return Err(format!("nobody listens on {addr}: {error}").into()),
        }
    }
    let connected_at = Instant::now();
    connection.exchange(&Request::get("/"))?;
    Ok((connected_at, Instant::now()))
}

/// Asks the program to stop, as a service manager does, and waits until it has.
fn end(mut child: Child) -> Result<()> {
    let id = rustix::process::Pid::from_child(&child);
    // It fails only if the program has ended by itself.
    let _ = rustix::process::kill_process(id, rustix::process::Signal::TERM);
    child.wait()?;
    Ok(())
}
