//! What many clients do beside each other, while random delays stand between the steps of the service, is recorded, and has to
//! be explainable by some order of single steps; and in the end nothing may be left that nobody knows of.
//!
//! Each run has a seed, which the test prints. `HISTORY_SEED` makes the clients and the delays choose the same again: what
//! comes of it depends on the servers too, so a counter-example may need some runs to come again. `HISTORY_SECONDS` is how
//! long it goes on, in runs of twenty seconds at most.

mod check;
mod cluster;
mod drive;
mod examples;
mod leftovers;
mod model;
mod service;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use claviger::config::{Config, TokenKey};
use rstest::rstest;
use tokio::task::JoinSet;

use self::check::counter_examples;
use self::cluster::Cluster;
use self::leftovers::Store;
use self::model::Operation;
use self::service::{Place, Service, Setting};

const SECONDS: u64 = 5;

/// In seconds: the search for a counter-example grows faster than the history.
const LONGEST_RUN: u64 = 20;

/// Counter-examples that are printed. The first ones mostly say it.
const SHOWN: usize = 5;

/// How often it is looked whether the last steps of clients that left are done.
const LOOKS: usize = 20;

const MEMORY: Setting = Setting {
    place: Place::Memory,
    lost_one_in: 0,
    pause: Duration::from_millis(60),
    most: None,
    set: |_| (),
};

const REDIS: Setting = Setting {
    place: Place::Redis,
    pause: Duration::from_millis(20),
    ..MEMORY
};

const CLUSTER: Setting = Setting {
    place: Place::Cluster,
    ..REDIS
};

const FEW: Option<usize> = Some(6);

/// Each token has another key than itself, and a second one.
fn hashed_and_idle(config: &mut Config) {
    config.tokens.key = TokenKey::Sha256;
    config.tokens.idle_ttl = Some(Duration::from_hours(1));
}

#[rstest]
#[case::in_memory(MEMORY)]
#[case::in_memory_with_few_sessions(Setting { most: FEW, ..MEMORY })]
#[case::in_redis(REDIS)]
#[case::in_redis_with_few_sessions(Setting { most: FEW, set: hashed_and_idle, ..REDIS })]
#[case::in_redis_that_loses_connections(Setting { lost_one_in: 150, ..REDIS })]
#[case::in_a_cluster(Setting { set: hashed_and_idle, ..CLUSTER })]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_clients_were_told_can_be_explained(#[case] setting: Setting) {
    let seconds = number_of("HISTORY_SECONDS").unwrap_or(SECONDS);
    let first = number_of("HISTORY_SEED").unwrap_or_else(rand::random);
    let runs = seconds.div_ceil(LONGEST_RUN).max(1);
    let time = Duration::from_secs(seconds) / u32::try_from(runs).unwrap();
    let cluster = match setting.place {
        Place::Cluster => Some(Arc::new(Cluster::start(setting.lost_one_in).await)),
        Place::Memory | Place::Redis => None,
    };
    for seed in (0..runs).map(|run| first.wrapping_add(run)) {
        Box::pin(run(setting, cluster.clone(), seed, time)).await;
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the tests says how long, and what to try again"
)]
fn number_of(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    let number = value.parse();
    Some(number.unwrap_or_else(|_| panic!("{variable} is no number: {value}")))
}

/// What happens in every run, or it would show nothing: action and outcome, as the summary names them. That a token is refused
/// shows that sessions were ended.
const SEEN: [(&str, &str); 4] = [
    ("log in", "done"),
    ("check", "done"),
    ("check", "401"),
    ("list", "done"),
];

async fn run(setting: Setting, cluster: Option<Arc<Cluster>>, seed: u64, time: Duration) {
    let thread = std::thread::current();
    let name = thread.name().unwrap_or_default();
    println!("HISTORY_SEED={seed}, {} s of {name}", time.as_secs());
    let mut tasks = JoinSet::new();
    let service = Box::pin(Service::start(setting, cluster, seed, &mut tasks)).await;
    let service = Arc::new(service);
    let mut history = drive::run(&service, seed, time, setting.pause).await;
    service.calm_down(&mut tasks).await;
    let summary = summary(&history);
    println!("HISTORY_SEED={seed}: {summary}");
    for (action, outcome) in SEEN {
        let done = |operation: &Operation| {
            operation.action.name() == action && operation.outcome.name() == outcome
        };
        assert!(
            history.iter().any(done),
            "never: {action}, {outcome}; {summary}"
        );
    }

    let store = match setting.place {
        Place::Memory => None,
        Place::Redis | Place::Cluster => Some(Store::of(&service).await),
    };
    let mut complaints = Vec::new();
    // What a client that left has asked for may still be on its way.
    for _ in 0..LOOKS {
        history.extend(drive::look(&service).await);
        if let Some(store) = &store {
            let faulty = setting.lost_one_in > 0;
            complaints = store.complaints(&service, &history, faulty).await;
        }
        if complaints.is_empty() {
            break;
        }
    }
    history.sort_by_key(|operation| operation.call);
    complaints.extend(counter_examples(&history, setting.most));
    if !complaints.is_empty() {
        let all: String = history.iter().fold(String::new(), |mut text, operation| {
            writeln!(text, "{operation}").unwrap();
            text
        });
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("history-{seed}.txt"));
        std::fs::write(&file, all).unwrap();
        let shown = complaints.iter().take(SHOWN).cloned();
        panic!(
            "HISTORY_SEED={seed}, {name}: {} things can't be explained. All operations are in {}. The first ones:\n{}",
            complaints.len(),
            file.display(),
            shown.collect::<Vec<_>>().join("\n")
        );
    }
}

/// How often each thing was done, and what came of it.
fn summary(history: &[Operation]) -> String {
    let mut counts: BTreeMap<&str, BTreeMap<&str, usize>> = BTreeMap::new();
    for operation in history {
        let outcomes = counts.entry(operation.action.name()).or_default();
        *outcomes.entry(operation.outcome.name()).or_default() += 1;
    }
    let counts = counts.iter().map(|(action, outcomes)| {
        let outcomes = outcomes
            .iter()
            .map(|(name, count)| format!("{count} {name}"));
        format!("{action}: {}", outcomes.collect::<Vec<_>>().join(", "))
    });
    counts.collect::<Vec<_>>().join("; ")
}
