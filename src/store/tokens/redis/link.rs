//! How Redis is reached: a pool for what comes in several commands, one shared connection for the checks of each master, and
//! what became of it when something failed.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use deadpool::managed::{Object, Pool};
use futures_util::FutureExt as _;
use futures_util::future::{join, join_all};
use redis::{ErrorKind, FromRedisValue, InfoDict, RedisError, RedisResult, Value};

use super::checks::{Answer, Idle, Question, is_unknown_script};
pub(super) use super::connection::Connection;
use super::connection::Connections;
use super::failure::{Attempt, Failure, not_ours, unexpected};
use super::node::{Node, probe};
use super::place;
use super::topology::Topology;
use crate::config;
use crate::store::tokens::InvalidTokensUrl;
use crate::store::{PoolStatus, StoreError};

/// How often a check is asked once more, elsewhere or with the whole script.
const DETOURS: usize = 4;

/// Keys that one step of `SCAN` looks at.
const SCAN_STEP: usize = 1_000;

/// How long a server that refused to tell something is not asked again.
const SILENCE: Duration = Duration::from_mins(1);

/// The way to a Redis.
pub(super) struct Link {
    topology: Arc<Topology>,
    pool: Pool<Connections>,
    timeout: Duration,
    idle: Option<Idle>,
    wait_replicas: u32,
    /// When a server refused to tell whether it may evict.
    silent_since: Mutex<Option<Instant>>,
}

