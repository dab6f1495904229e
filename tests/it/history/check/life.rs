//! The life of one session. It is born once, at a moment of its log-in, and it ends once or never.
//!
//! So the explanation is a moment of birth and a moment of death, and each thing that was said of the session bounds them:
//!
//! - whoever found it alive did so after the birth and before the death;
//! - whoever found it dead did so after the death, or before the birth;
//! - the log-out that was told to have ended it did, and nothing else;
//! - whoever was told that he ended it by its id found it alive, unless somebody else was at it, and nobody does after that;
//! - what ends all sessions ends this one, if it surely was born before that was asked for; what was answered before the
//!   log-in began has no effect on it;
//! - it does not end by itself: the death is a moment of an operation that may have ended it.

use super::super::model::{Action, Moment, Operation, Outcome, SessionId};
use super::{Sweep, User, tell};

/// What was said of a session.
#[derive(Default)]
pub(super) struct Facts<'h> {
    pub(super) alive: Vec<&'h Operation>,
    pub(super) dead: Vec<&'h Operation>,
    /// The log-outs that were told to have ended it.
    pub(super) logged_out_by: Vec<&'h Operation>,
    /// Who was told that it is ended by its id.
    pub(super) ended_by: Vec<&'h Operation>,
    /// What may have ended it, now or later.
    pub(super) perhaps_ended_by: Vec<&'h Operation>,
    /// Everybody who wanted to end it by its id.
    pub(super) tried: Vec<&'h Operation>,
}

impl<'h> Facts<'h> {
    /// Who ends a session by its id may be helped by another one who does, or by a log-in for which there are too many. Then he
    /// is told so, and never found it alive. On a Redis Cluster the index is on another server than the token, so this can't be
    /// told from a second try.
    pub(super) fn note_who_found_it_alive(&mut self, may_be_surplus: bool) {
        let helped = |ended: &Operation| {
            let another =
                |other: &&Operation| other.call != ended.call && other.call < ended.answer;
            may_be_surplus || self.tried.iter().any(another)
        };
        let alone = self.ended_by.iter().filter(|ended| !helped(ended));
        self.alive.extend(alone);
    }

    /// What found it alive.
    pub(super) fn alive(&self) -> impl Iterator<Item = &'h Operation> {
        self.alive.iter().chain(&self.logged_out_by).copied()
    }
}

/// A log-in that may have brought a session about.
pub(super) struct Birth<'h> {
    login: &'h Operation,
    /// The client was told the token. Of a session of which nobody was told it, the service may end what it began.
    told: bool,
}

impl<'h> Birth<'h> {
    pub(super) fn told(login: &'h Operation) -> Self {
        Self { login, told: true }
    }

    pub(super) fn untold(login: &'h Operation) -> Self {
        Self { login, told: false }
    }

    /// The session is alive by then.
    fn latest(&self) -> Moment {
        if self.told {
            self.login.answer
        } else {
            Moment::NEVER
        }
    }
}

/// A bound and who set it.
#[derive(Clone, Copy)]
struct Bound<'h> {
    moment: Moment,
    by: Option<&'h Operation>,
}

impl<'h> Bound<'h> {
    fn at_least(&mut self, moment: Moment, by: &'h Operation) {
        if moment > self.moment {
            *self = Self {
                moment,
                by: Some(by),
            };
        }
    }

    fn at_most(&mut self, moment: Moment, by: &'h Operation) {
        if moment < self.moment {
            *self = Self {
                moment,
                by: Some(by),
            };
        }
    }
}

