//! A connection of the pool: one to each master that its user had to do with.

use std::sync::Arc;
use std::time::Duration;

use deadpool::managed::{Manager, Metrics, RecycleResult};
use futures_util::future::join_all;
use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Cmd, Pipeline, RedisError, RedisFuture, RedisResult, Value};

use super::failure::{Failure, Refusal, unexpected};
use super::node::{Node, is_lost};
use super::route::{Parts, key_of};
use super::topology::Topology;

/// Redirections that one command follows: a slot that moves is in one of two places, and the second may be told late.
const REDIRECTIONS: usize = 4;

/// Makes the connections of the pool.
pub(super) struct Connections(pub(super) Arc<Topology>);

/// Connections to masters, for one user at a time. A command goes to the master that has its key, and one that names several
/// keys (`DEL`, `MGET`) or a pipeline that is no transaction to as many as it needs.
pub(super) struct Connection {
    topology: Arc<Topology>,
    held: Vec<Held>,
    /// One of them was given up since it was taken from the pool: what was written over it can't be waited for.
    lost: bool,
}

struct Held {
    node: Arc<Node>,
    connection: MultiplexedConnection,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Not used since it was taken from the pool: it may be dead.
    Idle,
    /// Used since then.
    Used,
    /// An answer was not waited for.
    Busy,
}

impl Manager for Connections {
    type Type = Connection;
    type Error = std::convert::Infallible;

    async fn create(&self) -> Result<Connection, Self::Error> {
        Ok(Connection {
            topology: Arc::clone(&self.0),
            held: Vec::new(),
            lost: false,
        })
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> RecycleResult<Self::Error> {
        connection.rest();
        Ok(())
    }
}

impl Connection {
    /// Before the next user has it.
    fn rest(&mut self) {
        let known = self.topology.known();
        let is_master = |node: &Arc<Node>| {
            let mut masters = known.iter().flat_map(|masters| masters.all());
            masters.any(|master| Arc::ptr_eq(&master.node, node))
        };
        // Without the masters nothing can be said of the others.
        self.held
            .retain(|held| held.state != State::Busy && (known.is_none() || is_master(&held.node)));
        for held in &mut self.held {
            held.state = State::Idle;
        }
        self.lost = false;
    }

    /// Runs a command on a certain master.
    pub(super) async fn on(&mut self, node: &Arc<Node>, command: &Cmd) -> RedisResult<Value> {
        let mut connection = self.take(node).await?;
        let result = connection.req_packed_command(command).await;
        self.put_back(node, result.as_ref().map(std::slice::from_ref));
        result
    }

    async fn pipeline_on(
        &mut self,
        node: &Arc<Node>,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        let mut connection = self.take(node).await?;
        let result = connection
            .req_packed_commands(pipeline, offset, count)
            .await;
        self.put_back(node, result.as_ref().map(Vec::as_slice));
        result
    }

    /// The connection to a master, which is busy until it is put back.
    async fn take(&mut self, node: &Arc<Node>) -> RedisResult<MultiplexedConnection> {
        let known = |held: &Held| Arc::ptr_eq(&held.node, node);
        if let Some(held) = self.held.iter_mut().find(|held| known(held)) {
            let state = std::mem::replace(&mut held.state, State::Busy);
            let mut connection = held.connection.clone();
            let alive = match state {
                State::Used => true,
                State::Idle => {
                    let answer = connection.req_packed_command(&redis::cmd("PING")).await;
                    answer.and_then(Value::extract_error).is_ok()
                }
                State::Busy => {
                    self.lost = true;
                    false
                }
            };
            if alive {
                return Ok(connection);
            }
            self.held.retain(|held| !known(held));
        }
        let connected = node.connect().await;
        let connection = connected.inspect_err(|_| self.topology.doubt())?;
        self.held.push(Held {
            node: Arc::clone(node),
            connection: connection.clone(),
            state: State::Busy,
        });
        Ok(connection)
    }

