//! The hash gate against bare argon2, both at the default cost and in memory that is kept. What the gate adds (queue,
//! hand-over to a thread and back, the comparison) is the difference.
//!
//! `bare`, two threads: the most that two cores can hash. `gate`: as many logins as two workers keep busy. Compare only
//! figures of one run: the speed of a shared machine drifts, and what else runs on it slows the gate more than the bare
//! runs, because the gate's threads are niced.

#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that can't start has nothing better to do than to end"
)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use argon2::{Algorithm, Argon2, Block, Params, Version};
use claviger::auth::hash_pool::sizing::Sizing;
use claviger::auth::hash_pool::{HashPool, Observer};
use claviger::auth::password::Password;
use claviger::config;
use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use secrecy::SecretString;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const WORKERS: usize = 2;

fn settings() -> config::Password {
    config::Password {
        workers: Some(WORKERS),
        queue: Some(1024),
        queue_timeout: Duration::from_mins(1),
        ..config::Config::default().password
    }
}

fn bare_run(memory: &mut [Block]) {
    let settings = settings();
    let params = Params::new(
        settings.memory_kib,
        settings.iterations,
        settings.parallelism,
        Some(32),
    )
    .unwrap();
    let mut output = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
        .hash_password_into_with_memory(
            b"correct horse battery",
            b"saltsaltsaltsalt",
            &mut output,
            memory,
        )
        .unwrap();
    black_box(output);
}

fn memory() -> Vec<Block> {
    vec![Block::new(); settings().memory_kib as usize]
}

/// How long `threads` threads take for `runs` runs between them.
fn bare(threads: usize, runs: u64) -> Duration {
    let mut memories: Vec<_> = (0..threads).map(|_| memory()).collect();
    let left = std::sync::atomic::AtomicU64::new(runs);
    let start = Instant::now();
    std::thread::scope(|scope| {
        for memory in &mut memories {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::Relaxed;
                while left
                    .fetch_update(Relaxed, Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    bare_run(memory);
                }
            });
        }
    });
    start.elapsed()
}

/// How long `clients` clients, each with one login after the other, take for `runs` logins between them.
async fn gate(pool: &HashPool, clients: u64, runs: u64) -> Duration {
    let mut tasks = JoinSet::new();
    let start = Instant::now();
    for client in 0..clients {
        let pool = pool.clone();
        // The runs that don't divide evenly go to the first clients.
        let share = runs / clients + u64::from(client < runs % clients);
        tasks.spawn(async move {
            let password = Password::parse(SecretString::from("correct horse battery")).unwrap();
            for _ in 0..share {
                black_box(pool.verify(&password, None).await.unwrap());
            }
        });
    }
    tasks.join_all().await;
    start.elapsed()
}

fn hash_gate(criterion: &mut Criterion) {
    let runtime = Runtime::new().unwrap();
    let pool = HashPool::start(
        &settings(),
        &Sizing::detect(&settings()).unwrap(),
        Observer::default(),
    )
    .unwrap();
    let mut group = criterion.benchmark_group("hash");
    group
        .throughput(Throughput::Elements(1))
        .sample_size(10)
        .measurement_time(Duration::from_secs(10));
    // As many runs in each sample; a few runs say nothing about many clients.
    group.sampling_mode(SamplingMode::Flat);
    for threads in [1, WORKERS] {
        group.bench_function(format!("bare, {threads} threads"), |bencher| {
            bencher.iter_custom(|runs| bare(threads, runs));
        });
    }
    for clients in [1, 16, 256] {
        group.bench_function(format!("gate, {clients} clients"), |bencher| {
            bencher.iter_custom(|runs| runtime.block_on(gate(&pool, clients, runs)));
        });
    }
    group.finish();
}

criterion_group!(benches, hash_gate);
criterion_main!(benches);
