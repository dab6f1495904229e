//! The counters of attempts, the same rules in Redis and in this process.

use std::time::Duration;

use claviger::config::{Config, Rate};
use claviger::store::attempts::{Attempts, Grant, Refusal, Reserved, Step};
use claviger::store::tokens::Tokens;
use proptest::prelude::*;
use rstest::rstest;

use crate::common::{Backend, RedisServer, redis_url, unique};

const RATE: Rate = Rate {
    count: 3,
    per: MINUTES_15,
};
const MINUTES_15: Duration = Duration::from_mins(15);
const DAY: Duration = Duration::from_hours(24);

fn attempts(backend: Backend) -> Attempts {
    let mut settings = Config::default().tokens;
    settings.timeout = Duration::from_secs(20);
    if backend == Backend::External {
        settings.url = redis_url();
    }
    let tokens = Tokens::open(&settings).unwrap();
    tokens.belong_to(&unique("attempts-"));
    Attempts::beside(&tokens)
}

async fn grant(attempts: &Attempts, network: &str, rate: Rate) -> Grant {
    match attempts.reserve("alice", network, rate).await.unwrap() {
        Reserved::Granted(grant) => grant,
        Reserved::Refused(refusal) => panic!("{refusal:?}"),
    }
}

async fn refusal(attempts: &Attempts, network: &str, rate: Rate) -> Refusal {
    match attempts.reserve("alice", network, rate).await.unwrap() {
        Reserved::Granted(_) => panic!("granted"),
        Reserved::Refused(refusal) => refusal,
    }
}

async fn attempt(attempts: &Attempts, network: &str, rate: Rate, step: Step) {
    let grant = grant(attempts, network, rate).await;
    let settled = attempts.settle("alice", network, rate, &grant, step).await;
    settled.unwrap();
}

/// What is told is what is left of it.
fn about(told: Duration, expected: Duration) {
    // The clock goes on between two steps, and a busy machine takes its time.
    let least = expected.saturating_sub(Duration::from_secs(20));
    assert!(told <= expected && told > least, "{told:?} of {expected:?}");
}

#[rstest]
#[tokio::test]
async fn over_the_limit_each_failure_doubles_the_wait(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    for _ in 0..3 {
        attempt(&attempts, "a", RATE, Step::Failed).await;
    }
    let mut later = Duration::ZERO;
    for delay in [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900] {
        let delay = Duration::from_secs(delay);
        let now = attempts.ahead(later);
        let told = refusal(&now, "b", RATE).await.retry_after;
        about(told, delay);
        // What was told is true: not a moment before, and then one.
        later += told;
        attempt(&attempts.ahead(later), "b", RATE, Step::Failed).await;
    }
    // A window after the last wait it is forgotten.
    later += MINUTES_15 + MINUTES_15;
    let now = attempts.ahead(later);
    for _ in 0..3 {
        attempt(&now, "a", RATE, Step::Failed).await;
    }
    refusal(&now, "a", RATE).await;
}

#[rstest]
#[tokio::test]
async fn failures_are_forgotten_a_window_after_the_first(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    attempt(&attempts, "a", RATE, Step::Failed).await;
    let later = attempts.ahead(MINUTES_15.mul_f64(0.5));
    attempt(&later, "a", RATE, Step::Failed).await;
    let next = attempts.ahead(MINUTES_15);
    for _ in 0..3 {
        attempt(&next, "a", RATE, Step::Failed).await;
    }
    refusal(&next, "a", RATE).await;
}

/// Security checklist, 11 and 12.
#[rstest]
#[tokio::test]
async fn attempts_in_flight_count_until_they_are_settled(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    let mut flying = Vec::new();
    for _ in 0..3 {
        flying.push(grant(&attempts, "a", RATE).await);
    }
    let first = refusal(&attempts, "a", RATE).await;
    assert!(first.first && !refusal(&attempts, "b", RATE).await.first);
    let settle = async |grant: &Grant, step| {
        let settled = attempts.settle("alice", "a", RATE, grant, step).await;
        settled.unwrap();
    };
    // One that nobody looked at, and one that was right, make room; and nothing else is left of them.
    settle(&flying[0], Step::Abandoned).await;
    settle(&flying[1], Step::Succeeded).await;
    settle(&flying[2], Step::Abandoned).await;
    for _ in 0..3 {
        attempt(&attempts, "b", RATE, Step::Failed).await;
    }
    refusal(&attempts, "b", RATE).await;
}

