//! What a history is made of: who asked for what, when, and what the answer was.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A moment at which somebody called or was answered. No two are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moment {
    /// Its place among all moments. It decides: two readings of a clock could be equal.
    order: u64,
    /// Since the start, for the reader.
    at: Duration,
}

impl Moment {
    /// Before all others.
    pub(super) const START: Self = Self {
        order: 0,
        at: Duration::ZERO,
    };

    /// After all others: what has no end may still happen.
    pub(super) const NEVER: Self = Self {
        order: u64::MAX,
        at: Duration::MAX,
    };

    /// A moment of a hand-made history, in milliseconds.
    pub(super) const fn by_hand(millis: u64) -> Self {
        Self {
            order: millis,
            at: Duration::from_millis(millis),
        }
    }
}

impl fmt::Display for Moment {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::NEVER {
            return formatter.pad("never");
        }
        let micros = self.at.as_micros();
        formatter.pad(&format!("{}.{:03} ms", micros / 1_000, micros % 1_000))
    }
}

/// The one clock of a run.
pub(super) struct Clock {
    start: Instant,
    next: AtomicU64,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            next: AtomicU64::new(1),
        }
    }

    /// What happened before in any thread has a smaller moment.
    pub(super) fn now(&self) -> Moment {
        Moment {
            order: self.next.fetch_add(1, Ordering::SeqCst),
            at: self.start.elapsed(),
        }
    }
}

/// The id of a session.
pub(super) type SessionId = Arc<str>;

/// A password of a user: they are numbered in the order in which they are set, and none is set twice. The first is 0.
pub(super) type Password = u32;

/// What a client asks for. `by` is the session whose token it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    LogIn {
        password: Password,
    },
    Check {
        by: SessionId,
    },
    LogOut {
        by: SessionId,
    },
    /// Ends one session by its id.
    End {
        by: SessionId,
        session: SessionId,
    },
    /// Ends all sessions; `keep` spares the client's own.
    EndAll {
        by: SessionId,
        keep: bool,
    },
    List {
        by: SessionId,
    },
    /// The user sets another password; `by` is spared.
    ChangePassword {
        by: SessionId,
        from: Password,
        to: Password,
    },
    /// From somewhere else, such as the command line: nobody may log in any more.
    Disable,
    /// From somewhere else: this password is set, and whoever knows it may log in.
    Enable {
        password: Password,
    },
}

impl Action {
    /// The session whose token is shown.
    pub(super) fn by(&self) -> Option<&SessionId> {
        match self {
            Self::LogIn { .. } | Self::Disable | Self::Enable { .. } => None,
            Self::Check { by }
            | Self::LogOut { by }
            | Self::End { by, .. }
            | Self::EndAll { by, .. }
            | Self::List { by }
            | Self::ChangePassword { by, .. } => Some(by),
        }
    }

    /// For a summary.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::LogIn { .. } => "log in",
            Self::Check { .. } => "check",
            Self::LogOut { .. } => "log out",
            Self::End { .. } => "end",
            Self::EndAll { keep: false, .. } => "end all",
            Self::EndAll { keep: true, .. } => "end others",
            Self::List { .. } => "list",
            Self::ChangePassword { .. } => "change password",
            Self::Disable => "disable",
            Self::Enable { .. } => "enable",
        }
    }
}

/// What the client was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// 200 to a log-in.
    Token(SessionId),
    /// 200 to a check.
    User(i64),
    /// 200 to a list: all sessions, and those that are marked as the client's own.
    Sessions {
        all: Vec<SessionId>,
        current: Vec<SessionId>,
    },
    /// 204.
    Done,
    /// 401.
    Refused,
    /// 403: the current password is wrong.
    WrongPassword,
    /// 404.
    NotFound,
    /// 503, or the client left: it may have been done, or be done later.
    Unknown,
    /// An answer that the contract does not know.
    Unexpected(String),
}

impl Outcome {
    /// For a summary.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Token(_) | Self::User(_) | Self::Sessions { .. } | Self::Done => "done",
            Self::Refused => "401",
            Self::WrongPassword => "403",
            Self::NotFound => "404",
            Self::Unknown => "unknown",
            Self::Unexpected(_) => "unexpected",
        }
    }
}

/// One operation, from its call to its answer.
#[derive(Clone, Debug)]
pub(super) struct Operation {
    /// The user whose name, or whose token, was sent.
    pub(super) user: i64,
    /// Which client asked which instance.
    pub(super) client: usize,
    pub(super) instance: usize,
    pub(super) action: Action,
    pub(super) call: Moment,
    /// [`Moment::NEVER`] if the client left.
    pub(super) answer: Moment,
    pub(super) outcome: Outcome,
}

impl Operation {
    /// The last moment at which it may have an effect.
    pub(super) fn end(&self) -> Moment {
        match self.outcome {
            Outcome::Unknown => Moment::NEVER,
            _ => self.answer,
        }
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            user,
            client,
            instance,
            action,
            call,
            answer,
            outcome,
        } = self;
        write!(
            formatter,
            "{call:>14} to {answer:>14}  client {client:>2} at instance {instance}, user {user}: "
        )?;
        match action {
            Action::LogIn { password } => write!(formatter, "log in with password {password}")?,
            Action::Check { by } => write!(formatter, "check {by}")?,
            Action::LogOut { by } => write!(formatter, "log out {by}")?,
            Action::End { by, session } => write!(formatter, "end {session}, by {by}")?,
            Action::EndAll { by, keep: false } => write!(formatter, "end all, by {by}")?,
            Action::EndAll { by, keep: true } => write!(formatter, "end all others, by {by}")?,
            Action::List { by } => write!(formatter, "list, by {by}")?,
            Action::ChangePassword { by, from, to } => {
                write!(
                    formatter,
                    "change password {from} to password {to}, by {by}"
                )?;
            }
            Action::Disable => formatter.write_str("disable the user")?,
            Action::Enable { password } => {
                write!(formatter, "enable the user with password {password}")?;
            }
        }
        formatter.write_str(" -> ")?;
        match outcome {
            Outcome::Token(session) => write!(formatter, "token of {session}"),
            Outcome::User(id) => write!(formatter, "user {id}"),
            Outcome::Sessions { all, .. } => write!(formatter, "{} sessions", all.len()),
            Outcome::Done => formatter.write_str("done"),
            Outcome::Refused => formatter.write_str("401"),
            Outcome::WrongPassword => formatter.write_str("403"),
            Outcome::NotFound => formatter.write_str("404"),
            Outcome::Unknown if *answer == Moment::NEVER => formatter.write_str("the client left"),
            Outcome::Unknown => formatter.write_str("503"),
            Outcome::Unexpected(text) => formatter.write_str(text),
        }
    }
}