impl Link {
    /// Prepares the way that `settings.url` describes. Nobody is asked.
    pub(super) fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        let (servers, access) = place::read(settings)?;
        let topology = Arc::new(Topology::new(servers, access));
        // No time-outs: the pool makes no connection itself, and waits as long as its user does.
        let pool = Pool::builder(Connections(Arc::clone(&topology)))
            .max_size(settings.pool_size)
            .build()
            .map_err(|_| InvalidTokensUrl)?;
        Ok(Self {
            topology,
            pool,
            timeout: settings.timeout,
            idle: settings.idle_ttl.map(Idle::new),
            wait_replicas: settings.wait_replicas,
            silent_since: Mutex::new(None),
        })
    }

    pub(super) fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        place::read(settings).map(drop)
    }

    pub(super) fn pool_status(&self) -> PoolStatus {
        let status = self.pool.status();
        PoolStatus {
            open: status.size,
            idle: status.available,
            max: status.max_size,
        }
    }

    /// Who holds the token with this key, by `users.id`, and how long it lives. With its companion, if there is an idle limit,
    /// the token is also said to be in use.
    pub(super) async fn check(
        &self,
        key: &str,
        companion: Option<&str>,
    ) -> Result<Option<(i64, Duration)>, StoreError> {
        let question = Question::new(key, companion, self.idle.as_ref());
        let answer = self.answer(key, &question).await.and_then(refused);
        if answer.is_err() {
            self.topology.doubt();
        }
        let (value, ttl) = answer.map_err(|error| self.failed(error))?;
        let user_id = match value {
            Value::Nil => return Ok(None),
            Value::BulkString(value) => std::str::from_utf8(&value)
                .ok()
                .and_then(|id| id.parse().ok())
                .ok_or_else(not_ours)?,
            _ => return Err(not_ours()),
        };
        let Value::Int(ttl) = ttl else {
            return Err(not_ours());
        };
        // The key may expire between the two commands; and what has no TTL was not written by this service.
        let ttl = u64::try_from(ttl).ok().filter(|ttl| *ttl > 0);
        Ok(ttl.map(|ttl| (user_id, Duration::from_millis(ttl))))
    }

    /// The answer of the master that has the key.
    async fn answer(&self, key: &str, question: &Question<'_>) -> Answer {
        let begin = tokio::time::Instant::now();
        if let Some(masters) = self.topology.known() {
            let node = masters.of(key.as_bytes())?;
            let answer = self.ask(node, question).await?;
            if !self.needs_detour(&answer.0, node) {
                return Ok(answer);
            }
        }
        // Apart from the rest, which every check carries along: the allocator is quick with a request's future only while it
        // has less than a KiB.
        let detour = Box::pin(self.detour(key, question));
        let detour = tokio::time::timeout_at(begin + self.timeout, detour);
        detour.await.unwrap_or(Err(Attempt::TimedOut))
    }

    fn needs_detour(&self, answer: &Value, node: &Node) -> bool {
        let Value::ServerError(error) = answer else {
            return false;
        };
        is_unknown_script(error) || self.topology.redirection(answer, node).is_some()
    }

    /// The same, wherever the servers send us, and of servers that don't know the script.
    async fn detour(&self, key: &str, question: &Question<'_>) -> Answer {
        let mut node = Arc::clone(self.topology.masters().await?.of(key.as_bytes())?);
        let (mut alone, mut ahead) = (false, false);
        for _ in 0..DETOURS {
            let answer = if alone {
                node.ask_alone(question, ahead).await?
            } else {
                self.ask(&node, question).await?
            };
            if let Some(elsewhere) = self.topology.redirection(&answer.0, &node) {
                (node, ahead) = elsewhere;
                alone = ahead;
            } else if let Value::ServerError(error) = &answer.0
                && is_unknown_script(error)
            {
                alone = true;
            } else {
                return Ok(answer);
            }
        }
        Err(unexpected("sent from one server to another").into())
    }

    async fn ask(&self, node: &Arc<Node>, question: &Question<'_>) -> Answer {
        if node.refuses_writes() {
            return Err(RedisError::from(Failure::Suspect).into());
        }
        node.ask(question).await
    }

    /// Runs commands on a connection of the pool.
    pub(super) async fn write<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, StoreError> {
        self.run(command).await.map_err(|error| self.failed(error))
    }

    /// The same, for those who want to know what the server said.
    pub(super) async fn run<T>(
        &self,
        command: impl AsyncFnOnce(&mut Connection) -> RedisResult<T>,
    ) -> Result<T, Attempt> {
        // One bound over all: a server that hangs lets each connection run into a time-out of its own.
        let deadline = tokio::time::Instant::now() + self.timeout;
        let connection = tokio::time::timeout_at(deadline, self.pool.get()).await;
        let Ok(Ok(mut connection)) = connection else {
            return Err(Attempt::PoolExhausted);
        };
        let outcome = tokio::time::timeout_at(deadline, command(&mut connection)).await;
        if let Ok(result) = outcome {
            return Ok(result?);
        }
        // Not back into the pool: an answer may still come, or none from this server.
        drop(Object::take(connection));
        self.topology.doubt();
        Err(Attempt::TimedOut)
    }

    /// Waits until `tokens.wait_replicas` replicas know what was written over `connection` since it was given out. It belongs
    /// after the last of these writes, into the same call of [`Link::write`].
    pub(super) async fn wait_for_replicas(&self, connection: &mut Connection) -> RedisResult<()> {
        if self.wait_replicas == 0 {
            return Ok(());
        }
        // The server gives up before the time for the whole is over, so that it can say how many there were.
        let patience = self.timeout * 4 / 5;
        connection
            .wait_for_replicas(self.wait_replicas, patience)
            .await
    }

    /// Begins to look for the keys of all masters that match `pattern`.
    pub(super) async fn scan(&self, pattern: &str) -> Result<Scan<'_>, StoreError> {
        let masters = self.in_time(self.topology.look()).await;
        let masters = masters.map_err(|error| self.failed(error))?;
        Ok(Scan {
            link: self,
            pattern: pattern.to_owned(),
            nodes: masters
                .all()
                .iter()
                .map(|master| Arc::clone(&master.node))
                .collect(),
            cursor: 0,
        })
    }

    /// Finds out where the masters are, and tries on each a write that changes nothing: over the pool, and over the connection
    /// of the checks, which might still lead to a server that is no master any more.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        let masters = self.in_time(self.topology.look()).await;
        let masters = masters.map_err(|error| self.failed(error))?;
        if !masters.cover_all_slots() {
            return Err(self.failed(RedisError::from(Failure::Uncovered).into()));
        }
        let mut probes = Vec::new();
        for master in masters.all() {
            probes.push(master.node.probe(&master.probe));
        }
        // All of them to their end: each node remembers what it found.
        let checks = join_all(probes).map(|found| found.into_iter().collect::<Result<(), _>>());
        let pool = self.run(async |connection| {
            for master in masters.all() {
                let answer = connection.on(&master.node, &probe(&master.probe)).await;
                answer?.extract_error()?;
            }
            Ok(())
        });
        let (pool, checks) = join(pool, checks).await;
        let outcome = pool.and(checks);
        if outcome.is_err() {
            self.topology.doubt();
        }
        outcome.map_err(|error| self.failed(error))
    }

    /// Whether a master would evict sessions when its memory is full; `None` where it can't be had from it. Managed servers
    /// mostly forbid `CONFIG`, so it is read from `INFO`, which they let through.
    pub(super) async fn may_evict(&self) -> Option<bool> {
        let silent = || {
            let since = self.silent_since.lock();
            since.unwrap_or_else(PoisonError::into_inner)
        };
        if silent().is_some_and(|since| since.elapsed() < SILENCE) {
            return None;
        }
        let mut command = redis::cmd("INFO");
        command.arg("memory");
        let masters = self.topology.known()?;
        let infos = self.run(async |connection| {
            let mut infos = Vec::new();
            for master in masters.all() {
                let answer = connection.on(&master.node, &command).await?;
                infos.push(InfoDict::from_redis_value(answer.extract_error()?)?);
            }
            Ok(infos)
        });
        let infos = infos.await;
        // A refusal lands in the server's statistics, and in its log of refusals, so it is not provoked every second.
        let refused = |error: &RedisError| {
            matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
        };
        if matches!(&infos, Err(Attempt::Redis(error)) if refused(error)) {
            *silent() = Some(Instant::now());
        }
        let mut any = false;
        for info in infos.ok()? {
            let policy: String = info.get("maxmemory_policy")?;
            let limit: u64 = info.get("maxmemory")?;
            // Every token has a TTL, so any policy that evicts at all may evict it; without a limit none ever does.
            any |= limit > 0 && policy != "noeviction";
        }
        Some(any)
    }

    /// What time it is on each master.
    pub(super) async fn clocks(&self) -> Result<Vec<SystemTime>, StoreError> {
        let masters = self.in_time(self.topology.masters()).await;
        let masters = masters.map_err(|error| self.failed(error))?;
        let clocks = async |connection: &mut Connection| {
            let mut clocks = Vec::new();
            for master in masters.all() {
                let answer = connection.on(&master.node, &redis::cmd("TIME")).await?;
                let (seconds, micros): (u64, u32) =
                    FromRedisValue::from_redis_value(answer.extract_error()?)?;
                clocks.push(
                    SystemTime::UNIX_EPOCH
                        + Duration::from_secs(seconds)
                        + Duration::from_micros(micros.into()),
                );
            }
            Ok(clocks)
        };
        self.write(clocks).await
    }

    async fn in_time<T>(&self, work: impl Future<Output = RedisResult<T>>) -> Result<T, Attempt> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => Ok(result?),
            Err(_) => Err(Attempt::TimedOut),
        }
    }

    fn failed(&self, error: Attempt) -> StoreError {
        error.into_store_error(self.timeout)
    }
}

