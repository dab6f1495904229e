//! The hash gate: the one place where passwords are hashed.
//!
//! A fixed set of threads, each with block memory of its own that is allocated once, and a bounded queue in front of them.
//! So memory and CPU have a limit however many clients log in at once, and a login that would wait too long is told so
//! at once instead of after its client has given up. The threads are niced: token checks come first.
//!
//! ```text
//! verify/hash -> queue: full, or too long?  -> Overloaded; nothing was touched
//!                  | first in, first out; who leaves is taken out
//!                  v
//!                worker: waited too long?   -> Overloaded
//!                  | the hash, in the worker's own memory
//!                  v
//!                answer
//! ```

mod memory;
mod queue;
pub mod sizing;
#[cfg(test)]
mod tests;
mod worker;

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};

use self::memory::Memory;
use self::queue::{Gate, Limits, Work};
use self::sizing::Sizing;
pub use self::worker::RandomHashError;
use self::worker::Worker;
use crate::auth::password::Password;
use crate::auth::password::phc::{Cost, CostError};
use crate::auth::password::stored::{Bounds, StoredHash};
use crate::config;

/// The hash gate. Clones share the threads and the queue; the threads end with the last clone, or with
/// [`close`](Self::close), and either waits for the run that is going on.
///
/// Its futures need a tokio runtime whose clock is enabled. Under a paused clock (`tokio::time::pause`) their deadline
/// passes at once, since tokio sees no reason to wait for a thread that isn't its own.
#[derive(Clone)]
pub struct HashPool(Arc<Pool>);

struct Pool {
    gate: Arc<Gate>,
    cost: Cost,
    bounds: Bounds,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What a verification found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The password belongs to the stored hash. Never true without a usable one.
    pub matches: bool,
    /// The stored hash is usable, but not what a new one would be.
    pub needs_rehash: bool,
    /// There is a stored string, but of an unknown kind, malformed, or beyond the bounds. Worth one error in the log with
    /// the user's id; the client learns nothing of it.
    pub unusable: bool,
    /// The hash to store in place of the old one. Only from [`HashPool::verify_and_rehash`], after a match.
    pub new_hash: Option<SecretString>,
}

impl Verdict {
    /// Tells the log of a hash that can't be used.
    pub fn tell(&self, user_id: i64) {
        if self.unusable {
            tracing::error!(
                user_id,
                "the stored password hash is of an unknown kind or beyond the bounds"
            );
        }
    }

    const NO_MATCH: Self = Self {
        matches: false,
        needs_rehash: false,
        unusable: false,
        new_hash: None,
    };
}

/// Why there is no answer from the gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HashError {
    /// The queue is full, or the wait would be, or was, too long. No password was hashed.
    #[error("too many passwords are waiting to be hashed")]
    Overloaded {
        /// When trying again is worth it: whole seconds, at least one.
        retry_after: Duration,
    },
    /// The gate is closed: the service is shutting down.
    #[error("the hash gate is closed")]
    Closed,
    /// A bug. The cause is in the log.
    #[error("hashing the password failed")]
    Internal,
}

/// Why the gate can't be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// argon2 allows no such cost.
    #[error(transparent)]
    Cost(#[from] CostError),
    /// The block memory of the workers can't be had.
    #[error(
        "no memory for {workers} hash workers of {memory_kib} KiB: lower password.workers or password.memory_kib"
    )]
    Memory {
        /// How many workers were to be started.
        workers: usize,
        /// What each of them needs, in KiB.
        memory_kib: u32,
    },
    /// There is nothing to compare the passwords of unknown users with.
    #[error(transparent)]
    Dummy(#[from] RandomHashError),
    /// The operating system starts no thread.
    #[error("can't start a hash worker: {0}")]
    Thread(#[source] std::io::Error),
}

/// Whom the gate tells how long things took, so that it needs to know nothing of metrics.
pub struct Observer {
    /// How long a job waited for a worker. Called when its run starts.
    pub wait: Box<dyn Fn(Duration) + Send + Sync>,
    /// How long one run of a password hash took. The calibrating runs at the start are not told.
    pub run: Box<dyn Fn(Duration) + Send + Sync>,
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            wait: Box::new(|_| ()),
            run: Box::new(|_| ()),
        }
    }
}

/// How the gate is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stats {
    /// Threads that hash.
    pub workers: usize,
    /// Workers with a job.
    pub busy: usize,
    /// Jobs that wait for a worker.
    pub queued: usize,
    /// How many may wait.
    pub queue_capacity: usize,
    /// Runs of a password hash since the start, without the calibrating ones.
    pub runs: u64,
    /// Jobs refused as overloaded since the start.
    pub refused: u64,
}

