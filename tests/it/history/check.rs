//! Whether a history can be explained: whether every operation may have happened at one moment between its call and its
//! answer, each after the other, so that every answer is right.
//!
//! What is one operation for the client is several here, one for each session that it concerns: a list reads each session, and
//! an end of all ends each session, at a moment of its own. On a Redis Cluster the sessions of a user are on several servers, so
//! nothing better can be had; and so nothing is left that concerns two sessions at once. A history can be explained if the life
//! of each session can ([`life`]), and if the passwords can that the log-ins were let in with ([`account`]).

mod account;
mod life;

use std::collections::{BTreeMap, HashMap, HashSet};

use self::account::Account;
use self::life::{Birth, Facts};
use super::model::{Action, Moment, Operation, Outcome, SessionId};

/// Why this history can't be explained; nothing if it can. `most` is the most sessions that a user may have.
pub(super) fn counter_examples(history: &[Operation], most: Option<usize>) -> Vec<String> {
    let mut found: Vec<String> = history.iter().filter_map(wrong_answer).collect();
    let mut users: BTreeMap<i64, Vec<&Operation>> = BTreeMap::new();
    for operation in history {
        users.entry(operation.user).or_default().push(operation);
    }
    for (user, mut operations) in users {
        operations.sort_by_key(|operation| operation.call);
        found.extend(User::new(user, &operations, most).counter_examples());
    }
    found
}

/// A counter-example: what is wrong, and the operations that show it.
fn tell(what: &str, because: &[&Operation]) -> String {
    let mut because = because.to_vec();
    because.sort_by_key(|operation| operation.call);
    because.dedup_by_key(|operation| operation.call);
    let lines = because.iter().map(|operation| format!("\n    {operation}"));
    format!("{what}{}", lines.collect::<String>())
}

/// An answer that no state of the service explains.
fn wrong_answer(operation: &Operation) -> Option<String> {
    use Action::{ChangePassword, Check, Disable, Enable, End, EndAll, List, LogIn, LogOut};
    use Outcome::{
        Done, NotFound, Refused, Sessions, Token, Unexpected, Unknown, User, WrongPassword,
    };
    let Operation {
        user,
        action,
        outcome,
        ..
    } = operation;
    let what = match (action, outcome) {
        (_, Unexpected(_)) => "an answer that the contract does not know",
        (Check { .. }, User(id)) if id != user => "a token of one user is taken for another's",
        (List { by }, Sessions { all, current }) => {
            if current.iter().any(|session| session != by) {
                "a list takes another session for the client's own"
            } else if all.contains(by) != current.contains(by) {
                "a list does not know the client's own session"
            } else if all.iter().collect::<HashSet<_>>().len() != all.len() {
                "a list shows a session twice"
            } else if all.iter().any(|session| owner(session) != Some(*user)) {
                "a list shows a session of somebody else"
            } else {
                return None;
            }
        }
        (LogIn { .. }, Token(session)) if owner(session) != Some(*user) => {
            "a log-in gave a session of somebody else"
        }
        (End { session, .. }, Done) if owner(session) != Some(*user) => {
            "somebody ended a session of somebody else"
        }
        (_, Unknown)
        | (LogIn { .. }, Token(_) | Refused)
        | (Check { .. }, User(_) | Refused)
        | (LogOut { .. } | EndAll { .. }, Done | Refused)
        | (End { .. }, Done | Refused | NotFound)
        | (List { .. }, Refused)
        | (ChangePassword { .. }, Done | Refused | WrongPassword)
        | (Disable | Enable { .. }, Done) => return None,
        _ => "an answer that does not belong to the question",
    };
    Some(tell(what, &[operation]))
}

/// Whose session an id names.
fn owner(session: &str) -> Option<i64> {
    session.split_once('.')?.0.parse().ok()
}

/// All that happened to one user.
struct User<'h> {
    id: i64,
    /// In the order of their calls, here and in the others.
    operations: Vec<&'h Operation>,
    logins: Vec<Login<'h>>,
    lists: Vec<List<'h>>,
    /// What ends all sessions, but for one perhaps.
    sweeps: Vec<Sweep<'h>>,
    account: Account<'h>,
    /// What was said of each session.
    facts: HashMap<&'h SessionId, Facts<'h>>,
    births: HashMap<&'h SessionId, Vec<&'h Operation>>,
    most: Option<usize>,
}

struct Login<'h> {
    operation: &'h Operation,
    /// How often it may have begun a session: it begins again when a revocation comes between.
    attempts: usize,
    /// Until when there may be something of it beside what it told: while it runs, and while a revocation runs that it met,
    /// which ends what the log-in then has to begin again.
    traces_until: Moment,
}

struct List<'h> {
    operation: &'h Operation,
    shows: HashSet<&'h SessionId>,
}

struct Sweep<'h> {
    operation: &'h Operation,
    spares: Option<&'h SessionId>,
}

