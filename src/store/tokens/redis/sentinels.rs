//! Those who watch a master and its replicas, and make one of these the master when it fails.

use std::collections::HashMap;
use std::time::Duration;

use futures_util::FutureExt as _;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{FromRedisValue as _, RedisResult, Value};

use super::failure::{Failure, unexpected};
use super::place::{Access, Address};
use super::topology::most;

/// The sentinels that the URL names.
pub(super) struct Sentinels {
    master: String,
    all: tokio::sync::Mutex<Vec<Sentinel>>,
}

struct Sentinel {
    address: Address,
    accesses: Vec<Access>,
    connection: Option<MultiplexedConnection>,
}

/// What a sentinel knows of the master.
struct View {
    /// Each switch has a number of its own, and it grows.
    epoch: u64,
    address: Option<Address>,
}

impl Sentinels {
    /// Nobody is asked.
    pub(super) fn new(addresses: Vec<Address>, master: String, access: &Access) -> Self {
        // A sentinel mostly asks for no password, and refuses one that it doesn't ask for.
        let mut accesses = vec![access.anonymous()];
        if access.has_login() {
            accesses.push(access.without_database());
        }
        let all = addresses.into_iter().map(|address| Sentinel {
            address,
            accesses: accesses.clone(),
            connection: None,
        });
        Self {
            master,
            all: tokio::sync::Mutex::new(all.collect()),
        }
    }

    /// Where the master is, as the sentinel says that has heard of the latest switch.
    pub(super) async fn master(&self, patience: Duration) -> RedisResult<Address> {
        let mut all = self.all.lock().await;
        let mut asked = Vec::new();
        for sentinel in all.iter_mut() {
            asked.push(sentinel.view(&self.master).boxed());
        }
        let (views, error) = most(asked, patience).await;
        let answered = !views.is_empty();
        let known = views
            .into_iter()
            .filter_map(|view| Some((view.epoch, view.address?)));
        if let Some((_, address)) = known.max_by_key(|(epoch, _)| *epoch) {
            return Ok(address);
        }
        if answered {
            return Err(Failure::UnknownMaster.into());
        }
        let cause = error.map_or_else(String::new, |error| Failure::of(&error).to_string());
        Err(Failure::NoSentinel(cause).into())
    }
}

impl Sentinel {
    async fn view(&mut self, master: &str) -> RedisResult<View> {
        // Kept only if all went well: who waits for the others may leave this one in the middle.
        if let Some(mut connection) = self.connection.take()
            && let Ok(view) = ask(&mut connection, master).await
        {
            self.connection = Some(connection);
            return Ok(view);
        }
        let mut outcome = Err(unexpected("there is no way to connect"));
        for access in &self.accesses {
            let connected = access.connect(&self.address).await;
            match connected {
                Ok(mut connection) => {
                    outcome = ask(&mut connection, master).await;
                    if outcome.is_ok() {
                        self.connection = Some(connection);
                        break;
                    }
                }
                Err(error) => outcome = Err(error),
            }
            // Only a refusal is another one with a password.
            if outcome
                .as_ref()
                .is_err_and(|error| error.code() != Some("NOAUTH"))
            {
                break;
            }
        }
        outcome
    }
}

async fn ask(connection: &mut MultiplexedConnection, master: &str) -> RedisResult<View> {
    let mut commands = redis::pipe();
    // During a switch this is the new master's as soon as it is one; the other, which has the epoch, comes later.
    commands
        .cmd("SENTINEL")
        .arg("GET-MASTER-ADDR-BY-NAME")
        .arg(master);
    commands.cmd("SENTINEL").arg("MASTER").arg(master);
    let answers = connection
        .req_packed_commands(&commands, 0, commands.len())
        .await?;
    let mut answers = answers.into_iter();
    let (Some(address), Some(details)) = (answers.next(), answers.next()) else {
        return Err(unexpected("an answer is missing"));
    };
    let address = match address.extract_error()? {
        Value::Nil => None,
        address => {
            let (host, port) = <(String, u16)>::from_redis_value(address)?;
            Some(Address { host, port })
        }
    };
    let details = HashMap::<String, String>::from_redis_value(details).unwrap_or_default();
    let epoch = details.get("config-epoch");
    Ok(View {
        epoch: epoch
            .and_then(|epoch| epoch.parse().ok())
            .unwrap_or_default(),
        address,
    })
}