    fn put_back(&mut self, node: &Arc<Node>, result: Result<&[Value], &RedisError>) {
        let keep = match result {
            Ok(answers) => match Refusal::among(answers) {
                Some(refusal) => {
                    self.topology.doubt();
                    if refusal == Refusal::NoMaster {
                        node.refuse_writes();
                    }
                    // After a fail-over the name may lead elsewhere.
                    refusal != Refusal::NoMaster
                }
                None => true,
            },
            Err(error) if is_lost(error) => {
                self.topology.doubt();
                false
            }
            Err(_) => true,
        };
        let known = |held: &Held| Arc::ptr_eq(&held.node, node);
        if keep {
            for held in self.held.iter_mut().filter(|held| known(held)) {
                held.state = State::Used;
            }
        } else {
            self.lost = true;
            self.held.retain(|held| !known(held));
        }
    }

    async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        let masters = self.topology.masters().await?;
        let key = key_of(command).unwrap_or_default();
        if self.topology.is_cluster()
            && let Some(parts) = Parts::of(command)
        {
            let answers = self.run_spread(&parts.commands).await?;
            return parts.together(answers);
        }
        let node = Arc::clone(masters.of(key)?);
        let answer = self.on(&node, command).await?;
        self.follow(node, command, answer).await
    }

    /// Where the first answer sends us elsewhere, asks there.
    async fn follow(
        &mut self,
        mut node: Arc<Node>,
        command: &Cmd,
        mut answer: Value,
    ) -> RedisResult<Value> {
        for _ in 0..REDIRECTIONS {
            let Some((other, ahead)) = self.topology.redirection(&answer, &node) else {
                return Ok(answer);
            };
            node = other;
            answer = if ahead {
                let mut both = redis::pipe();
                both.cmd("ASKING").add_command(command.clone());
                let answers = self.pipeline_on(&node, &both, 0, 2).await?;
                answers
                    .into_iter()
                    .next_back()
                    .ok_or_else(|| unexpected("an answer is missing"))?
            } else {
                self.on(&node, command).await?
            };
        }
        Ok(answer)
    }

    /// Runs commands on the masters that have their keys, and tells the answers in their order.
    async fn run_spread(&mut self, commands: &[Cmd]) -> RedisResult<Vec<Value>> {
        let masters = self.topology.masters().await?;
        let mut shares: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
        for (index, command) in commands.iter().enumerate() {
            let node = masters.of(key_of(command).unwrap_or_default())?;
            match shares
                .iter_mut()
                .find(|(other, _)| Arc::ptr_eq(other, node))
            {
                Some((_, indices)) => indices.push(index),
                None => shares.push((Arc::clone(node), vec![index])),
            }
        }
        let mut answers: Vec<Option<(Arc<Node>, Value)>> = vec![None; commands.len()];
        for (node, indices) in shares {
            let mut pipeline = Pipeline::new();
            for command in indices.iter().filter_map(|index| commands.get(*index)) {
                pipeline.add_command(command.clone());
            }
            let values = self
                .pipeline_on(&node, &pipeline, 0, pipeline.len())
                .await?;
            for (index, value) in indices.into_iter().zip(values) {
                if let Some(answer) = answers.get_mut(index) {
                    *answer = Some((Arc::clone(&node), value));
                }
            }
        }
        let mut values = Vec::with_capacity(commands.len());
        for (command, answer) in commands.iter().zip(answers) {
            let (node, answer) = answer.ok_or_else(|| unexpected("an answer is missing"))?;
            values.push(self.follow(node, command, answer).await?);
        }
        Ok(values)
    }

