//! A server that holds tokens, and the connection to it that all checks share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, RedisError, RedisResult, Value};

use super::checks::Batch;
use super::failure::{Attempt, Failure, Refusal};
use super::place::{Access, Address};

/// A server.
pub(super) struct Node {
    address: Address,
    access: Access,
    asks_role: bool,
    /// It refused a write: it may be no master any more, and may not have heard of a revocation.
    refuses_writes: AtomicBool,
    /// The connection that is shared, and its number.
    shared: Mutex<Option<(u64, MultiplexedConnection)>>,
    number: AtomicU64,
    /// Held while the shared connection is made, so that however many want it, one makes it.
    connecting: tokio::sync::Mutex<()>,
    /// The checks that will be sent together.
    pub(super) next: Mutex<Batch>,
}

impl Node {
    /// `asks_role`: a replica would answer as its master does. Nothing is sent yet.
    pub(super) fn new(address: Address, access: Access, asks_role: bool) -> Self {
        Self {
            address,
            access,
            asks_role,
            refuses_writes: AtomicBool::new(false),
            shared: Mutex::new(None),
            number: AtomicU64::new(0),
            connecting: tokio::sync::Mutex::new(()),
            next: Mutex::default(),
        }
    }

    pub(super) fn address(&self) -> &Address {
        &self.address
    }

    /// Connects to it, if it is a master, as far as it tells.
    pub(super) async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        let mut connection = self.access.connect(&self.address).await?;
        if self.asks_role {
            match connection.req_packed_command(&redis::cmd("ROLE")).await? {
                Value::Array(role) => match role.first() {
                    Some(Value::BulkString(name)) if name == b"slave" => {
                        return Err(Failure::ReadOnly.into());
                    }
                    _ => {}
                },
                Value::ServerError(error) if Refusal::of(&error).is_some() => {
                    return Err(error.into());
                }
                // Mostly a user who may not ask. A replica is then found out by a write.
                _ => {}
            }
        }
        Ok(connection)
    }

    /// Runs commands that may be run twice over the shared connection, and tells their answers.
    pub(super) async fn share(&self, commands: &Pipeline) -> Result<Vec<Value>, Attempt> {
        let used = AtomicU64::new(0);
        let attempt = async {
            match self.share_once(commands, &used).await {
                // The connection was closed while nobody used it, as by a restart: that says nothing of the server as it is
                // now.
                Err(error) if is_lost(&error) && used.load(Ordering::Relaxed) > 0 => {
                    used.store(0, Ordering::Relaxed);
                    self.share_once(commands, &used).await
                }
                result => result,
            }
        };
        // One timer for each batch is enough.
        match tokio::time::timeout(self.access.timeout(), attempt).await {
            Ok(Ok(answers)) => {
                if Refusal::among(&answers) == Some(Refusal::NoMaster) {
                    self.refuse_writes();
                    self.give_up(used.into_inner());
                }
                Ok(answers)
            }
            Ok(Err(error)) => Err(Attempt::Redis(error)),
            Err(_) => {
                // An answer may never come.
                self.give_up(used.into_inner());
                Err(Attempt::TimedOut)
            }
        }
    }

    async fn share_once(&self, commands: &Pipeline, used: &AtomicU64) -> RedisResult<Vec<Value>> {
        let (number, mut connection) = self.shared_connection().await?;
        used.store(number, Ordering::Relaxed);
        let result = connection
            .req_packed_commands(commands, 0, commands.len())
            .await;
        if result.as_ref().is_err_and(is_lost) {
            self.give_up(number);
        }
        result
    }

    async fn shared_connection(&self) -> RedisResult<(u64, MultiplexedConnection)> {
        if let Some(open) = self.shared().clone() {
            return Ok(open);
        }
        let _alone = self.connecting.lock().await;
        if let Some(open) = self.shared().clone() {
            return Ok(open);
        }
        let connection = self.connect().await?;
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        *self.shared() = Some((number, connection.clone()));
        Ok((number, connection))
    }

    /// Has the shared connection made anew, unless that was done meanwhile.
    fn give_up(&self, number: u64) {
        let mut shared = self.shared();
        if shared.as_ref().is_some_and(|(open, _)| *open == number) {
            *shared = None;
        }
    }

    fn shared(&self) -> MutexGuard<'_, Option<(u64, MultiplexedConnection)>> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refuses_writes(&self) -> bool {
        self.refuses_writes.load(Ordering::Relaxed)
    }

    pub(super) fn refuse_writes(&self) {
        self.refuses_writes.store(true, Ordering::Relaxed);
    }

    /// Tries a write that changes nothing on the shared connection, so that what it leads to is the master.
    pub(super) async fn probe(&self, key: &str) -> Result<(), Attempt> {
        let mut commands = redis::pipe();
        commands.add_command(probe(key));
        let answers = self.share(&commands).await?;
        if let Some(Value::ServerError(error)) = answers.into_iter().next() {
            return Err(Attempt::Redis(error.into()));
        }
        self.refuses_writes.store(false, Ordering::Relaxed);
        Ok(())
    }
}

/// `SETRANGE` with an empty value creates no key, and still is refused by a replica, by a server that is out of memory, that
/// can't persist, or that misses its replicas.
pub(super) fn probe(key: &str) -> redis::Cmd {
    let mut command = redis::cmd("SETRANGE");
    command.arg(key).arg(0).arg("");
    command
}

/// Whether the connection is of no use any more.
pub(super) fn is_lost(error: &RedisError) -> bool {
    error.is_io_error() || error.is_unrecoverable_error()
}
