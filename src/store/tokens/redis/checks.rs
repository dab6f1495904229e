//! The commands of the checks: one connection for all that ask the same server, and one write for those that come together.
//!
//! A check that wakes a task which sends it at once makes for writes of one check each, since the runtime runs first what
//! was woken last. So the first check of a batch begins a task that lets all other tasks which are ready go first, and
//! then sends what has gathered as one pipeline. A lone check waits for nobody.

use std::mem;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use redis::{Cmd, Pipeline, ServerError, ServerErrorKind, Value};
use tokio::sync::oneshot;

use super::failure::{Attempt, unexpected};
use super::node::Node;
use super::scripts::Script;

/// The script of the check with an idle limit.
pub(super) struct Idle {
    script: Script,
    limit: String,
}

impl Idle {
    pub(super) fn new(limit: Duration) -> Self {
        Self {
            script: Script::new(include_str!("scripts/check.lua")),
            limit: limit.as_millis().to_string(),
        }
    }
}

/// What is asked of a token's key: whose it is and how long it lives; and in the same breath, where there is an idle limit,
/// that the token lives on.
pub(super) struct Question<'a> {
    key: &'a str,
    use_of: Option<(&'a Idle, &'a str)>,
}

/// What the server said: whose the token is, and how long it lives in milliseconds.
pub(super) type Answer = Result<(Value, Value), Attempt>;

impl<'a> Question<'a> {
    pub(super) fn new(key: &'a str, companion: Option<&'a str>, idle: Option<&'a Idle>) -> Self {
        Self {
            key,
            use_of: idle.zip(companion),
        }
    }

    fn add_to(&self, commands: &mut Pipeline) {
        match self.use_of {
            None => {
                commands
                    .add_command(on("GET", self.key))
                    .add_command(on("PTTL", self.key));
            }
            Some((Idle { script, limit }, companion)) => {
                commands.add_command(script.command(&[self.key, companion], &[limit]));
            }
        }
    }

    /// The commands, for a server that does not know the script.
    fn add_whole_to(&self, commands: &mut Pipeline) {
        match self.use_of {
            None => self.add_to(commands),
            Some((Idle { script, limit }, companion)) => {
                commands.add_command(script.whole(&[self.key, companion], &[limit]));
            }
        }
    }

    fn answers(&self) -> usize {
        if self.use_of.is_some() { 1 } else { 2 }
    }
}

/// A command on one key, with room for both from the start: each check makes two of them.
fn on(command: &str, key: &str) -> Cmd {
    let mut sized = Cmd::with_capacity(2, command.len() + key.len());
    sized.arg(command).arg(key);
    sized
}

/// Checks that will be sent together.
#[derive(Default)]
pub(super) struct Batch {
    commands: Pipeline,
    waiting: Vec<(usize, oneshot::Sender<Answer>)>,
}

impl Node {
    /// Asks, together with whoever asks now, in one round trip.
    pub(super) async fn ask(self: &Arc<Self>, question: &Question<'_>) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.gather(question, answer) {
            tokio::spawn(Arc::clone(self).send());
        }
        // A sender is dropped without an answer when the runtime ends, or by a bug.
        answered
            .await
            .unwrap_or_else(|_| Err(unexpected("the task that sends the checks ended").into()))
    }

    /// Asks alone, with the whole script if there is one. `ahead`: before the slot of the key has come to this server for
    /// good.
    pub(super) async fn ask_alone(&self, question: &Question<'_>, ahead: bool) -> Answer {
        let mut plain = Pipeline::new();
        question.add_whole_to(&mut plain);
        let mut commands = Pipeline::new();
        for command in plain.cmd_iter() {
            if ahead {
                commands.cmd("ASKING");
            }
            commands.add_command(command.clone());
        }
        let answers = self.share(&commands).await?;
        let each = if ahead { 2 } else { 1 };
        let mut answers = answers.into_iter().skip(each - 1).step_by(each);
        answer(&mut answers, question.answers())
    }

    /// Adds a check to the next batch, and tells whether it is the first: whoever adds that one has to start the task that
    /// sends the batch, as nobody else will. A batch is no larger than the number of requests that are open.
    fn gather(&self, question: &Question<'_>, answer: oneshot::Sender<Answer>) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        question.add_to(&mut next.commands);
        next.waiting.push((question.answers(), answer));
        next.waiting.len() == 1
    }

    async fn send(self: Arc<Self>) {
        tokio::task::yield_now().await;
        let Batch { commands, waiting } =
            mem::take(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner));
        match self.share(&commands).await {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for (count, waiting) in waiting {
                    // A client that left waits no more.
                    let _ = waiting.send(answer(&mut answers, count));
                }
            }
            Err(error) => {
                for (_, waiting) in waiting {
                    let _ = waiting.send(Err(error.clone()));
                }
            }
        }
    }
}

/// The next of `answers`, which is `count` of them.
fn answer(answers: &mut impl Iterator<Item = Value>, count: usize) -> Answer {
    let mut next = || {
        answers
            .next()
            .ok_or_else(|| unexpected("an answer is missing"))
    };
    let first = next()?;
    if count == 2 {
        return Ok((first, next()?));
    }
    match first {
        Value::Array(both) => {
            let mut both = both.into_iter();
            let both = both.next().zip(both.next());
            both.ok_or_else(|| unexpected("half of an answer is missing").into())
        }
        other => Ok((other, Value::Nil)),
    }
}

/// Whether the server does not know the script: after a restart, a fail-over or `SCRIPT FLUSH`.
pub(super) fn is_unknown_script(error: &ServerError) -> bool {
    error.kind() == Some(ServerErrorKind::NoScript)
}