impl<'h> User<'h> {
    /// Finds a moment of birth and one of death, or tells why there are none.
    pub(super) fn explain(
        &self,
        session: &SessionId,
        facts: &Facts<'h>,
        birth: &Birth<'h>,
    ) -> Result<(), String> {
        let login = birth.login;
        let fail = |what: String, because: Vec<&Operation>| {
            let what = format!("session {session} of user {}: {what}", self.id);
            let because: Vec<&Operation> = because.into_iter().chain([login]).collect();
            Err(tell(&what, &because))
        };
        if facts.logged_out_by.len() > 1 {
            return fail(
                "two log-outs were told to have ended it".to_owned(),
                facts.logged_out_by.clone(),
            );
        }

        // The birth is taken to be as late as what is known allows: whatever is asked of it below is easier the later it is.
        let mut born = Bound {
            moment: birth.latest(),
            by: None,
        };
        for alive in facts.alive() {
            born.at_most(alive.answer, alive);
        }
        if born.moment < login.call {
            let because = born.by.into_iter().collect();
            return fail("it is there before its log-in".to_owned(), because);
        }

        // The death is after what saw it alive, and before what saw it dead or has to have ended it.
        let mut after = Bound {
            moment: login.call,
            by: None,
        };
        for alive in facts.alive() {
            after.at_least(alive.call, alive);
        }
        let mut before = Bound {
            moment: Moment::NEVER,
            by: None,
        };
        for dead in &facts.dead {
            // Else it was not yet born.
            if born.moment < dead.call {
                before.at_most(dead.answer, dead);
            }
        }
        for ended in facts.logged_out_by.iter().chain(&facts.ended_by) {
            before.at_most(ended.answer, ended);
        }
        for list in &self.lists {
            let Operation { call, answer, .. } = list.operation;
            if born.moment < *call && *answer < before.moment && !list.shows.contains(session) {
                before.at_most(*answer, list.operation);
            }
        }
        for sweep in self.sweeps_of(session) {
            if sweep.operation.outcome == Outcome::Done
                && (born.moment < sweep.operation.call || self.account.ends(sweep.operation, login))
            {
                before.at_most(sweep.operation.answer, sweep.operation);
            }
        }
        let because = || after.by.into_iter().chain(before.by).collect::<Vec<_>>();
        if before.moment < after.moment {
            return fail(
                format!(
                    "it has to be dead from {} on, and was alive after {}",
                    before.moment, after.moment
                ),
                because(),
            );
        }

        // What ended it? If a log-out did, its call and answer are bounds too.
        if !facts.logged_out_by.is_empty() || before.moment == Moment::NEVER || !birth.told {
            return Ok(());
        }
        let fits = |operation: &Operation, end: Moment| {
            operation.call.max(after.moment) < end.min(before.moment)
        };
        let mut perhaps = facts.perhaps_ended_by.iter().chain(&facts.ended_by);
        if perhaps.any(|operation| fits(operation, operation.end()))
            || self.sweeps_of(session).any(|sweep| {
                may_end(sweep.operation, login) && fits(sweep.operation, sweep.operation.end())
            })
            || self.logins.iter().any(|other| {
                fits(other.operation, other.operation.end())
                    && self.may_be_surplus(login, other.operation)
            })
        {
            return Ok(());
        }
        fail(
            format!(
                "it ended between {} and {}, and nothing did that",
                after.moment, before.moment
            ),
            because(),
        )
    }

    fn sweeps_of(&self, session: &SessionId) -> impl Iterator<Item = &Sweep<'h>> {
        let sweeps = self.sweeps.iter();
        sweeps.filter(move |sweep| sweep.spares != Some(session))
    }

    /// Whether `other` may have ended the session of `login` because there were too many. Then as many as are allowed are
    /// younger, among them the new one. A log-in that met a revocation may have had to begin again, and counted more than once.
    fn may_be_surplus(&self, login: &Operation, other: &Operation) -> bool {
        let Some(most) = self.most else {
            return false;
        };
        let younger = self.logins.iter().filter(|younger| {
            let younger = younger.operation;
            younger.call != login.call && login.call < younger.end() && younger.call < other.end()
        });
        let attempts = younger.map(|younger| younger.attempts);
        other.call != login.call && attempts.sum::<usize>() >= most
    }
}

/// Whether a sweep may end the session of this log-in. One that is answered, be it with 503, has found all that it will end:
/// some of them may end later. A change of the account, though, is noted, and carried out later if it has to be.
fn may_end(sweep: &Operation, login: &Operation) -> bool {
    match sweep.action {
        Action::EndAll { .. } => login.call < sweep.answer,
        _ => true,
    }
}
