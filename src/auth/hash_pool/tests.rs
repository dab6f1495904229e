//! The gate under load, and what its tests stand on.

mod verification;

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};

use rstest::rstest;

use self::verification::{REFERENCE, SCRYPT};
use super::queue::Ticket;
use super::*;
use crate::telemetry::RequestId;

/// Of `"p\u{e4}ssword"`, made with argon2-cffi 25.1 (the C reference implementation), with what is the current cost here.
const CURRENT: &str =
    "$argon2id$v=19$m=8,t=1,p=1$c2FsdHNhbHRzYWx0c2FsdA$OdFYA7BxGSdTRBBwiJ5KZBUWydkzbjB1JVmWwfypW80";

fn settings() -> config::Password {
    config::Password {
        memory_kib: 8,
        iterations: 1,
        parallelism: 1,
        min_length: 15,
        workers: Some(1),
        queue: None,
        queue_timeout: Duration::from_mins(1),
        foreign_max_mib: 128,
    }
}

/// A gate, and the runs that its observer was told of.
fn start(settings: &config::Password) -> (HashPool, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&runs);
    let observer = Observer {
        run: Box::new(move |_| {
            seen.fetch_add(1, Ordering::SeqCst);
        }),
        ..Observer::default()
    };
    let sizing = Sizing::choose(settings, 1, None).unwrap();
    (HashPool::start(settings, &sizing, observer).unwrap(), runs)
}

fn password(text: &str) -> Password {
    Password::parse(SecretString::from(text)).unwrap()
}

fn call(pool: &HashPool, foreign: bool, call: impl FnOnce() + Send + 'static) -> Ticket {
    pool.0
        .gate
        .enqueue(Work::Call(Box::new(call)), foreign)
        .unwrap()
}

fn verification(pool: &HashPool) -> Result<Ticket, HashError> {
    let work = Work::Verify {
        password: password("password"),
        stored: None,
        rehash: false,
    };
    pool.0.gate.enqueue(work, false)
}

/// Occupies a worker. It is busy when this returns, and until the sender is used or dropped.
fn occupy(pool: &HashPool, foreign: bool) -> (Ticket, mpsc::Sender<()>) {
    let (started, has_started) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let ticket = call(pool, foreign, move || {
        started.send(()).unwrap();
        let _released_or_dropped = released.recv();
    });
    has_started.recv().unwrap();
    (ticket, release)
}

#[tokio::test]
async fn a_full_queue_refuses_without_a_run() {
    let (pool, runs) = start(&config::Password {
        queue: Some(1),
        ..settings()
    });
    let (_busy, _release) = occupy(&pool, false);
    let _waiting = verification(&pool).unwrap();
    let refused = pool.verify(&password("password"), None).await.unwrap_err();
    assert_eq!(
        refused,
        HashError::Overloaded {
            retry_after: Duration::from_secs(1)
        }
    );
    assert_eq!(pool.hash(&password("password")).await.unwrap_err(), refused);
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    let stats = pool.stats();
    assert_eq!(
        (
            stats.busy,
            stats.queued,
            stats.queue_capacity,
            stats.refused
        ),
        (1, 1, 1, 2)
    );
}

#[tokio::test]
async fn without_places_to_wait_a_free_worker_still_takes_a_job() {
    let (pool, runs) = start(&config::Password {
        queue: Some(0),
        ..settings()
    });
    pool.verify(&password("password"), None).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    let (_busy, _release) = occupy(&pool, false);
    assert!(matches!(
        verification(&pool).map(drop),
        Err(HashError::Overloaded { .. })
    ));
}

#[test]
fn a_queue_that_is_too_long_in_time_refuses_and_says_when_to_come_back() {
    let (pool, _) = start(&config::Password {
        queue: Some(1000),
        queue_timeout: Duration::from_secs(2),
        ..settings()
    });
    // It has measured its first run when it takes a job, so what is told now counts.
    let (_busy, _release) = occupy(&pool, false);
    pool.0.gate.observe_run(Duration::from_secs(8), true);
    // The mean is now a little over one second.
    let _first = verification(&pool).unwrap();
    let _second = verification(&pool).unwrap();
    let refused = verification(&pool).map(drop);
    assert_eq!(
        refused,
        Err(HashError::Overloaded {
            retry_after: Duration::from_secs(3)
        })
    );
    assert_eq!(pool.stats().queued, 2);
}

#[test]
fn a_run_of_another_cost_says_nothing_about_the_queue() {
    let (pool, _) = start(&settings());
    let (_busy, _release) = occupy(&pool, false);
    pool.0.gate.observe_run(Duration::from_secs(1000), false);
    let _first = verification(&pool).unwrap();
    assert_eq!(pool.0.gate.retry_after(), Duration::from_secs(1));
}

