//! The queue in front of the workers: first in, first out, bounded, with a deadline.
//!
//! One mutex guards all of it, and it is never held while hashing or waiting. A job is in exactly one place: in the queue,
//! or with the worker that took it. Whoever finds it in the queue, under the lock, may take it out: a worker to run it, or
//! the caller's [`Ticket`] because the caller left or the deadline passed. So a job that was withdrawn never runs, and one
//! that runs is never answered as overloaded.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tracing::Span;

use super::{HashError, Observer, Stats, Verdict};
use crate::auth::password::Password;
use crate::auth::password::stored::StoredHash;
use crate::telemetry::RequestId;

/// What a run is thought to take until one was measured.
const ASSUMED_RUN: Duration = Duration::from_millis(30);

/// The shortest queue that is chosen automatically: a burst of a few logins is no overload, however slow the hash is.
const MIN_CAPACITY: usize = 16;

/// The longest queue that is chosen automatically. A waiting job takes at most 3 KiB.
const MAX_CAPACITY: usize = 8192;

/// How the queue is bounded.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) workers: usize,
    /// `None`: what the workers can hash within `timeout`.
    pub(super) capacity: Option<usize>,
    /// The longest wait for a worker.
    pub(super) timeout: Duration,
}

/// What a worker is to do.
pub(super) enum Work {
    /// Exactly one verification; against the dummy where `stored` is `None`.
    Verify {
        password: Password,
        stored: Option<StoredHash>,
        rehash: bool,
    },
    /// A new hash.
    Hash { password: Password },
    /// Whatever a test wants to happen in a worker.
    #[cfg(test)]
    Call(Box<dyn FnOnce() + Send>),
}

type Answer = Result<Verdict, HashError>;

/// A job that waits.
struct Waiting {
    /// Ascending from front to back.
    id: u64,
    work: Work,
    foreign: bool,
    since: Instant,
    reply: oneshot::Sender<Answer>,
    trace: Trace,
}

/// For whom a job is done: where the caller's trace goes on, and what its log lines are found by.
struct Trace {
    request_id: RequestId,
    caller: Span,
    /// Ends when the run starts, or when the job is taken out.
    wait: Span,
}

/// A job that a worker has taken.
pub(super) struct Job {
    work: Work,
    waited: Duration,
    reply: Reply,
    trace: Trace,
}

/// Where the answer goes, and what has to be given back with it.
pub(super) struct Reply {
    sender: oneshot::Sender<Answer>,
    foreign: bool,
}

pub(super) struct Gate {
    state: Mutex<State>,
    /// Signalled for each new job, and for all at the close.
    ready: Condvar,
    limits: Limits,
    observer: Observer,
}

struct State {
    jobs: VecDeque<Waiting>,
    next_id: u64,
    capacity: usize,
    busy: usize,
    /// The extra memory is in use; hashes that need it run one at a time.
    foreign_running: bool,
    closed: bool,
    /// Moving average over the runs at the current cost.
    mean_run: Duration,
    /// Workers that have measured their first run.
    calibrated: u32,
    runs: u64,
    refused: u64,
}