    async fn run_pipeline(
        &mut self,
        pipeline: &Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisResult<Vec<Value>> {
        if self.topology.is_cluster() && !pipeline.is_transaction() {
            let commands: Vec<Cmd> = pipeline.cmd_iter().cloned().collect();
            return self.run_spread(&commands).await;
        }
        let masters = self.topology.masters().await?;
        let key = pipeline.cmd_iter().find_map(key_of);
        let node = Arc::clone(masters.of(key.unwrap_or_default())?);
        self.pipeline_on(&node, pipeline, offset, count).await
    }

    /// Waits until as many replicas as `wanted` know all that was written over this connection since it was taken from the
    /// pool, on each of the masters.
    pub(super) async fn wait_for_replicas(
        &mut self,
        wanted: u32,
        patience: Duration,
    ) -> RedisResult<()> {
        if self.lost {
            return Err(Failure::Lost.into());
        }
        let masters = self.topology.masters().await?;
        // On the very connections: after a fail-over the new master knows nothing of what was lost.
        let mut waits = Vec::new();
        for held in self
            .held
            .iter_mut()
            .filter(|held| held.state == State::Used)
        {
            let mut all = masters.all().iter();
            let master = all.find(|master| Arc::ptr_eq(&master.node, &held.node));
            let master = master.ok_or_else(|| RedisError::from(Failure::ReadOnly))?;
            waits.push(async {
                // It can't be used for anything else until there is an answer.
                held.state = State::Busy;
                let connection = held.connection.clone();
                let result = wait(connection, &master.probe, wanted, patience).await;
                let answered = match &result {
                    Ok(()) => true,
                    Err(error) => matches!(Failure::of(error), Failure::NotReplicated { .. }),
                };
                if answered {
                    held.state = State::Used;
                }
                result
            });
        }
        // All of them to their end, so that none is left in the middle of it.
        let outcomes = join_all(waits).await;
        outcomes.into_iter().collect()
    }
}

/// Waits for the replicas of the server to which `connection` leads; `key` is one of its keys that is never there.
async fn wait(
    mut connection: MultiplexedConnection,
    key: &str,
    wanted: u32,
    patience: Duration,
) -> RedisResult<()> {
    // The server waits for what this connection has written. What is gone already, since somebody tries to end it for the
    // second time, is no write, and its replicas may still have it: so this is one that comes after all others.
    let mut mark = redis::pipe();
    mark.atomic();
    mark.cmd("HSET").arg(key).arg("mark").arg(1).ignore();
    mark.cmd("DEL").arg(key).ignore();
    match mark.exec_async(&mut connection).await {
        Ok(()) => {}
        // Deleting needs no memory.
        Err(error) if is_full(&error) => {}
        Err(error) => return Err(error),
    }
    let mut command = redis::cmd("WAIT");
    command.arg(wanted).arg(patience.as_millis());
    let acknowledged: u64 = command.query_async(&mut connection).await?;
    if acknowledged < u64::from(wanted) {
        return Err(Failure::NotReplicated {
            acknowledged,
            wanted,
            waited: patience,
        }
        .into());
    }
    Ok(())
}

fn is_full(error: &RedisError) -> bool {
    let errors = error.clone().into_server_errors();
    errors.is_some_and(|errors| errors.iter().any(|(_, error)| error.code() == "OOM"))
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        Box::pin(self.run(command))
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(self.run_pipeline(pipeline, offset, count))
    }

    fn get_db(&self) -> i64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::super::place;
    use super::*;
    use crate::config::Config;

    /// Says yes to everything, and hangs up when it is told `BYE`.
    async fn serve(listener: TcpListener) {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = client.read(&mut bytes).await {
                let text = String::from_utf8_lossy(&bytes[..length]);
                if text.contains("BYE") {
                    break;
                }
                let commands = text.lines().filter(|line| line.starts_with('*')).count();
                let answers = "+OK\r\n".repeat(commands);
                client.write_all(answers.as_bytes()).await.unwrap();
            }
        }
    }

    #[tokio::test]
    async fn what_was_written_over_a_lost_connection_is_not_said_to_be_on_the_replicas() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        tokio::spawn(serve(listener));
        let mut settings = Config::default().tokens;
        settings.url = url.into();
        let (servers, access) = place::read(&settings).unwrap();
        let connections = Connections(Arc::new(Topology::new(servers, access)));
        let Ok(mut connection) = connections.create().await;

        let mut delete = redis::cmd("DEL");
        delete
            .arg("token")
            .exec_async(&mut connection)
            .await
            .unwrap();
        let mut forget = redis::cmd("HDEL");
        let forget = forget.arg("BYE").exec_async(&mut connection).await;
        assert!(is_lost(&forget.unwrap_err()));
        let second = Duration::from_secs(1);
        let error = connection.wait_for_replicas(1, second).await.unwrap_err();
        assert_eq!(Failure::of(&error), Failure::Lost);

        // Whoever has it next has lost nothing.
        connection.rest();
        connection.wait_for_replicas(1, second).await.unwrap();
    }
}