#[tokio::test]
async fn who_waits_too_long_is_told_while_the_worker_is_still_busy() {
    let (pool, runs) = start(&config::Password {
        queue_timeout: Duration::from_millis(1),
        ..settings()
    });
    let (_busy, _release) = loop {
        // A slow machine may miss the deadline of one millisecond here.
        let (started, has_started) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let ticket = call(&pool, false, move || {
            started.send(()).unwrap();
            let _released_or_dropped = released.recv();
        });
        if has_started.recv().is_ok() {
            break (ticket, release);
        }
    };
    let refused = pool.verify(&password("password"), None).await;
    assert!(matches!(refused, Err(HashError::Overloaded { .. })));
    assert_eq!((pool.stats().busy, pool.stats().queued), (1, 0));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
}

#[test]
fn a_worker_runs_nothing_that_is_past_its_deadline() {
    let (pool, runs) = start(&config::Password {
        queue_timeout: Duration::ZERO,
        ..settings()
    });
    // Never polled, so it is the worker that finds it late.
    let ticket = verification(&pool).unwrap();
    assert!(matches!(
        ticket.blocking_answer(),
        Err(HashError::Overloaded { .. })
    ));
    assert_eq!(runs.load(Ordering::SeqCst), 0);
    assert_eq!(pool.stats().refused, 1);
}

