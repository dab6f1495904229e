//! The two loops. A client is a thread with a blocking socket: its sleep is exact to some microseconds, where a timer of
//! tokio is exact to a millisecond, which is ten times as long as a check takes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http::{Connection, Request};
use crate::report::Report;

/// Enough for the small frames here; a thousand clients take no more than they use.
const STACK: usize = 128 * 1024;
/// Until all clients are connected.
const LEAD: Duration = Duration::from_millis(500);

/// What is asked, by how many, for how long.
pub(crate) struct Load {
    pub(crate) addr: SocketAddr,
    /// Client `n` sends the one at `n` modulo their number.
    pub(crate) requests: Vec<Request>,
    pub(crate) clients: usize,
    pub(crate) length: Duration,
}

impl Load {
    /// Each client asks again when it has its answer. Ends after `length`, or after `count` requests if that is given. What
    /// is under way at the end is waited for, so that the server is idle afterwards, but not counted.
    pub(crate) fn closed(&self, count: Option<usize>, impatient: bool) -> Result<Report> {
        let asked = AtomicUsize::new(0);
        let start = Instant::now() + LEAD;
        let end = start + self.length;
        let is_over = || match count {
            Some(count) => asked.fetch_add(1, Ordering::Relaxed) >= count,
            None => Instant::now() >= end,
        };
        let mut report = self.clients(|connection, request| {
            let mut report = Report::default();
            sleep_until(start);
            while !is_over() {
                let sent = Instant::now();
                let result = connection.exchange(request);
                if count.is_none() && Instant::now() >= end {
                    break;
                }
                match result {
                    Ok(answer) => {
                        report.add(&answer, sent.elapsed());
                        if answer.status == 503 && !impatient {
                            let back = Instant::now()
                                + Duration::from_secs(answer.retry_after.unwrap_or(0));
                            sleep_until(if count.is_some() { back } else { back.min(end) });
                        }
                    }
                    Err(_) => report.add_error(sent.elapsed()),
                }
            }
            report
        })?;
        report.length = if count.is_some() {
            start.elapsed()
        } else {
            self.length
        };
        Ok(report)
    }

    /// `rate` requests per second are due at even distances, and the next free client sends the next one.
    pub(crate) fn open(&self, rate: f64) -> Result<Report> {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a number of requests"
        )]
        let count = (rate * self.length.as_secs_f64()) as usize;
        let next = AtomicUsize::new(0);
        let start = Instant::now() + LEAD;
        let mut report = self.clients(|connection, request| {
            let mut report = Report::default();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return report;
                }
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                sleep_until(due);
                match connection.exchange(request) {
                    Ok(answer) => report.add(&answer, due.elapsed()),
                    Err(_) => report.add_error(due.elapsed()),
                }
            }
        })?;
        report.length = self.length;
        Ok(report)
    }

    /// Runs `client` once for each client, on a thread of its own, and adds up what they saw.
    fn clients(
        &self,
        client: impl Fn(&mut Connection, &Request) -> Report + Sync,
    ) -> Result<Report> {
        let client = &client;
        thread::scope(|scope| {
            let threads = (0..self.clients)
                .zip(self.requests.iter().cycle())
                .map(|(_, request)| {
                    thread::Builder::new()
                        .stack_size(STACK)
                        .spawn_scoped(scope, move || {
                            exact_sleep()?;
                            let mut connection = Connection::new(self.addr);
                            connection.open()?;
                            Ok(client(&mut connection, request))
                        })
                })
                .collect::<std::io::Result<Vec<_>>>()?;
            let mut report = Report::default();
            for thread in threads {
                let seen: std::io::Result<Report> =
                    thread.join().map_err(|_| "a client panicked")?;
                report.merge(seen?);
            }
            Ok(report)
        })
    }
}

fn sleep_until(time: Instant) {
    thread::sleep(time.saturating_duration_since(Instant::now()));
}

/// Linux wakes a sleeping thread up to 50 us late, to wake several at once. This asks it not to.
fn exact_sleep() -> std::io::Result<()> {
    #[cfg(target_os = "linux")]
    rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1))?;
    Ok(())
}