/// What is told is also true if those who are under way fail a little later.
#[rstest]
#[tokio::test]
async fn whoever_waits_for_attempts_in_flight_is_told_enough(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    let mut flying = Vec::new();
    for _ in 0..3 {
        flying.push(grant(&attempts, "a", RATE).await);
    }
    let told = refusal(&attempts, "a", RATE).await.retry_after;
    let later = attempts.ahead(Duration::from_millis(500));
    for grant in &flying {
        let failed = later.settle("alice", "a", RATE, grant, Step::Failed);
        failed.await.unwrap();
    }
    grant(&attempts.ahead(told), "a", RATE).await;
}

/// Security checklist, 14.
#[rstest]
#[tokio::test]
async fn a_network_that_is_known_has_a_bucket_of_its_own_for_thirty_days(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    attempt(&attempts, "home", RATE, Step::Succeeded).await;
    for _ in 0..3 {
        attempt(&attempts, "a", RATE, Step::Failed).await;
    }
    refusal(&attempts, "b", RATE).await;
    // The owner can still fail as often as anybody, and log in; and that gives the stranger nothing.
    for _ in 0..2 {
        attempt(&attempts, "home", RATE, Step::Failed).await;
    }
    attempt(&attempts, "home", RATE, Step::Succeeded).await;
    refusal(&attempts, "b", RATE).await;

    let month = attempts.ahead(30 * DAY + DAY);
    for _ in 0..3 {
        attempt(&month, "a", RATE, Step::Failed).await;
    }
    refusal(&month, "home", RATE).await;
}

/// Security checklist, 10.
#[rstest]
#[tokio::test]
async fn after_a_hundred_failures_in_a_row_strangers_have_one_attempt_a_day(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    // So that nothing but the row counts.
    let rate = Rate {
        count: 1_000,
        ..RATE
    };
    attempt(&attempts, "home", rate, Step::Succeeded).await;
    for number in 0..100 {
        attempt(&attempts, &number.to_string(), rate, Step::Failed).await;
    }
    let told = refusal(&attempts, "a", rate).await;
    about(told.retry_after, DAY);
    assert!(told.first && !refusal(&attempts, "b", rate).await.first);
    attempt(&attempts, "home", rate, Step::Failed).await;

    // One, and an attempt at which nobody looked is given back.
    let next = attempts.ahead(told.retry_after);
    attempt(&next, "a", rate, Step::Abandoned).await;
    attempt(&next, "a", rate, Step::Failed).await;
    about(refusal(&next, "b", rate).await.retry_after, DAY);

    // Until somebody unlocks it, or logs in.
    assert!(next.unlock("alice").await.unwrap());
    assert!(!next.unlock("alice").await.unwrap());
    for _ in 0..100 {
        attempt(&next, "a", rate, Step::Failed).await;
    }
    refusal(&next, "a", rate).await;
    attempt(&next, "home", rate, Step::Succeeded).await;
    attempt(&next, "a", rate, Step::Failed).await;
}

#[rstest]
#[tokio::test]
async fn unlocking_leaves_known_networks_known(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    attempt(&attempts, "home", RATE, Step::Succeeded).await;
    for network in ["home", "a"] {
        for _ in 0..3 {
            attempt(&attempts, network, RATE, Step::Failed).await;
        }
        refusal(&attempts, network, RATE).await;
    }
    assert!(attempts.unlock("alice").await.unwrap());
    for network in ["home", "a"] {
        for _ in 0..3 {
            attempt(&attempts, network, RATE, Step::Failed).await;
        }
    }
}

/// Security checklist, 45.
#[rstest]
#[tokio::test]
async fn a_network_is_refused_for_its_failures_until_the_window_is_over(
    #[values(Backend::Embedded, Backend::External)] backend: Backend,
) {
    let attempts = attempts(backend);
    for network in ["a", "a", "b", "a"] {
        assert_eq!(attempts.ask(network, RATE).await.unwrap(), None);
        attempts.count(network, RATE).await.unwrap();
    }
    let refusal = attempts.ask("a", RATE).await.unwrap().unwrap();
    about(refusal.retry_after, MINUTES_15);
    assert!(refusal.first && !attempts.ask("a", RATE).await.unwrap().unwrap().first);
    assert_eq!(attempts.ask("b", RATE).await.unwrap(), None);
}

