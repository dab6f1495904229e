//! A worker: one thread, one piece of block memory, one job after the other.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::phc::{Output, Salt};

use super::memory::Memory;
use super::queue::{Gate, Work};
use super::{HashError, Verdict};
use crate::auth::password::Password;
use crate::auth::password::phc::{Argon2Hash, Cost, OUTPUT_LENGTH, SALT_LENGTH};
use crate::auth::password::stored::StoredHash;

/// How much nicer a worker is than the rest of the process. Under full load the threads that serve requests come first,
/// and hashing still gets what they leave.
const NICENESS: i32 = 10;

pub(super) struct Worker {
    gate: Arc<Gate>,
    memory: Memory,
    cost: Cost,
    dummy: Argon2Hash,
}

impl Worker {
    pub(super) fn new(gate: Arc<Gate>, memory: Memory, cost: Cost, dummy: Argon2Hash) -> Self {
        Self {
            gate,
            memory,
            cost,
            dummy,
        }
    }

    /// The life of the thread.
    pub(super) fn run(mut self) {
        lower_priority();
        self.memory.touch();
        self.calibrate();
        let gate = Arc::clone(&self.gate);
        while let Some(job) = gate.next() {
            let (reply, answer) = job.run(|work, waited| {
                // The memory is overwritten by the next run whatever state it is in, so nothing is left half done.
                catch_unwind(AssertUnwindSafe(|| self.work(work, waited))).unwrap_or_else(|_| {
                    tracing::error!("a hash worker panicked; it goes on with the next password");
                    Err(HashError::Internal)
                })
            });
            gate.done(reply, answer);
        }
    }

    /// Measures one run, so that the length of the queue in time is known before the first rush.
    fn calibrate(&mut self) {
        let start = Instant::now();
        if self.dummy.run(b"calibration", self.memory.blocks()).is_ok() {
            self.gate.calibrate(start.elapsed());
        }
    }

    fn work(&mut self, work: Work, waited: Duration) -> Result<Verdict, HashError> {
        self.gate.observe_wait(waited);
        match work {
            Work::Verify {
                password,
                stored: Some(stored),
                rehash,
            } => self.verify(&password, &stored, rehash),
            Work::Verify {
                password,
                stored: None,
                ..
            } => self.verify_nothing(&password),
            Work::Hash { password } => {
                let hash = self.hash(&password)?;
                Ok(Verdict {
                    new_hash: Some(hash),
                    ..Verdict::NO_MATCH
                })
            }
            #[cfg(test)]
            Work::Call(call) => {
                call();
                Ok(Verdict::NO_MATCH)
            }
        }
    }

    /// The same work as for a user with a hash of the current cost, so that the time tells nothing.
    fn verify_nothing(&mut self, password: &Password) -> Result<Verdict, HashError> {
        let dummy = StoredHash::Argon2(self.dummy.clone());
        let _never = self.compare(None, &dummy, password.prepared())?;
        Ok(Verdict::NO_MATCH)
    }

    fn verify(
        &mut self,
        password: &Password,
        stored: &StoredHash,
        rehash: bool,
    ) -> Result<Verdict, HashError> {
        let needs_rehash = !stored.is_current(self.cost);
        let matches = if needs_rehash {
            self.verify_stale(password, stored)?
        } else {
            self.compare(None, stored, password.prepared())?
        };
        let new_hash = if matches && needs_rehash && rehash {
            // A failure is in the log already. The login has succeeded; the old hash stays for the next one.
            self.hash(password).ok()
        } else {
            None
        };
        Ok(Verdict {
            matches,
            needs_rehash,
            unusable: false,
            new_hash,
        })
    }

    /// An argon2 hash of another cost was made elsewhere, of the bytes as sent, or here under an earlier configuration, of the
    /// prepared form. The string doesn't say which. Where the two forms differ, and only there, both are tried. Another kind
    /// can only be from elsewhere.
    fn verify_stale(
        &mut self,
        password: &Password,
        stored: &StoredHash,
    ) -> Result<bool, HashError> {
        let mut extra = None;
        if stored.blocks() > self.memory.length() {
            let mut memory = Memory::reserve_for_once(stored.blocks()).map_err(|error| {
                tracing::error!(%error, "no memory for a hash that needs more than password.memory_kib");
                HashError::Overloaded { retry_after: self.gate.retry_after() }
            })?;
            memory.touch();
            extra = Some(memory);
        }
        if self.compare(extra.as_mut(), stored, password.sent())? {
            return Ok(true);
        }
        if password.is_prepared_as_sent() || !stored.may_be_of_prepared() {
            return Ok(false);
        }
        self.compare(extra.as_mut(), stored, password.prepared())
    }

    /// A new hash of the prepared form, with a salt of its own.
    fn hash(&mut self, password: &Password) -> Result<secrecy::SecretString, HashError> {
        let blank = random_hash(self.cost).map_err(|error| internal(&error))?;
        let start = Instant::now();
        let output = blank.run(password.prepared(), self.memory.blocks());
        let output = output.map_err(|error| internal(&error))?;
        self.gate.observe_run(start.elapsed(), true);
        let salt = Salt::new(blank.salt()).map_err(|error| internal(&error))?;
        let output = Output::new(&output).map_err(|error| internal(&error))?;
        Ok(Argon2Hash::new(self.cost, salt, output).to_secret_string())
    }

    /// One run of a stored hash, timed and counted.
    fn compare(
        &mut self,
        extra: Option<&mut Memory>,
        hash: &StoredHash,
        input: &[u8],
    ) -> Result<bool, HashError> {
        let start = Instant::now();
        let memory = extra.unwrap_or(&mut self.memory);
        let matches = hash.matches(input, memory.blocks());
        let matches = matches.map_err(|error| internal(&error))?;
        self.gate
            .observe_run(start.elapsed(), hash.is_current(self.cost));
        Ok(matches)
    }
}

/// What a password is compared with where there is nothing to compare it with: a hash of the current cost.
///
/// Salt and output are random bytes. The dummy never has to match, only to cost the same, so no run is spent on it at the
/// start; and an output that no input is known for can't be hit by a guess.
pub(super) fn random_hash(cost: Cost) -> Result<Argon2Hash, RandomHashError> {
    let mut salt = [0; SALT_LENGTH];
    let mut output = [0; OUTPUT_LENGTH];
    getrandom::fill(&mut salt)?;
    getrandom::fill(&mut output)?;
    Ok(Argon2Hash::new(
        cost,
        Salt::new(&salt)?,
        Output::new(&output)?,
    ))
}

/// Why there is no random hash.
#[derive(Debug, thiserror::Error)]
pub enum RandomHashError {
    /// The operating system gives no random bytes.
    #[error("no random bytes from the operating system: {0}")]
    Random(#[from] getrandom::Error),
    /// The format takes no salt or output of our length: a bug.
    #[error("salt or output of a wrong length: {0}")]
    Length(#[from] argon2::password_hash::phc::Error),
}

fn internal(error: &impl std::error::Error) -> HashError {
    tracing::error!(%error, "hashing a password failed");
    HashError::Internal
}

/// On Linux niceness belongs to the thread. Elsewhere it belongs to the process, and is left alone.
fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        // No process id: the calling thread. The kernel limits the sum to 19.
        let lowered =
            getpriority_process(None).and_then(|nice| setpriority_process(None, nice + NICENESS));
        if let Err(error) = lowered {
            tracing::debug!(%error, "a hash worker keeps its priority");
        }
    }
}
