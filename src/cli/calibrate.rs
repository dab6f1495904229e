//! `claviger calibrate`: what a verification may cost on this machine, so that it takes the time that somebody wants.

use std::io::Write;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use secrecy::SecretString;

use super::exit::Failure;
use crate::app::BuildError;
use crate::auth::hash_pool::sizing::Sizing;
use crate::auth::hash_pool::{HashPool, Observer};
use crate::auth::password::Password;
use crate::config::{self, Loaded, parse_duration};

/// The cheapest that is suggested (OWASP Password Storage Cheat Sheet): KiB and passes. What is suggested is never below it.
const FLOOR: (u32, u32) = (19_456, 2);

/// The most passes that are suggested.
const MOST_PASSES: u32 = 1_000;

/// Memory is suggested in steps of so many KiB.
const STEP_KIB: u32 = 1_024;

/// Runs of which the middle one counts: on a machine with other work the fastest is luck, and the slowest is somebody else's.
const RUNS: usize = 5;

/// How often what was expected is corrected by what was measured.
const CORRECTIONS: usize = 3;

/// What is wanted.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Arguments {
    /// How long one verification shall take
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = time)]
    time: Duration,
    /// The most memory that one verification may need; time that is left over goes into passes. The default is the second
    /// choice of RFC 9106
    #[arg(long, value_name = "MIB", default_value_t = 64, value_parser = clap::value_parser!(u32).range(19..=4_095))]
    memory_mib: u32,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = parse_duration(text)?;
    // Longer ones would be measured for minutes.
    if time.is_zero() || time > Duration::from_secs(5) {
        return Err("expected more than `0ms` and at most `5s`".to_owned());
    }
    Ok(time)
}

/// A cost, and how long a run of it took.
#[derive(Clone, Copy)]
struct Measured {
    memory_kib: u32,
    iterations: u32,
    time: Duration,
}

pub(super) async fn run(
    arguments: Arguments,
    loaded: &Loaded,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let (memory_kib, iterations) = FLOOR;
    let floor = measure(loaded, memory_kib, iterations).await?;
    let most_kib = (arguments.memory_mib * 1024).max(memory_kib);
    let mut found = floor;
    for _ in 0..CORRECTIONS {
        let (memory_kib, iterations) = next(found, arguments.time, most_kib);
        if (memory_kib, iterations) == (found.memory_kib, found.iterations) {
            break;
        }
        found = measure(loaded, memory_kib, iterations).await?;
    }

    let settings = config::Password {
        memory_kib: found.memory_kib,
        iterations: found.iterations,
        parallelism: 1,
        ..loaded.config.password.clone()
    };
    let sizing =
        Sizing::detect(&settings).map_err(|error| super::not_built(loaded, error.into()))?;
    let rate =
        f64::from(u32::try_from(sizing.workers()).unwrap_or(u32::MAX)) / found.time.as_secs_f64();
    writeln!(
        out,
        "# One verification takes {} ms here; {} ms were asked for.",
        found.time.as_millis(),
        arguments.time.as_millis(),
    )?;
    if found.time > arguments.time && (found.memory_kib, found.iterations) == FLOOR {
        writeln!(out, "# Less would be under OWASP's floor.")?;
    }
    writeln!(out, "# {sizing}")?;
    writeln!(
        out,
        "# About {rate:.0} logins per second if nothing else runs; a login whose hash has another cost takes two runs."
    )?;
    writeln!(out, "[password]")?;
    writeln!(out, "memory_kib = {}", found.memory_kib)?;
    writeln!(out, "iterations = {}", found.iterations)?;
    writeln!(out, "parallelism = 1")?;
    Ok(())
}

/// The cost that would take `time`, if the time of a run is proportional to its memory times its passes: more memory first,
/// as that is what an attacker's hardware has least of.
fn next(measured: Measured, time: Duration, most_kib: u32) -> (u32, u32) {
    let (floor_kib, floor_passes) = FLOOR;
    let work = f64::from(measured.memory_kib) * f64::from(measured.iterations) * time.as_secs_f64()
        / measured.time.as_secs_f64().max(1e-6);
    let memory = work / f64::from(floor_passes);
    if memory <= f64::from(most_kib) {
        let steps = (memory / f64::from(STEP_KIB)).floor() * f64::from(STEP_KIB);
        return (rounded(steps).max(floor_kib), floor_passes);
    }
    let passes = rounded((work / f64::from(most_kib)).floor());
    (most_kib, passes.clamp(floor_passes, MOST_PASSES))
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float goes to the nearest number that there is"
)]
fn rounded(number: f64) -> u32 {
    number as u32
}

/// Runs a cost some times, in the hash gate as the service has it.
async fn measure(loaded: &Loaded, memory_kib: u32, iterations: u32) -> Result<Measured, Failure> {
    let settings = config::Password {
        workers: Some(1),
        memory_kib,
        iterations,
        parallelism: 1,
        queue_timeout: Duration::from_mins(5),
        ..loaded.config.password.clone()
    };
    let times = Arc::new(Mutex::new(Vec::new()));
    let measured = Arc::clone(&times);
    let observer = Observer {
        run: Box::new(move |time| {
            let mut times = measured.lock().unwrap_or_else(PoisonError::into_inner);
            times.push(time);
        }),
        ..Observer::default()
    };
    let start = || -> Result<HashPool, BuildError> {
        let sizing = Sizing::detect(&settings)?;
        Ok(HashPool::start(&settings, &sizing, observer)?)
    };
    let hash_pool = start().map_err(|error| super::not_built(loaded, error))?;
    let password = Password::parse(SecretString::from("calibrate")).map_err(anyhow::Error::from)?;
    for _ in 0..RUNS {
        hash_pool.hash(&password).await?;
    }
    let mut times = times.lock().unwrap_or_else(PoisonError::into_inner);
    times.sort_unstable();
    let time = times.get(times.len() / 2).copied().unwrap_or_default();
    Ok(Measured {
        memory_kib,
        iterations,
        time,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_comes_first_then_passes_and_nothing_is_under_the_floor() {
        let measured = |memory_kib, iterations, millis| Measured {
            memory_kib,
            iterations,
            time: Duration::from_millis(millis),
        };
        let wanted = |millis| Duration::from_millis(millis);
        let most = 64 * 1024;
        assert_eq!(next(measured(19_456, 2, 10), wanted(5), most), FLOOR);
        assert_eq!(next(measured(19_456, 2, 10), wanted(10), most), FLOOR);
        assert_eq!(next(measured(19_456, 2, 10), wanted(20), most), (38_912, 2));
        assert_eq!(next(measured(19_456, 2, 10), wanted(21), most), (39_936, 2));
        assert_eq!(next(measured(19_456, 2, 10), wanted(100), most), (most, 5));
        assert_eq!(next(measured(most, 5, 200), wanted(100), most), (most, 2));
        assert_eq!(next(measured(most, 2, 200), wanted(100), most), (32_768, 2));
        assert_eq!(
            next(measured(19_456, 2, 0), wanted(5000), most),
            (most, 1_000)
        );
    }

    #[test]
    fn a_time_has_a_unit_and_bounds() {
        assert_eq!(time("250ms"), Ok(Duration::from_millis(250)));
        for wrong in ["", "0ms", "6s", "250", "-1s"] {
            assert!(time(wrong).is_err(), "{wrong:?}");
        }
    }
}
