//! The table of metrics in docs/operations.md against a scrape.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;

use crate::common::{Backend, TestApp};

/// What is told of a metric: its type and its labels.
#[derive(Debug, Default, PartialEq, Eq)]
struct Metric {
    kind: String,
    labels: BTreeSet<String>,
}

/// The metrics of a scrape, in Prometheus' text format.
fn live(scrape: &str) -> BTreeMap<String, Metric> {
    let mut metrics: BTreeMap<String, Metric> = BTreeMap::new();
    for line in scrape.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            metrics.entry(name.to_owned()).or_default().kind = kind.to_owned();
        }
    }
    for series in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = series.split_once(['{', ' ']).unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .into_iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .find(|family| metrics.contains_key(*family))
            .unwrap_or(name);
        let metric = metrics.get_mut(family).expect("a series of a family");
        let labels = rest.split_once('}').map_or("", |(labels, _)| labels);
        for label in labels.split(',').filter(|label| !label.is_empty()) {
            let (label, _) = label.split_once('=').unwrap();
            if label != "le" {
                metric.labels.insert(label.to_owned());
            }
        }
    }
    metrics
}

/// The metrics of the table between two marks in a page: name, type, labels, meaning.
fn documented(page: &str) -> BTreeMap<String, Metric> {
    let (_, rest) = page
        .split_once("<!-- metrics -->")
        .expect("the mark before the table");
    let (table, _) = rest
        .split_once("<!-- /metrics -->")
        .expect("the mark after the table");
    let mut metrics = BTreeMap::new();
    for row in table.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, labels, meaning] = cells[..] else {
            panic!("a row has four cells: {row}");
        };
        assert!(!meaning.is_empty(), "{row}");
        let metric = Metric {
            kind: kind.to_owned(),
            labels: labels
                .split(", ")
                .filter(|label| !label.is_empty())
                .map(str::to_owned)
                .collect(),
        };
        let twice = metrics.insert(name.trim_matches('`').to_owned(), metric);
        assert!(twice.is_none(), "{name} is there twice");
    }
    metrics
}

#[rstest]
#[tokio::test]
async fn every_metric_stands_in_the_documentation_with_its_type_and_labels(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let app = TestApp::start(backend).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);

    let live = live(&app.ops("/metrics").await.text());
    let documented = documented(include_str!("../../docs/operations.md"));
    for (name, metric) in &documented {
        assert_eq!(live.get(name), Some(metric), "{name} in the scrape");
    }
    for name in live.keys() {
        assert!(documented.contains_key(name), "{name} is not documented");
    }
}

#[test]
fn a_difference_would_be_seen() {
    let scrape = "# TYPE a_seconds histogram\na_seconds_bucket{route=\"/\",le=\"1\"} 1\n\
                  a_seconds_count{route=\"/\"} 1\n# TYPE b_count gauge\nb_count 1\n";
    let page = "<!-- metrics -->\n| name | type | labels | meaning |\n| --- | --- | --- | --- |\n\
                | `a_seconds` | histogram | route | x |\n| `b_count` | gauge | | x |\n<!-- /metrics -->";
    assert_eq!(live(scrape), documented(page));
    for other in [
        page.replace("gauge", "counter"),
        page.replace("route", "method"),
        page.replace("b_count", "c_count"),
    ] {
        assert_ne!(live(scrape), documented(&other));
    }
}
