//! The table of metrics in docs/operations.md, the rules of Prometheus and the dashboard of Grafana against a scrape.

use std::collections::{BTreeMap, BTreeSet};

use rstest::rstest;
use serde_json::Value;

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

#[tokio::test]
async fn a_failure_is_no_new_series() {
    let app = TestApp::start(Backend::Embedded).await;
    let scrape = app.ops("/metrics").await;
    for method in ["GET", "POST", "DELETE"] {
        let labels = format!("method=\"{method}\",route=\"/v1.0/user/auth\"");
        for status in [500, 503] {
            let failures = format!("claviger_http_requests_total{{{labels},status=\"{status}\"}}");
            assert_eq!(scrape.metric(&failures), 0);
        }
        let times = format!("claviger_http_request_duration_seconds_count{{{labels}}}");
        assert_eq!(scrape.metric(&times), 0);
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

/// What Prometheus adds to what it scrapes.
const NOT_OURS: [&str; 3] = ["instance", "job", "namespace"];

/// A label and its value as `name="value"`, with the name of the series in front.
fn series(scrape: &str) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut series: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for line in scrape.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let pairs = series.entry(name).or_default();
        if let Some((labels, _)) = rest.split_once('}') {
            pairs.extend(labels.split(',').filter(|pair| !pair.is_empty()));
        }
    }
    series
}

/// What expressions of `PromQL` ask for that no scrape has: names, labels and values. All in them that begins like one of our
/// metrics is taken for one.
fn missing(expressions: &str, scrape: &str) -> Vec<String> {
    let series = series(scrape);
    let is_name = |character: char| character.is_ascii_alphanumeric() || character == '_';
    let mut missing = Vec::new();
    let mut rest = expressions;
    while let Some(start) = rest.find(is_name) {
        rest = &rest[start..];
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if !["claviger_", "process_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            continue;
        }
        let Some(pairs) = series.get(name) else {
            missing.push(name.to_owned());
            continue;
        };
        let selector = after
            .strip_prefix('{')
            .and_then(|selector| selector.split_once('}'))
            .map_or("", |(selector, _)| selector);
        for matcher in selector.split(',').map(str::trim) {
            let (label, value) = matcher.split_once('=').unwrap_or_default();
            let (label, negated) = label
                .strip_suffix('!')
                .map_or((label, false), |label| (label, true));
            // A regular expression is compared by its label only, and so is what shall not be.
            let found = if value.starts_with('"') && !negated {
                pairs.contains(matcher)
            } else {
                pairs
                    .iter()
                    .any(|pair| pair.starts_with(&format!("{label}=")))
            };
            if !label.is_empty() && !NOT_OURS.contains(&label) && !found {
                missing.push(format!("{name}{{{matcher}}}"));
            }
        }
    }
    let labels: BTreeSet<&str> = series
        .values()
        .flatten()
        .filter_map(|pair| Some(pair.split_once('=')?.0))
        .chain(NOT_OURS)
        .collect();
    let groups = ["by (", "on ("];
    for (_, grouped) in groups.iter().flat_map(|by| {
        let found = expressions.match_indices(by);
        found.map(|(at, by)| expressions.split_at(at + by.len()))
    }) {
        let (grouped, _) = grouped.split_once(')').unwrap();
        let unknown = grouped
            .split(',')
            .map(str::trim)
            .filter(|label| !labels.contains(label));
        missing.extend(unknown.map(|label| format!("by ({label})")));
    }
    missing
}

/// All texts of a JSON document, a line each.
fn texts(document: &Value) -> String {
    match document {
        Value::String(text) => format!("{text}\n"),
        Value::Array(items) => items.iter().map(texts).collect(),
        Value::Object(members) => members.values().map(texts).collect(),
        _ => String::new(),
    }
}

#[tokio::test]
async fn the_rules_and_the_dashboard_ask_for_what_there_is() {
    let app = TestApp::start(Backend::External).await;
    app.user("alice").await;
    let token = app.token("alice").await;
    assert_eq!(app.log_in("alice", "wrong").await.status, 401);
    assert_eq!(app.call("GET", "/unknown").await.status, 404);
    assert_eq!(app.check(&token).await.status, 200);
    assert_eq!(app.log_out(&token).await.status, 204);
    let scrape = app.ops("/metrics").await.text();

    let dashboard = include_str!("../../helm/claviger/files/dashboard.json");
    let dashboard = texts(&serde_json::from_str(dashboard).unwrap());
    for (expressions, at_least) in [
        (include_str!("../../helm/claviger/files/rules.yml"), 5),
        (include_str!("../chart/rules.test.yml"), 5),
        (dashboard.as_str(), 20),
    ] {
        assert_eq!(missing(expressions, &scrape), Vec::<String>::new());
        let names = expressions.matches("claviger_").count();
        assert!(names >= at_least, "only {names} metrics were found");
    }
}