#[tokio::test]
async fn who_leaves_gives_up_the_place() {
    let (pool, runs) = start(&settings());
    let (busy, release) = occupy(&pool, false);
    {
        let password = password("password");
        let mut first = pin!(pool.verify(&password, None));
        let mut second = pin!(pool.hash(&password));
        let mut context = Context::from_waker(Waker::noop());
        assert!(first.as_mut().poll(&mut context).is_pending());
        assert!(second.as_mut().poll(&mut context).is_pending());
        assert_eq!(pool.stats().queued, 2);
    }
    assert_eq!(pool.stats().queued, 0);
    drop(release);
    busy.answer().await.unwrap();
    pool.verify(&password("password"), None).await.unwrap();
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_panic_ends_one_job_and_no_worker() {
    let (pool, runs) = start(&settings());
    let failed = call(&pool, false, || panic!("a panic that a test asked for"))
        .answer()
        .await;
    assert!(matches!(failed, Err(HashError::Internal)));
    let verdict = pool
        .verify(
            &password("p\u{e4}ssword"),
            Some(&SecretString::from(CURRENT)),
        )
        .await
        .unwrap();
    assert!(verdict.matches);
    assert_eq!((pool.stats().workers, pool.stats().busy), (1, 0));
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[test]
fn first_in_first_out() {
    let (pool, _) = start(&settings());
    let (_busy, release) = occupy(&pool, false);
    let (sender, order) = mpsc::channel();
    let mut tickets: Vec<Ticket> = (0..20)
        .map(|number| {
            let sender = sender.clone();
            call(&pool, false, move || sender.send(number).unwrap())
        })
        .collect();
    // Taking some out changes no order.
    tickets.remove(15);
    tickets.remove(7);
    drop((release, sender));
    let order: Vec<i32> = order.iter().collect();
    assert_eq!(
        order,
        (0..20)
            .filter(|number| ![7, 15].contains(number))
            .collect::<Vec<_>>()
    );
}

#[test]
fn closing_finishes_what_waits_and_takes_nothing_more() {
    let (pool, runs) = start(&settings());
    let (busy, release) = occupy(&pool, false);
    let waiting = verification(&pool).unwrap();
    let closing = std::thread::spawn({
        let pool = pool.clone();
        move || pool.close()
    });
    // Closed from here on, if not before: the other thread and this one do the same.
    pool.0.gate.close();
    assert!(matches!(
        verification(&pool).map(drop),
        Err(HashError::Closed)
    ));
    drop(release);
    closing.join().unwrap();
    assert!(busy.blocking_answer().is_ok());
    assert!(waiting.blocking_answer().is_ok());
    assert_eq!(runs.load(Ordering::SeqCst), 1);
    assert!(pool.0.threads().is_empty());
}

#[test]
fn the_threads_end_with_the_last_clone() {
    let (pool, _) = start(&settings());
    let gate = Arc::clone(&pool.0.gate);
    drop(pool.clone());
    assert!(
        gate.enqueue(
            Work::Hash {
                password: password("password")
            },
            false
        )
        .is_ok()
    );
    drop(pool);
    // The workers' own references are gone.
    assert_eq!(Arc::strong_count(&gate), 1);
}

/// Both need more than the 8 KiB that a worker has here.
#[rstest]
#[case::argon2(REFERENCE[0].1)]
#[case::scrypt(SCRYPT)]
#[tokio::test]
async fn hashes_that_need_more_memory_run_one_at_a_time_and_hold_up_nobody_else(
    #[case] stored: &str,
) {
    let (pool, _) = start(&config::Password {
        workers: Some(2),
        ..settings()
    });
    let (first, release) = occupy(&pool, true);
    // A real one behind it, and a common one behind that, which the second worker takes.
    let stored = SecretString::from(stored);
    let (password, mut context) = (password("password"), Context::from_waker(Waker::noop()));
    let mut second = pin!(pool.verify(&password, Some(&stored)));
    assert!(second.as_mut().poll(&mut context).is_pending());
    pool.verify(&password, None).await.unwrap();
    assert_eq!((pool.stats().busy, pool.stats().queued), (1, 1));
    assert!(matches!(second.as_mut().poll(&mut context), Poll::Pending));

    drop(release);
    first.answer().await.unwrap();
    assert!(second.await.unwrap().matches);
    assert_eq!(pool.stats().busy, 0);
}

#[test]
fn a_worker_is_named_and_nicer_than_the_rest() {
    let (pool, _) = start(&settings());
    let (sender, receiver) = mpsc::channel();
    let _ticket = call(&pool, false, move || {
        let name = std::thread::current().name().map(str::to_owned);
        sender
            .send((name, rustix::process::getpriority_process(None).unwrap()))
            .unwrap();
    });
    let (name, niceness) = receiver.recv().unwrap();
    assert_eq!(name.as_deref(), Some("claviger-hash-0"));
    if cfg!(target_os = "linux") {
        assert_eq!(
            niceness,
            (rustix::process::getpriority_process(None).unwrap() + 10).min(19)
        );
    }
}

#[test]
fn a_cost_that_argon2_refuses_names_the_settings() {
    for (memory_kib, iterations, parallelism) in [
        (7, 1, 1),
        (8, 0, 1),
        (8, 1, 0),
        (8, 1, 2),
        (u32::MAX, 1, u32::MAX),
    ] {
        let settings = config::Password {
            memory_kib,
            iterations,
            parallelism,
            ..settings()
        };
        let sizing = Sizing::choose(&settings, 1, None).unwrap();
        let error = HashPool::start(&settings, &sizing, Observer::default()).unwrap_err();
        assert!(matches!(error, StartError::Cost(_)));
        assert!(error.to_string().contains("password.memory_kib"), "{error}");
    }
}

#[tokio::test]
async fn what_a_worker_logs_carries_the_id_of_the_request() {
    let (pool, _) = start(&settings());
    let (sender, receiver) = mpsc::channel();
    let id = axum::http::HeaderValue::from_static("of-the-caller-1");
    let expected = crate::telemetry::with_request_id(id, async {
        let job = move || sender.send(RequestId::current()).unwrap();
        let _ = call(&pool, false, job).answer().await;
        RequestId::current()
    })
    .await;
    assert_eq!(receiver.recv().unwrap(), expected);
    assert_ne!(expected, RequestId::current());
}

/// A subscriber of the whole process, as in the service, needs a process of its own.
#[test]
fn wait_and_run_are_spans() {
    let test = "auth::hash_pool::tests::wait_and_run_are_spans_below_the_callers";
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--ignored"])
        .output();
    let output = String::from_utf8(output.unwrap().stdout).unwrap();
    assert!(output.contains("test result: ok. 1 passed"), "{output}");
}

/// The spans of a job belong to the caller's trace.
#[tokio::test]
#[ignore = "wait_and_run_are_spans runs it, in a process of its own"]
async fn wait_and_run_are_spans_below_the_callers() {
    use tracing::Instrument as _;
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    #[derive(Clone, Default)]
    struct Record(Arc<Mutex<Vec<String>>>);
    impl<S> tracing_subscriber::Layer<S> for Record
    where
        S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    {
        fn on_close(&self, id: tracing::span::Id, context: Context<'_, S>) {
            let span = context.span(&id).unwrap();
            let parent = span.parent().map_or("none", |parent| parent.name());
            self.0
                .lock()
                .unwrap()
                .push(format!("{} below {parent}", span.name()));
        }
    }

    let record = Record::default();
    let subscriber = tracing_subscriber::registry().with(record.clone());
    tracing::subscriber::set_global_default(subscriber).unwrap();
    let (pool, _) = start(&settings());
    let password = password("password");
    pool.verify(&password, None)
        .instrument(tracing::info_span!("login"))
        .await
        .unwrap();
    assert_eq!(
        *record.0.lock().unwrap(),
        [
            "hash_wait below login",
            "hash below login",
            "login below none"
        ]
    );
}
