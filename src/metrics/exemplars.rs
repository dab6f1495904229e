//! Exemplars: for each bucket of the request times, the trace that was last in it. Only `OpenMetrics` has a place for them,
//! and the encoder has none, so its text is turned into that format here.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The content type of [`Exemplars::open_metrics`].
pub const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// By the series as it stands in a scrape. There are as many as buckets, methods and routes.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<BTreeMap<String, Exemplar>>);

#[derive(Debug)]
struct Exemplar {
    trace_id: String,
    seconds: f64,
    /// Since 1970.
    at: Duration,
}

impl Exemplars {
    /// Keeps the trace of an observation of the histogram `name`.
    pub(super) fn keep(
        &self,
        name: &str,
        buckets: &[f64],
        (method, route): (&str, &str),
        seconds: f64,
        trace_id: String,
    ) {
        let bucket = buckets.iter().find(|limit| seconds <= **limit);
        let le = bucket.map_or_else(|| "+Inf".to_owned(), |limit| format!("{limit:?}"));
        let series = format!("{name}_bucket{{method=\"{method}\",route=\"{route}\",le=\"{le}\"}}");
        let at = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let exemplar = Exemplar {
            trace_id,
            seconds,
            at,
        };
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(series, exemplar);
    }

    /// Prometheus' text format as `OpenMetrics`, with the exemplars. What differs: a counter's family has no `_total`, the
    /// limit of a bucket is always a number with a point, and the end is marked.
    pub(super) fn open_metrics(&self, text: &str) -> String {
        let exemplars = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = String::with_capacity(text.len() + text.len() / 4);
        for line in text.lines() {
            if let Some(comment) = line.strip_prefix("# ") {
                open.push_str("# ");
                let mut words = comment.splitn(3, ' ');
                let (keyword, family) = (words.next(), words.next().unwrap_or_default());
                open.push_str(keyword.unwrap_or_default());
                open.push(' ');
                open.push_str(family.strip_suffix("_total").unwrap_or(family));
                open.push(' ');
                open.push_str(words.next().unwrap_or_default());
            } else if let Some((labels, limit, value)) = bucket(line) {
                let point = if limit.contains(['.', 'I']) { "" } else { ".0" };
                let series = format!("{labels}le=\"{limit}{point}\"}}");
                let _ = write!(open, "{series} {value}");
                if let Some(exemplar) = exemplars.get(&series) {
                    let Exemplar {
                        trace_id,
                        seconds,
                        at,
                    } = exemplar;
                    let at = at.as_secs_f64();
                    let _ = write!(open, " # {{trace_id=\"{trace_id}\"}} {seconds} {at:.3}");
                }
            } else {
                open.push_str(line);
            }
            open.push('\n');
        }
        open.push_str("# EOF\n");
        open
    }
}

/// The line of a bucket: what precedes its limit, the limit, and what was counted.
fn bucket(line: &str) -> Option<(&str, &str, &str)> {
    let (series, value) = line.rsplit_once("\"} ")?;
    let at = series.rfind("le=\"")?;
    let (labels, limit) = series.split_at(at);
    labels
        .contains("_bucket{")
        .then_some((labels, limit.strip_prefix("le=\"")?, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_becomes_open_metrics() {
        let text = "# HELP a_total Some.\n# TYPE a_total counter\na_total{x=\"1\"} 3\n\
                    # HELP b_seconds Times of b_total.\n# TYPE b_seconds histogram\n\
                    b_seconds_bucket{method=\"GET\",route=\"/{id}\",le=\"0.5\"} 1\n\
                    b_seconds_bucket{method=\"GET\",route=\"/{id}\",le=\"1\"} 2\n\
                    b_seconds_bucket{method=\"GET\",route=\"/{id}\",le=\"+Inf\"} 3\n\
                    b_seconds_sum{method=\"GET\",route=\"/{id}\"} 9\n";
        let exemplars = Exemplars::default();
        for (seconds, trace_id) in [(0.7, "old"), (1.0, "new"), (7.0, "slow")] {
            let labels = ("GET", "/{id}");
            exemplars.keep("b_seconds", &[0.5, 1.0], labels, seconds, trace_id.into());
        }
        let open = exemplars.open_metrics(text);
        let mut lines = open.lines();
        for expected in [
            "# HELP a Some.",
            "# TYPE a counter",
            "a_total{x=\"1\"} 3",
            "# HELP b_seconds Times of b_total.",
            "# TYPE b_seconds histogram",
            "b_seconds_bucket{method=\"GET\",route=\"/{id}\",le=\"0.5\"} 1",
        ] {
            assert_eq!(lines.next(), Some(expected));
        }
        for (series, exemplar) in [
            ("le=\"1.0\"} 2", " # {trace_id=\"new\"} 1 "),
            ("le=\"+Inf\"} 3", " # {trace_id=\"slow\"} 7 "),
        ] {
            let line = lines.next().unwrap();
            let expected =
                format!("b_seconds_bucket{{method=\"GET\",route=\"/{{id}}\",{series}{exemplar}");
            let at = line
                .strip_prefix(&expected)
                .unwrap_or_else(|| panic!("{line}"));
            assert!(at.parse::<f64>().unwrap() > 1e9, "{line}");
        }
        assert_eq!(
            lines.next(),
            Some("b_seconds_sum{method=\"GET\",route=\"/{id}\"} 9")
        );
        assert_eq!(lines.next(), Some("# EOF"));
        assert_eq!(lines.next(), None);
    }
}