const RULES: &str = include_str!("../../helm/claviger/files/rules.yml");

/// The rules of a file: what each begins with (`alert: NAME`, `record: NAME`), and its lines.
fn rules(text: &str) -> Vec<(&str, &str)> {
    let parts = text.split("      - alert: ").skip(1);
    let alerts = parts.map(|part| part.split_once('\n').unwrap());
    let alerts = alerts.map(|(name, rest)| (name, rest.split("\n\n").next().unwrap()));
    alerts.collect()
}

/// The words of a text that stand before or after a mark, up to the first character that is in no name.
fn named<'a>(text: &'a str, mark: &str) -> BTreeSet<&'a str> {
    let name = |rest: &'a str| {
        let is_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        rest.split_at(end).0
    };
    let found = text.match_indices(mark);
    found
        .map(|(at, mark)| name(text.split_at(at + mark.len()).1))
        .collect()
}

#[test]
fn every_alert_has_a_page_and_every_page_an_alert() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/runbooks");
    let index = include_str!("../../docs/runbooks/README.md");
    let mut pages = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let file = entry.unwrap().file_name().into_string().unwrap();
        let name = file.strip_suffix(".md").unwrap().to_owned();
        if name == "README" {
            continue;
        }
        let page = std::fs::read_to_string(format!("{folder}/{file}")).unwrap();
        assert!(page.starts_with(&format!("# {name}\n")), "{file}");
        assert!(index.contains(&format!("[{name}]({file})")), "{file}");
        pages.insert(name);
    }
    let alerts = rules(RULES);
    let names: BTreeSet<String> = alerts.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert!(names.len() > 10, "{names:?}");
    assert_eq!(names, pages);
    for (name, rule) in alerts {
        let runbook = format!("          runbook_url: docs/runbooks/{name}.md");
        assert!(rule.contains(&runbook), "{name}");
        for part in ["          summary: ", "          description: "] {
            assert!(rule.contains(part), "{name} has no {part}");
        }
        let severity = ["critical", "warning"].map(|severity| {
            let labels = format!("        labels: {{severity: {severity}}}");
            rule.contains(&labels)
        });
        assert!(severity.contains(&true), "{name} has no severity");
    }
}

#[test]
fn every_alert_has_a_test() {
    let tests = include_str!("../chart/rules.test.yml");
    let tested = named(tests, "alertname=\"");
    let alerts: BTreeSet<&str> = rules(RULES).into_iter().map(|(name, _)| name).collect();
    assert_eq!(tested, alerts);
}

#[test]
fn what_is_recorded_is_what_is_asked_for() {
    let recorded = named(RULES, "      - record: ");
    let asked = |text| -> BTreeSet<String> {
        let names = named(text, "claviger:").into_iter();
        names.map(|name| format!("claviger:{name}")).collect()
    };
    assert_eq!(
        asked(RULES),
        recorded.into_iter().map(str::to_owned).collect()
    );
    let dashboard = include_str!("../../helm/claviger/files/dashboard.json");
    assert!(asked(dashboard).is_subset(&asked(RULES)));
}