impl<'h> User<'h> {
    fn new(id: i64, operations: &[&'h Operation], most: Option<usize>) -> Self {
        let mut user = Self {
            id,
            operations: operations.to_vec(),
            logins: Vec::new(),
            lists: Vec::new(),
            sweeps: Vec::new(),
            account: Account::new(operations),
            facts: HashMap::new(),
            births: HashMap::new(),
            most,
        };
        for operation in operations {
            user.note(operation);
        }
        for facts in user.facts.values_mut() {
            facts.note_who_found_it_alive(most.is_some());
        }
        let is_login = |operation: &&&Operation| matches!(operation.action, Action::LogIn { .. });
        let logins: Vec<&Operation> = operations.iter().filter(is_login).copied().collect();
        let facts = user.facts.values();
        let ends = facts.flat_map(|facts| facts.ended_by.iter().chain(&facts.perhaps_ended_by));
        let mut ends: Vec<&Operation> = ends.copied().collect();
        if most.is_some() {
            // A log-in ends the session of another one if there are too many.
            ends.extend(&logins);
        }
        let logins = logins.into_iter();
        user.logins = logins.map(|login| user.login(login, &ends)).collect();
        user
    }

    /// `ends` is what may have ended single sessions.
    fn login(&self, login: &'h Operation, ends: &[&Operation]) -> Login<'h> {
        let met = |other: &&Operation| other.call < login.end() && login.call < other.end();
        let sweeps = self.sweeps.iter().map(|sweep| sweep.operation).filter(met);
        let ends = ends.iter().copied().filter(met);
        let met = sweeps.clone().chain(ends).map(Operation::end);
        Login {
            operation: login,
            attempts: 1 + sweeps.count(),
            traces_until: met.fold(login.end(), Moment::max),
        }
    }

    /// Takes an operation apart into what it says of each session.
    fn note(&mut self, operation: &'h Operation) {
        let outcome = &operation.outcome;
        match &operation.action {
            Action::LogIn { .. } => {
                if let Outcome::Token(session) = outcome {
                    self.births.entry(session).or_default().push(operation);
                    self.of(session);
                }
            }
            Action::Check { by } => self.note_client(by, operation),
            Action::LogOut { by } => match outcome {
                Outcome::Done => self.of(by).logged_out_by.push(operation),
                Outcome::Unknown => self.of(by).perhaps_ended_by.push(operation),
                _ => self.note_client(by, operation),
            },
            Action::End { by, session } => {
                self.note_client(by, operation);
                if owner(session) != Some(operation.user) {
                    return;
                }
                self.of(session).tried.push(operation);
                match outcome {
                    Outcome::Done => self.of(session).ended_by.push(operation),
                    Outcome::Unknown => self.of(session).perhaps_ended_by.push(operation),
                    Outcome::NotFound => self.of(session).dead.push(operation),
                    _ => {}
                }
            }
            Action::EndAll { by, keep } => {
                self.note_client(by, operation);
                self.note_sweep(operation, keep.then_some(by));
            }
            Action::List { by } => {
                self.note_client(by, operation);
                if let Outcome::Sessions { all, .. } = outcome {
                    for session in all {
                        self.of(session).alive.push(operation);
                    }
                    let shows = all.iter().collect();
                    self.lists.push(List { operation, shows });
                }
            }
            Action::ChangePassword { by, .. } => {
                self.note_client(by, operation);
                self.note_sweep(operation, Some(by));
            }
            Action::Disable | Action::Enable { .. } => self.note_sweep(operation, None),
        }
    }

    /// Whoever is refused has a dead session, and whoever is not a living one.
    fn note_client(&mut self, by: &'h SessionId, operation: &'h Operation) {
        match operation.outcome {
            Outcome::Refused => self.of(by).dead.push(operation),
            Outcome::Unknown | Outcome::Unexpected(_) => {}
            _ => self.of(by).alive.push(operation),
        }
    }

    fn note_sweep(&mut self, operation: &'h Operation, spares: Option<&'h SessionId>) {
        if matches!(operation.outcome, Outcome::Done | Outcome::Unknown) {
            self.sweeps.push(Sweep { operation, spares });
        }
    }

    fn of(&mut self, session: &'h SessionId) -> &mut Facts<'h> {
        self.facts.entry(session).or_default()
    }

    fn counter_examples(&self) -> Vec<String> {
        let mut found = self.account.counter_examples(self.id, &self.operations);
        for births in self.births.values().filter(|births| births.len() > 1) {
            found.push(tell("two log-ins gave the same session", births));
        }
        let mut sessions: Vec<_> = self.facts.iter().collect();
        sessions.sort_by_key(|(session, _)| **session);
        for (session, facts) in sessions {
            let outcome = match self.births.get(session) {
                Some(births) => births
                    .iter()
                    .try_for_each(|login| self.explain(session, facts, &Birth::told(login))),
                None => self.explain_untold(session, facts),
            };
            found.extend(outcome.err());
        }
        found.extend(self.lists.iter().filter_map(|list| self.too_many(list)));
        found
    }

    /// A session whose token no client was told: of a log-in whose client left or that failed half-way, or of one that lost
    /// against a revocation beside it and began again.
    fn explain_untold(&self, session: &'h SessionId, facts: &Facts<'h>) -> Result<(), String> {
        let Some(last) = facts.alive().map(|alive| alive.call).max() else {
            return Ok(());
        };
        let mut reason = tell(
            &format!("session {session} is there, and no log-in explains it:"),
            &facts.alive,
        );
        for login in self.logins.iter().filter(|login| last < login.traces_until) {
            match self.explain(session, facts, &Birth::untold(login.operation)) {
                Ok(()) => return Ok(()),
                Err(why) => reason = why,
            }
        }
        Err(reason)
    }

    /// A user may have more sessions than allowed only while log-ins run, which end the surplus.
    fn too_many(&self, list: &List<'h>) -> Option<String> {
        let most = self.most?;
        let Operation { call, answer, .. } = list.operation;
        let beside =
            |login: &&Login| login.operation.call < *answer && *call < login.operation.end();
        let logins = self.logins.iter().filter(beside).count();
        (list.shows.len() > most + logins).then(|| {
            tell(
                &format!(
                    "a list shows more than {most} sessions, and {logins} log-ins ran beside it"
                ),
                &[list.operation],
            )
        })
    }
}