/// Security checklist, 41: private keys are no strings, have an end, and name neither accounts nor addresses.
#[tokio::test]
async fn keys_have_an_end_and_name_nobody() {
    let redis = RedisServer::start();
    let mut settings = Config::default().tokens;
    settings.url.clone_from(&redis.url);
    let tokens = Tokens::open(&settings).unwrap();
    tokens.belong_to("here");
    let attempts = Attempts::beside(&tokens);
    let ttl = async |pattern: &str| -> Duration {
        let keys: Vec<String> = redis.ask(&["KEYS", pattern]).await;
        assert_eq!(keys.len(), 1, "{keys:?}");
        assert_eq!(redis.ask::<String>(&["TYPE", &keys[0]]).await, "hash");
        assert!(
            !keys[0].contains("alice") && !keys[0].contains("192.0.2"),
            "{keys:?}"
        );
        Duration::from_millis(redis.ask(&["PTTL", &keys[0]]).await)
    };
    let flying = grant(&attempts, "192.0.2.1", RATE).await;
    about(ttl("*:attempts").await, MINUTES_15);
    let failed = attempts.settle("alice", "192.0.2.1", RATE, &flying, Step::Failed);
    failed.await.unwrap();
    attempts.count("192.0.2.1", RATE).await.unwrap();
    about(ttl("*:attempts").await, DAY);
    about(ttl("*:failures").await, MINUTES_15);
    attempt(&attempts, "192.0.2.1", RATE, Step::Failed).await;
    about(ttl("*:attempts").await, 2 * DAY);
    attempt(&attempts, "192.0.2.1", RATE, Step::Succeeded).await;
    about(ttl("*:attempts").await, 30 * DAY);
    let keys: Vec<String> = redis.ask(&["KEYS", "*:attempts"]).await;
    let fields: Vec<String> = redis.ask(&["HGETALL", &keys[0]]).await;
    assert!(
        !fields.iter().any(|field| field.contains("192.0.2")),
        "{fields:?}"
    );
}

/// A thing that somebody does to the account.
#[derive(Clone, Debug)]
enum Deed {
    Reserve(u8),
    Settle(usize, Step),
    Wait(u64),
    Unlock,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let step = prop_oneof![
        6 => Just(Step::Failed),
        1 => Just(Step::Succeeded),
        1 => Just(Step::Abandoned)
    ];
    let deed = prop_oneof![
        8 => (0..4_u8).prop_map(Deed::Reserve),
        8 => (any::<usize>(), step).prop_map(|(which, step)| Deed::Settle(which, step)),
        // Steps that the few seconds of the test itself do not matter beside.
        2 => prop_oneof![Just(100), Just(1_000), Just(20_000), Just(90_000)].prop_map(Deed::Wait),
        1 => Just(Deed::Unlock)
    ];
    prop::collection::vec(deed, 1..150)
}

/// What one of the stores answers to all of these.
async fn carry_out(attempts: &Attempts, deeds: &[Deed]) -> Vec<String> {
    let rate = Rate {
        count: 3,
        per: MINUTES_15,
    };
    let (mut ahead, mut flying, mut told) = (Duration::ZERO, Vec::new(), Vec::new());
    attempt(attempts, "network 0", rate, Step::Succeeded).await;
    for deed in deeds {
        let now = attempts.ahead(ahead);
        match deed {
            Deed::Reserve(network) => {
                let network = format!("network {network}");
                match now.reserve("alice", &network, rate).await.unwrap() {
                    Reserved::Granted(grant) => {
                        flying.push((network, grant));
                        told.push("granted".to_owned());
                    }
                    Reserved::Refused(refusal) => {
                        // To half a minute, or that it is short.
                        let half_minutes = (refusal.retry_after.as_secs() + 15) / 30;
                        told.push(format!("{half_minutes} {}", refusal.first));
                    }
                }
            }
            Deed::Settle(which, step) if !flying.is_empty() => {
                let (network, grant) = flying.swap_remove(which % flying.len());
                let settled = now.settle("alice", &network, rate, &grant, *step);
                settled.await.unwrap();
            }
            Deed::Settle(..) => {}
            // In seconds. Redis does not forget a key for what is only asked as if it were later, so it must not be time for that.
            Deed::Wait(seconds) => ahead = (ahead + Duration::from_secs(*seconds)).min(29 * DAY),
            Deed::Unlock => told.push(now.unlock("alice").await.unwrap().to_string()),
        }
    }
    told
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn redis_and_this_process_have_the_same_rules(deeds in deeds()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let (memory, redis) = runtime.block_on(async {
            let memory = carry_out(&attempts(Backend::Embedded), &deeds).await;
            (memory, carry_out(&attempts(Backend::External), &deeds).await)
        });
        prop_assert_eq!(memory, redis);
    }
}
