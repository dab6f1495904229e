//! Which passwords are good for a log-in, and when. A password is good from the change that sets it to the next change of the
//! account. The changes of one user are never made beside each other, and each has one moment, between its call and its answer.

use super::super::model::{Action, Moment, Operation, Outcome, Password};
use super::tell;

/// The changes of the account of one user, in their order.
pub(super) struct Account<'h> {
    changes: Vec<Change<'h>>,
}

#[derive(Clone)]
struct Change<'h> {
    operation: &'h Operation,
    /// The password that it sets.
    sets: Option<Password>,
    /// Between these it happened.
    after: Moment,
    before: Moment,
    /// It may not have happened at all.
    unsure: bool,
}

impl Change<'_> {
    /// From when on it surely has happened.
    fn surely_by(&self) -> Moment {
        if self.unsure {
            Moment::NEVER
        } else {
            self.before
        }
    }
}

/// What an operation says of a password: at a moment between call and answer it was good, or it was not.
fn verdict(operation: &Operation) -> Option<(Password, bool)> {
    match (&operation.action, &operation.outcome) {
        (Action::LogIn { password }, Outcome::Token(_)) => Some((*password, true)),
        (Action::LogIn { password }, Outcome::Refused) => Some((*password, false)),
        (Action::ChangePassword { from, .. }, Outcome::WrongPassword) => Some((*from, false)),
        _ => None,
    }
}

/// The password that was there from the start.
const FIRST: Password = 0;

impl<'h> Account<'h> {
    pub(super) fn new(operations: &[&'h Operation]) -> Self {
        let changes = operations.iter().filter_map(|operation| {
            let sets = match operation.action {
                Action::ChangePassword { to, .. } => Some(to),
                Action::Enable { password } => Some(password),
                Action::Disable => None,
                _ => return None,
            };
            let happened = matches!(operation.outcome, Outcome::Done | Outcome::Unknown);
            happened.then_some(Change {
                operation,
                sets,
                after: operation.call,
                before: operation.end(),
                unsure: operation.outcome == Outcome::Unknown,
            })
        });
        Self {
            changes: changes.collect(),
        }
    }

    /// Whether a change ends the session of every log-in with this one's password, whenever it was: the password was set before.
    pub(super) fn ends(&self, change: &Operation, login: &Operation) -> bool {
        let Action::LogIn { password } = login.action else {
            return false;
        };
        let place = |change: &Operation| {
            let mut changes = self.changes.iter();
            changes.position(|other| other.operation.call == change.call)
        };
        place(change).is_some_and(|place| place >= self.next_after(password))
    }

    /// The place of the first change after the one that set this password.
    fn next_after(&self, password: Password) -> usize {
        let setter = self.setter(password);
        setter.map_or(0, |setter| setter + 1)
    }

    /// The place of the change that set this password.
    fn setter(&self, password: Password) -> Option<usize> {
        let mut changes = self.changes.iter();
        changes.position(|change| change.sets == Some(password))
    }

    /// Whether every password that was taken was good at a moment of the operation, and every one that was refused was not.
    pub(super) fn counter_examples(&self, user: i64, operations: &[&Operation]) -> Vec<String> {
        let mut found = Vec::new();
        let mut changes = self.narrowed(operations);
        let mut fail = |what: &str, because: &[&Operation]| {
            found.push(tell(&format!("user {user}: {what}"), because));
        };
        for operation in operations {
            let Some((password, is_good)) = verdict(operation) else {
                continue;
            };
            let set = self.setter(password);
            if password != FIRST && set.is_none() {
                if is_good {
                    fail("a password that was never set is good", &[operation]);
                }
                continue;
            }
            let later = self.next_after(password);
            if is_good {
                let set = set.map(|set| &changes[set]);
                let too_early = set.filter(|set| operation.answer < set.after);
                let mut later = changes[later..].iter();
                let too_late =
                    later.find(|change| !change.unsure && change.before < operation.call);
                if let Some(change) = too_early.or(too_late) {
                    let what = "a password is good before it is set, or after it was replaced";
                    fail(what, &[operation, change.operation]);
                }
                continue;
            }
            let good_from = set.map_or(Moment::START, |set| changes[set].surely_by());
            let ends = later..changes.len();
            let ends = ends.filter(|place| changes[*place].after < operation.answer);
            match (&ends.collect::<Vec<_>>()[..], set) {
                // It may have been too early, or too late.
                ([_, ..], _) if operation.call < good_from => {}
                // It was too early.
                ([], Some(set)) if operation.call < good_from => {
                    let after = &mut changes[set].after;
                    *after = operation.call.max(*after);
                }
                ([], _) => {
                    let around = set.map(|set| &changes[set]);
                    let around = around.into_iter().chain(changes.get(later));
                    let around = around.map(|change| change.operation);
                    let because: Vec<_> = around.chain([*operation]).collect();
                    fail("a password that is good is refused", &because);
                }
                // It was too late.
                ([end], _) => {
                    let end = &mut changes[*end];
                    end.before = operation.answer.min(end.before);
                    end.unsure = false;
                }
                ([_, _, ..], _) => {}
            }
        }
        found
    }

    /// The changes, with their moments narrowed by the log-ins that were let in: the password was set before the answer, and
    /// whatever replaced it came after the call.
    fn narrowed(&self, operations: &[&Operation]) -> Vec<Change<'h>> {
        let mut changes = self.changes.clone();
        for operation in operations {
            let Some((password, true)) = verdict(operation) else {
                continue;
            };
            if let Some(set) = self.setter(password) {
                let set = &mut changes[set];
                set.before = operation.answer.min(set.before);
                set.unsure = false;
            }
            for later in &mut changes[self.next_after(password)..] {
                later.after = operation.call.max(later.after);
            }
        }
        changes
    }
}