/// What the server refused is no answer, but that of something that is no string.
fn refused((value, ttl): (Value, Value)) -> Answer {
    match (value, ttl) {
        (Value::ServerError(error), _) if error.code() == "WRONGTYPE" => {
            Ok((Value::ServerError(error), Value::Nil))
        }
        (Value::ServerError(error), _) | (_, Value::ServerError(error)) => {
            Err(RedisError::from(error).into())
        }
        both => Ok(both),
    }
}

/// Keys of all masters, some at a time.
pub(super) struct Scan<'a> {
    link: &'a Link,
    pattern: String,
    /// Those that are not done with, the current one last.
    nodes: Vec<Arc<Node>>,
    cursor: u64,
}

impl Scan<'_> {
    /// The next keys, which may be none; `None` after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Vec<String>>, StoreError> {
        let Some(node) = self.nodes.last() else {
            return Ok(None);
        };
        let mut command = redis::cmd("SCAN");
        command.arg(self.cursor).arg("MATCH").arg(&self.pattern);
        command.arg("COUNT").arg(SCAN_STEP);
        let step = async |connection: &mut Connection| -> RedisResult<(u64, Vec<String>)> {
            let answer = connection.on(node, &command).await?;
            Ok(FromRedisValue::from_redis_value(answer.extract_error()?)?)
        };
        let (next, keys) = self.link.write(step).await?;
        self.cursor = next;
        if next == 0 {
            self.nodes.pop();
        }
        Ok(Some(keys))
    }
}
