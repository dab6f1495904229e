//! What came of a run.

use std::fmt;
use std::time::Duration;

use crate::http::Answer;

/// The answers of a run, and how long each took.
#[derive(Default)]
pub(crate) struct Report {
    /// How long the run was.
    pub(crate) length: Duration,
    /// The times of the answers with status 200.
    ok: Vec<Duration>,
    unavailable: usize,
    /// 503 without Retry-After. There must not be any.
    without_retry_after: usize,
    other: usize,
    /// Requests without an answer.
    errors: usize,
    longest: Duration,
}

impl Report {
    /// Notes an answer.
    pub(crate) fn add(&mut self, answer: &Answer, took: Duration) {
        self.longest = self.longest.max(took);
        match answer.status {
            200 => self.ok.push(took),
            503 => {
                self.unavailable += 1;
                self.without_retry_after += usize::from(answer.retry_after.is_none());
            }
            _ => self.other += 1,
        }
    }

    /// Notes that there was no answer.
    pub(crate) fn add_error(&mut self, took: Duration) {
        self.longest = self.longest.max(took);
        self.errors += 1;
    }

    /// Adds what another client saw.
    pub(crate) fn merge(&mut self, other: Self) {
        self.ok.extend(other.ok);
        self.unavailable += other.unavailable;
        self.without_retry_after += other.without_retry_after;
        self.other += other.other;
        self.errors += other.errors;
        self.longest = self.longest.max(other.longest);
    }
}

/// The smallest time that at least this part of all the times do not exceed; `sorted` is sorted. 0 if there is none.
pub(crate) fn quantile(sorted: &[Duration], part: f64) -> Duration {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a rank between 0 and the number of times"
    )]
    let rank = (sorted.len() as f64 * part).ceil() as usize;
    sorted
        .get(rank.saturating_sub(1))
        .copied()
        .unwrap_or_default()
}

/// One `name value` a line. The rate and the quantiles are those of status 200, the longest time is that of all answers.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut sorted = self.ok.clone();
        sorted.sort_unstable();
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        writeln!(f, "ok {}", sorted.len())?;
        writeln!(f, "unavailable {}", self.unavailable)?;
        writeln!(f, "without_retry_after {}", self.without_retry_after)?;
        writeln!(f, "other {}", self.other)?;
        writeln!(f, "errors {}", self.errors)?;
        writeln!(
            f,
            "per_second {:.1}",
            sorted.len() as f64 / self.length.as_secs_f64()
        )?;
        writeln!(f, "p50_ms {:.3}", milliseconds(quantile(&sorted, 0.5)))?;
        writeln!(f, "p99_ms {:.3}", milliseconds(quantile(&sorted, 0.99)))?;
        writeln!(f, "p999_ms {:.3}", milliseconds(quantile(&sorted, 0.999)))?;
        writeln!(f, "max_ms {:.3}", milliseconds(self.longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_times_that_occurred() {
        let times: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(quantile(&times, 0.5), Duration::from_millis(50));
        assert_eq!(quantile(&times, 0.99), Duration::from_millis(99));
        assert_eq!(quantile(&times, 0.999), Duration::from_millis(100));
        assert_eq!(quantile(&times[..1], 0.5), Duration::from_millis(1));
        assert_eq!(quantile(&[], 0.5), Duration::ZERO);
    }

    #[test]
    fn a_refusal_has_to_say_when_to_come_back() {
        let mut report = Report {
            length: Duration::from_secs(2),
            ..Report::default()
        };
        let answer = |status, retry_after| Answer {
            status,
            retry_after,
            body: Vec::new(),
        };
        report.add(&answer(200, None), Duration::from_millis(3));
        report.add(&answer(503, Some(1)), Duration::from_millis(7));
        report.add(&answer(503, None), Duration::from_millis(5));
        report.add(&answer(401, None), Duration::from_millis(1));
        let mut all = Report {
            length: Duration::from_secs(2),
            ..Report::default()
        };
        all.add_error(Duration::from_millis(6));
        all.merge(report);
        assert_eq!(
            all.to_string(),
            "ok 1\nunavailable 2\nwithout_retry_after 1\nother 1\nerrors 1\nper_second 0.5\n\
             p50_ms 3.000\np99_ms 3.000\np999_ms 3.000\nmax_ms 7.000\n"
        );
    }
}