impl Gate {
    pub(super) fn new(limits: Limits, observer: Observer) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            next_id: 0,
            capacity: capacity(&limits, ASSUMED_RUN),
            busy: 0,
            foreign_running: false,
            closed: false,
            mean_run: ASSUMED_RUN,
            calibrated: 0,
            runs: 0,
            refused: 0,
        };
        Self {
            state: Mutex::new(state),
            ready: Condvar::new(),
            limits,
            observer,
        }
    }

    /// Puts a job at the end of the queue, or refuses it: when the queue is full, or when the jobs before it are expected
    /// to take longer than the deadline.
    ///
    /// `foreign` says that the work needs more memory than a worker has.
    pub(super) fn enqueue(
        self: &Arc<Self>,
        work: Work,
        foreign: bool,
    ) -> Result<Ticket, HashError> {
        // The subscriber may be slow; it is not called under the lock, here and elsewhere.
        let trace = Trace {
            request_id: RequestId::current(),
            caller: Span::current(),
            wait: tracing::info_span!("hash_wait"),
        };
        let mut state = self.lock();
        if state.closed {
            return Err(HashError::Closed);
        }
        let free = self.limits.workers - state.busy;
        if state.jobs.len() >= state.capacity.saturating_add(free)
            || self.expected_wait(&state) > self.limits.timeout
        {
            return Err(self.refuse(&mut state));
        }
        let (sender, receiver) = oneshot::channel();
        let id = state.next_id;
        state.next_id += 1;
        state.jobs.push_back(Waiting {
            id,
            work,
            foreign,
            since: Instant::now(),
            reply: sender,
            trace,
        });
        drop(state);
        self.ready.notify_one();
        Ok(Ticket {
            gate: Arc::clone(self),
            id,
            receiver,
            settled: false,
        })
    }

    /// The next job for a worker; waits for one. `None` once the gate is closed and nothing is left for this worker.
    pub(super) fn next(&self) -> Option<Job> {
        let mut state = self.lock();
        loop {
            if let Some(late) = self.take_late(&mut state) {
                let refusal = self.refuse(&mut state);
                drop(state);
                drop(late.trace);
                // The caller may have left at this very moment.
                let _gone = late.reply.send(Err(refusal));
                state = self.lock();
                continue;
            }
            if let Some(job) = state.take() {
                return Some(job);
            }
            // What is left now needs the extra memory; the worker that holds it will come back for it.
            if state.closed {
                return None;
            }
            state = self
                .ready
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The worker is free again, and the caller gets the answer.
    pub(super) fn done(&self, reply: Reply, answer: Answer) {
        let mut state = self.lock();
        state.busy -= 1;
        if reply.foreign {
            state.foreign_running = false;
        }
        drop(state);
        let _gone = reply.sender.send(answer);
    }

    /// The caller's side of [`Observer::wait`].
    pub(super) fn observe_wait(&self, waited: Duration) {
        (self.observer.wait)(waited);
    }

    /// Counts a run. Runs at the current cost tell how long the queue is in time.
    pub(super) fn observe_run(&self, took: Duration, current: bool) {
        let mut state = self.lock();
        state.runs += 1;
        if current {
            state.mean_run = (state.mean_run * 7 + took) / 8;
        }
        drop(state);
        (self.observer.run)(took);
    }

    /// A worker's first run: it replaces the assumption.
    pub(super) fn calibrate(&self, took: Duration) {
        let mut state = self.lock();
        state.mean_run = (state.mean_run * state.calibrated + took) / (state.calibrated + 1);
        state.calibrated += 1;
        state.capacity = capacity(&self.limits, state.mean_run);
        let (queue, run) = (state.capacity, state.mean_run);
        let last = usize::try_from(state.calibrated)
            .is_ok_and(|calibrated| calibrated == self.limits.workers);
        drop(state);
        if last {
            tracing::info!(
                queue,
                run_ms = run.as_secs_f64() * 1e3,
                "hash gate measured"
            );
        }
    }

    /// No new jobs. Those in the queue are still done, within their deadline.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.ready.notify_all();
    }

    pub(super) fn stats(&self) -> Stats {
        let state = self.lock();
        Stats {
            workers: self.limits.workers,
            busy: state.busy,
            queued: state.jobs.len(),
            queue_capacity: state.capacity,
            runs: state.runs,
            refused: state.refused,
        }
    }

    /// When trying again is worth it.
    pub(super) fn retry_after(&self) -> Duration {
        let state = self.lock();
        self.honest_retry_after(&state)
    }

    /// Takes a job out that no worker has taken. `None`: one has, or it is answered already.
    fn withdraw(&self, id: u64, late: bool) -> Option<HashError> {
        let mut state = self.lock();
        let place = state.jobs.binary_search_by_key(&id, |job| job.id).ok()?;
        let withdrawn = state.jobs.remove(place);
        let refusal = if late {
            self.refuse(&mut state)
        } else {
            HashError::Closed
        };
        drop(state);
        // Wiping the password and ending the span need no lock.
        drop(withdrawn);
        Some(refusal)
    }

    /// The first job, if it waited too long. All have the same deadline, so those behind it are younger.
    fn take_late(&self, state: &mut State) -> Option<Waiting> {
        let late = state.jobs.front()?.since.elapsed() >= self.limits.timeout;
        if late { state.jobs.pop_front() } else { None }
    }

    fn refuse(&self, state: &mut State) -> HashError {
        state.refused += 1;
        HashError::Overloaded {
            retry_after: self.honest_retry_after(state),
        }
    }

    fn honest_retry_after(&self, state: &State) -> Duration {
        let wait = self.expected_wait(state);
        let whole = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        Duration::from_secs(whole.max(1))
    }

    /// How long the jobs in the queue keep the workers busy before one more has its turn. Those that a free worker is
    /// about to take don't wait.
    fn expected_wait(&self, state: &State) -> Duration {
        let waiting = state
            .jobs
            .len()
            .saturating_sub(self.limits.workers - state.busy);
        let jobs = u32::try_from(waiting).unwrap_or(u32::MAX);
        let workers = u32::try_from(self.limits.workers)
            .unwrap_or(u32::MAX)
            .max(1);
        state.mean_run.saturating_mul(jobs) / workers
    }

    /// A panic under the lock can't leave the queue half changed, so poison is no reason to stop logging people in.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// The first job that may run now: a foreign one waits while another runs, and is overtaken meanwhile.
    fn take(&mut self) -> Option<Job> {
        let place = self
            .jobs
            .iter()
            .position(|job| !(job.foreign && self.foreign_running))?;
        let job = self.jobs.remove(place)?;
        self.busy += 1;
        self.foreign_running |= job.foreign;
        Some(Job {
            work: job.work,
            waited: job.since.elapsed(),
            reply: Reply {
                sender: job.reply,
                foreign: job.foreign,
            },
            trace: job.trace,
        })
    }
}

