//! Which sessions were in use: gathered here by the checks, and written a little later, so that no answer waits for it.

use std::collections::HashSet;
use std::hash::{BuildHasher, RandomState};
use std::mem;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::store::tokens::session::SessionId;

/// How long sessions are gathered before they are written together.
pub(super) const GATHER: Duration = Duration::from_secs(1);

/// The most sessions that are noted in a minute, by one instance: about 5 MiB. Others then keep an older time, so where more are
/// in use, each is noted every few minutes. Each costs Redis a script, and these must not take the place of checks.
const MOST: usize = 1 << 16;

/// The sessions that were seen in this minute, and those of them that are not yet written.
#[derive(Default)]
pub(super) struct Seen {
    hasher: RandomState,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    minute: u64,
    /// Hashes of tokens. That two of them are the same would only leave the later one out for a minute.
    noted: HashSet<u64>,
    unwritten: Vec<SessionId>,
}

impl Seen {
    /// Notes that `token` was in use, unless that was noted in this minute. True: the first one of those that will be written
    /// together, so somebody has to be told to write them.
    pub(super) fn note(&self, token: &str, user_id: i64) -> bool {
        let minute = minute();
        let hash = self.hasher.hash_one(token);
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.minute != minute {
            state.minute = minute;
            state.noted.clear();
        }
        if state.noted.len() >= MOST || state.unwritten.len() >= MOST || !state.noted.insert(hash) {
            return false;
        }
        state.unwritten.push(SessionId::of(user_id, token));
        state.unwritten.len() == 1
    }

    /// Those that are not yet written.
    pub(super) fn take(&self) -> Vec<SessionId> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        mem::take(&mut state.unwritten)
    }
}

fn minute() -> u64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default().as_secs() / 60
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_written_once_a_minute() {
        let seen = Seen::default();
        let first = [seen.note("a", 1), seen.note("a", 1), seen.note("b", 1)];
        // Two at least: the minute may have changed in between.
        assert!(first[0]);
        let taken = seen.take();
        assert_eq!(taken[0], SessionId::of(1, "a"));
        assert!(taken.contains(&SessionId::of(1, "b")));

        seen.state.lock().unwrap().minute -= 1;
        assert!(seen.note("a", 1), "the next minute");
        assert_eq!(seen.take(), [SessionId::of(1, "a")]);
    }

    #[test]
    fn there_is_a_bound() {
        let seen = Seen::default();
        let full: HashSet<u64> = (0..MOST as u64).collect();
        *seen.state.lock().unwrap() = State {
            // A minute that is not over before the test is.
            minute: minute(),
            noted: full,
            unwritten: Vec::new(),
        };
        let before = seen.state.lock().unwrap().minute;
        let noted = seen.note("a", 1);
        assert_eq!(noted, seen.state.lock().unwrap().minute != before);
    }
}