/// The names of series in a text that are not followed by this selector.
fn unselected<'a>(text: &'a str, names: &[&str], selector: &str) -> Vec<&'a str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || "_:".contains(c);
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find(is_name) {
        rest = rest.split_at(start).1;
        let end = rest.find(|c| !is_name(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        rest = after;
        if names
            .iter()
            .any(|known| name == *known || (known.len() > 2 && name.starts_with(known)))
            && !after.starts_with(selector)
        {
            found.push(name);
        }
    }
    found
}

/// The chart puts the release and its namespace in the place of this one matcher.
#[test]
fn every_selector_of_the_rules_names_the_job() {
    let names = ["up", "claviger_", "claviger:", "process_"];
    let is_text = |line: &&str| {
        let line = line.trim_start();
        !["#", "- record:", "- name:", "summary:", "description:"]
            .iter()
            .any(|start| line.starts_with(start))
    };
    let expressions: Vec<&str> = RULES.lines().filter(is_text).collect();
    let expressions = expressions.join("\n");
    assert!(expressions.matches("{job=\"claviger\"").count() > 20);
    assert_eq!(
        unselected(&expressions, &names, "{job=\"claviger\""),
        Vec::<&str>::new()
    );
    assert_eq!(
        unselected(
            "up == 0 or claviger_a{job=\"claviger\",x=\"y\"}",
            &names,
            "{job="
        ),
        ["up"]
    );
}

/// What is wrong with a panel.
fn faults(panel: &Value) -> Vec<&'static str> {
    let text = |pointer: &str| panel.pointer(pointer).and_then(Value::as_str);
    let says = |pointer: &str| text(pointer).is_some_and(|text| !text.is_empty());
    let mut faults = Vec::new();
    if !says("/title") {
        faults.push("no title");
    }
    if text("/type") == Some("row") {
        return faults;
    }
    if !says("/description") {
        faults.push("no description");
    }
    if !says("/fieldConfig/defaults/unit") {
        faults.push("no unit");
    }
    if text("/datasource/uid") != Some("${datasource}") {
        faults.push("another data source than the one that was chosen");
    }
    let targets = panel["targets"].as_array().into_iter().flatten();
    let expressions: Vec<&str> = targets
        .filter_map(|target| target["expr"].as_str())
        .collect();
    if expressions.is_empty() {
        faults.push("no expression");
    }
    let ours = ["claviger_", "claviger:", "process_", "ALERTS"];
    let chosen = "{namespace=~\"$namespace\", job=~\"$job\"";
    if expressions
        .iter()
        .any(|expression| !unselected(expression, &ours, chosen).is_empty())
    {
        faults.push("a selector that leaves out what was chosen");
    }
    faults
}

#[test]
fn every_panel_says_what_it_shows() {
    let dashboard: Value =
        serde_json::from_str(include_str!("../../helm/claviger/files/dashboard.json")).unwrap();
    // Links lead to it, and the chart and Compose update what has it.
    assert_eq!(dashboard["uid"], "claviger");
    let panels = dashboard["panels"].as_array().unwrap();
    assert!(panels.len() > 20);
    let mut ids = BTreeSet::new();
    for panel in panels {
        assert_eq!(faults(panel), Vec::<&str>::new(), "{}", panel["title"]);
        assert!(ids.insert(panel["id"].as_u64()), "{}", panel["title"]);
    }
    let good = panels.last().unwrap();
    for (pointer, fault) in [
        ("/title", "no title"),
        ("/description", "no description"),
        ("/fieldConfig/defaults/unit", "no unit"),
        (
            "/datasource/uid",
            "another data source than the one that was chosen",
        ),
        ("/targets", "no expression"),
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(pointer).unwrap() = Value::Null;
        assert_eq!(faults(&bad), [fault]);
    }
    let mut bad = good.clone();
    bad["targets"][0]["expr"] = "claviger_hash_workers{job=\"claviger\"}".into();
    assert_eq!(faults(&bad), ["a selector that leaves out what was chosen"]);
}

#[test]
fn what_no_scrape_has_would_be_seen() {
    let scrape = "# TYPE claviger_a_total counter\nclaviger_a_total{outcome=\"good\",route=\"/\"} 1\n\
                  claviger_b_seconds_bucket{le=\"1\"} 1\nprocess_c 1\n";
    for expression in [
        "sum by (outcome, instance) (rate(claviger_a_total{outcome=\"good\", instance=~\"$x\"}[5m]))",
        "histogram_quantile(0.99, sum by (le) (claviger_b_seconds_bucket)) > process_c",
        "up{job=\"claviger\"}",
        "claviger_a_total{route=~\".+\"} / on (job, namespace) claviger_b_seconds_bucket{le=\"1\"}",
        "claviger_a_total{route!=\"unmatched\"}",
    ] {
        assert_eq!(missing(expression, scrape), Vec::<String>::new());
    }
    for (expression, expected) in [
        ("rate(claviger_a[5m])", "claviger_a"),
        ("claviger_b_seconds", "claviger_b_seconds"),
        ("x + process_d", "process_d"),
        (
            "claviger_a_total{outcome=\"bad\"}",
            "claviger_a_total{outcome=\"bad\"}",
        ),
        (
            "claviger_a_total{method=~\".*\"}",
            "claviger_a_total{method=~\".*\"}",
        ),
        (
            "claviger_a_total{method!=\"GET\"}",
            "claviger_a_total{method!=\"GET\"}",
        ),
        (
            "claviger_b_seconds_bucket{le=\"2\"}",
            "claviger_b_seconds_bucket{le=\"2\"}",
        ),
        ("sum by (method) (claviger_a_total)", "by (method)"),
        ("x / on (method) y", "by (method)"),
    ] {
        assert_eq!(missing(expression, scrape), [expected]);
    }
}
