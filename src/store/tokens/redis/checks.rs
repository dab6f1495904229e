//! The commands of the checks: one connection for all, and one write for those that come together.
//!
//! A check that wakes a task which sends it at once makes for writes of one check each, since the runtime runs first what
//! was woken last. So the first check of a batch begins a task that lets all other tasks which are ready go first, and
//! then sends what has gathered as one pipeline. A lone check waits for nobody.

use std::mem;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use redis::{Client, ErrorKind, Pipeline, RedisError, RedisResult, Value};
use tokio::sync::oneshot;

use super::link::Attempt;

/// What the server said of a key: to `GET`, and to `PTTL`.
pub(super) type Answer = Result<(Value, Value), Attempt>;

/// Commands of one check.
const COMMANDS: usize = 2;

/// The connection of the checks, and those that wait for it.
pub(super) struct Checks {
    client: Client,
    config: ConnectionManagerConfig,
    connection: RwLock<ConnectionManager>,
    timeout: Duration,
    next: Mutex<Batch>,
}

/// Checks that will be sent together.
#[derive(Default)]
struct Batch {
    commands: Pipeline,
    waiting: Vec<oneshot::Sender<Answer>>,
}

impl Checks {
    /// Nothing is sent yet.
    pub(super) fn new(client: Client, timeout: Duration) -> RedisResult<Arc<Self>> {
        let config = ConnectionManagerConfig::new()
            // One timer for each batch is enough.
            .set_response_timeout(None)
            .set_connection_timeout(Some(timeout))
            // A check that comes while the server is away waits for the next try, so one has to come within its time-out.
            .set_min_delay(timeout / 8)
            .set_max_delay(timeout / 4);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config.clone())?;
        Ok(Arc::new(Self {
            client,
            config,
            connection: RwLock::new(connection),
            timeout,
            next: Mutex::default(),
        }))
    }

    /// Takes another connection from now on: the name of the server is looked up anew.
    pub(super) fn reconnect(&self) -> RedisResult<()> {
        let fresh =
            ConnectionManager::new_lazy_with_config(self.client.clone(), self.config.clone())?;
        *self
            .connection
            .write()
            .unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(())
    }

    /// Asks for the value and the remaining life of `key`, in one round trip.
    pub(super) async fn ask(self: &Arc<Self>, key: &str) -> Answer {
        let (answer, answered) = oneshot::channel();
        if self.gather(key, answer) {
            tokio::spawn(Arc::clone(self).send());
        }
        // A sender is dropped without an answer when the runtime ends, or by a bug.
        answered
            .await
            .unwrap_or_else(|_| Err(unexpected("the task that sends the checks ended")))
    }

    /// Adds a check to the next batch, and tells whether it is the first: whoever adds that one has to start the task that
    /// sends the batch, as nobody else will. A batch is no larger than the number of requests that are open.
    fn gather(&self, key: &str, answer: oneshot::Sender<Answer>) -> bool {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        next.commands.cmd("GET").arg(key).cmd("PTTL").arg(key);
        next.waiting.push(answer);
        next.waiting.len() == 1
    }

    async fn send(self: Arc<Self>) {
        tokio::task::yield_now().await;
        let Batch { commands, waiting } =
            mem::take(&mut *self.next.lock().unwrap_or_else(PoisonError::into_inner));
        let count = waiting.len() * COMMANDS;
        let answers = tokio::time::timeout(self.timeout, self.run(&commands, count)).await;
        let answers = match answers {
            Ok(answers) => answers.map_err(Attempt::Redis),
            Err(_) => Err(Attempt::TimedOut),
        };
        match answers {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for waiting in waiting {
                    let answer = answers.next().zip(answers.next());
                    // A client that left waits no more.
                    let _ = waiting.send(answer.ok_or_else(|| unexpected("an answer is missing")));
                }
            }
            Err(error) => {
                for waiting in waiting {
                    let _ = waiting.send(Err(error.clone()));
                }
            }
        }
    }

    async fn run(&self, commands: &Pipeline, count: usize) -> RedisResult<Vec<Value>> {
        let connection = self.connection.read();
        let mut connection = connection.unwrap_or_else(PoisonError::into_inner).clone();
        match connection.req_packed_commands(commands, 0, count).await {
            // The connection was closed while nobody used it, as by a restart, or could not be made when it was last
            // tried: that says nothing of the server as it is now. The manager connects anew, and the second try waits
            // for that.
            Err(error) if error.is_io_error() => {
                connection.req_packed_commands(commands, 0, count).await
            }
            result => result,
        }
    }
}

fn unexpected(what: &'static str) -> Attempt {
    Attempt::Redis(RedisError::from((ErrorKind::UnexpectedReturnType, what)))
}