/// What the workers can hash within the deadline, if no length is set.
fn capacity(limits: &Limits, run: Duration) -> usize {
    let automatic = || {
        let in_time = limits.timeout.as_nanos() / run.as_nanos().max(1);
        let jobs = usize::try_from(in_time)
            .unwrap_or(usize::MAX)
            .saturating_mul(limits.workers);
        jobs.clamp(MIN_CAPACITY, MAX_CAPACITY)
    };
    limits.capacity.unwrap_or_else(automatic)
}

impl Trace {
    /// Ends the wait and runs `work` in a span `hash` below the caller's.
    fn run<T>(self, work: impl FnOnce() -> T) -> T {
        let Self {
            request_id,
            caller,
            wait,
        } = self;
        drop(wait);
        let hash = tracing::info_span!(parent: &caller, "hash");
        request_id.within(|| hash.in_scope(work))
    }
}

impl Job {
    /// Has `run` do the work, in the caller's trace, and tells it how long the job waited.
    pub(super) fn run(self, run: impl FnOnce(Work, Duration) -> Answer) -> (Reply, Answer) {
        let Self {
            work,
            waited,
            reply,
            trace,
        } = self;
        let answer = trace.run(|| run(work, waited));
        (reply, answer)
    }
}

/// A caller's place in the queue. Dropping it gives the place up.
pub(super) struct Ticket {
    gate: Arc<Gate>,
    id: u64,
    receiver: oneshot::Receiver<Answer>,
    settled: bool,
}

impl Ticket {
    /// Waits for the answer, in the queue no longer than the deadline. A run that has begun is waited for.
    pub(super) async fn answer(mut self) -> Answer {
        let in_time = tokio::time::timeout(self.gate.limits.timeout, &mut self.receiver).await;
        let answer = match in_time {
            Ok(answer) => answer,
            Err(_) => match self.gate.withdraw(self.id, true) {
                Some(refusal) => Ok(Err(refusal)),
                None => (&mut self.receiver).await,
            },
        };
        self.settled = true;
        // No sender: the worker is gone, which its panic handling rules out.
        answer.unwrap_or(Err(HashError::Internal))
    }

    /// Waits for whatever a worker answers.
    #[cfg(test)]
    pub(super) fn blocking_answer(mut self) -> Answer {
        self.settled = true;
        let (_, nobody) = oneshot::channel();
        std::mem::replace(&mut self.receiver, nobody)
            .blocking_recv()
            .unwrap()
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.settled {
            self.gate.withdraw(self.id, false);
        }
    }
}