impl HashPool {
    /// Starts the workers. It returns as soon as the memory is reserved and the threads exist: touching the memory and
    /// measuring a first run is done by the workers, before they take jobs, so that the service listens meanwhile.
    pub fn start(
        settings: &config::Password,
        sizing: &Sizing,
        observer: Observer,
    ) -> Result<Self, StartError> {
        let cost = Cost::new(
            settings.memory_kib,
            settings.iterations,
            settings.parallelism,
        )?;
        let dummy = worker::random_hash(cost)?;
        let limits = Limits {
            workers: sizing.workers(),
            capacity: settings.queue,
            timeout: settings.queue_timeout,
        };
        // Dropped on the way out of an error: it ends the threads that were started.
        let pool = Self(Arc::new(Pool {
            gate: Arc::new(Gate::new(limits, observer)),
            cost,
            bounds: Bounds::new(cost, sizing.foreign_kib()),
            threads: Mutex::new(Vec::new()),
        }));
        for number in 0..limits.workers {
            let memory = Memory::reserve(cost.blocks()).map_err(|_| StartError::Memory {
                workers: limits.workers,
                memory_kib: cost.memory_kib(),
            })?;
            let worker = Worker::new(Arc::clone(&pool.0.gate), memory, cost, dummy.clone());
            let thread = std::thread::Builder::new()
                .name(format!("claviger-hash-{number}"))
                .spawn(move || worker.run())
                .map_err(StartError::Thread)?;
            pool.0.threads().push(thread);
        }
        tracing::info!(%cost, %sizing, "hash gate");
        if sizing.is_short_for_foreign() {
            tracing::warn!(%sizing, "imported password hashes that need more memory than is left will be refused");
        }
        Ok(pool)
    }

    /// Compares a password with a stored hash.
    ///
    /// Exactly one verification whatever is stored: where there is no hash, or none that can be used, it is against a
    /// dummy of the current cost, and never matches. Dropping the future takes the job out of the queue.
    pub async fn verify(
        &self,
        password: &Password,
        stored: Option<&SecretString>,
    ) -> Result<Verdict, HashError> {
        self.verification(password, stored, false).await
    }

    /// As [`verify`](Self::verify). After a match with a hash that isn't current, the same job makes the new one: it has
    /// its place at a worker already, so the queue can't refuse it.
    pub async fn verify_and_rehash(
        &self,
        password: &Password,
        stored: Option<&SecretString>,
    ) -> Result<Verdict, HashError> {
        self.verification(password, stored, true).await
    }

    /// Makes the hash of a new password, as a PHC string.
    pub async fn hash(&self, password: &Password) -> Result<SecretString, HashError> {
        let ticket = self.0.gate.enqueue(
            Work::Hash {
                password: password.clone(),
            },
            false,
        )?;
        ticket.answer().await?.new_hash.ok_or(HashError::Internal)
    }

    /// Whether a stored string isn't what a new hash would be.
    pub fn needs_rehash(&self, stored: &SecretString) -> bool {
        crate::auth::password::phc::needs_rehash(stored.expose_secret(), self.0.cost)
    }

    /// A snapshot, taken under the lock of the queue.
    pub fn stats(&self) -> Stats {
        self.0.gate.stats()
    }

    /// Takes no more jobs, lets the workers finish those that wait, and returns when their threads have ended. It blocks
    /// for as long as that takes, at most `password.queue_timeout` and one run; idle workers end at once.
    pub fn close(&self) {
        self.0.close();
    }

    async fn verification(
        &self,
        password: &Password,
        stored: Option<&SecretString>,
        rehash: bool,
    ) -> Result<Verdict, HashError> {
        let usable = stored.map(|stored| StoredHash::parse(stored.expose_secret(), &self.0.bounds));
        let unusable = matches!(usable, Some(Err(_)));
        let stored = usable.and_then(Result::ok);
        let foreign = stored
            .as_ref()
            .is_some_and(|stored| stored.blocks() > self.0.cost.blocks());
        let work = Work::Verify {
            password: password.clone(),
            stored,
            rehash,
        };
        let verdict = self.0.gate.enqueue(work, foreign)?.answer().await?;
        Ok(Verdict {
            unusable,
            ..verdict
        })
    }
}

impl fmt::Debug for HashPool {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_tuple("HashPool")
            .field(&self.stats())
            .finish()
    }
}

impl Pool {
    fn close(&self) {
        self.gate.close();
        let threads = std::mem::take(&mut *self.threads());
        for thread in threads {
            // A worker catches the panics of its jobs; one of its own has been reported by the panic hook.
            let _panicked = thread.join();
        }
    }

    fn threads(&self) -> std::sync::MutexGuard<'_, Vec<JoinHandle<()>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}
