//! Logins that are refused for different reasons, and how long each kind takes: nobody may tell them apart by that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::Result;
use crate::http::{Connection, Request};
use crate::report::quantile;

/// Sends one of each kind in turn, this many times, on one connection. Prints the median of each kind in milliseconds, and
/// by how much the slowest is above the fastest.
///
/// # Errors
///
/// An answer that is no 401: something else was measured then.
pub(crate) fn measure(addr: SocketAddr, samples: usize, kinds: &[(String, String)]) -> Result<()> {
    let requests: Vec<_> = kinds
        .iter()
        .map(|(username, password)| Request::login(username, password))
        .collect();
    let mut times = vec![Vec::with_capacity(samples); kinds.len()];
    let mut connection = Connection::new(addr);
    for _ in 0..samples {
        for (request, times) in requests.iter().zip(&mut times) {
            let start = Instant::now();
            let answer = connection.exchange(request)?;
            times.push(start.elapsed());
            if answer.status != 401 {
                return Err(format!("a login was answered with {}, not 401", answer.status).into());
            }
        }
    }
    let mut medians = Vec::with_capacity(kinds.len());
    for ((username, _), mut times) in kinds.iter().zip(times) {
        times.sort_unstable();
        let median = quantile(&times, 0.5);
        println!("{username} {:.3}", median.as_secs_f64() * 1e3);
        medians.push(median);
    }
    let slowest = medians.iter().max().map_or(0.0, Duration::as_secs_f64);
    let fastest = medians.iter().min().map_or(0.0, Duration::as_secs_f64);
    println!(
        "spread_percent {:.2}",
        100.0 * (slowest - fastest) / fastest
    );
    Ok(())
}
