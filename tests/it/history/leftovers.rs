//! What is in Redis when all is quiet: nothing that no living session explains, and nothing for ever.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;

use claviger::config::{self, TokenKey};
use claviger::store::schema::Schema;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};

use super::drive::Known;
use super::model::{Action, Operation, Outcome};
use super::service::Service;

/// How long the key of a token lives whose log-in did not come to its end, in milliseconds.
const UNCONFIRMED: i64 = 30_000;

/// All that one run has in Redis.
pub(super) struct Store {
    servers: Vec<MultiplexedConnection>,
    settings: config::Tokens,
    /// What the keys begin with that are not of tokens.
    private: String,
}

/// A key.
struct Found {
    /// In milliseconds; -1 if there is none.
    ttl: i64,
    value: Value,
}

enum Value {
    Text(String),
    Fields(BTreeMap<String, String>),
    Other,
}

/// The keys that are not yet explained.
type Keys = BTreeMap<String, Found>;

impl Store {
    pub(super) async fn of(service: &Service) -> Self {
        let mut servers = Vec::new();
        for url in &service.servers {
            let client = redis::Client::open(url.expose_secret()).unwrap();
            servers.push(client.get_multiplexed_async_connection().await.unwrap());
        }
        let schema = Schema::new(service.database.clone());
        let installation = schema.installation_id().await.unwrap().unwrap();
        Self {
            servers,
            settings: service.base.config.tokens.clone(),
            private: format!("claviger:{installation}:"),
        }
    }

    /// What is there and should not be, or should be there and is not. `faulty`: messages were lost, so that a log-in or an end
    /// may have been broken off. Then the index may know more than there is, and a key may be there that ends soon.
    pub(super) async fn complaints(
        &self,
        service: &Service,
        history: &[Operation],
        faulty: bool,
    ) -> Vec<String> {
        let mut complaints = Vec::new();
        let mut keys = Keys::new();
        for server in &self.servers {
            for prefix in [&self.settings.key_prefix, &self.private] {
                keys.extend(read(&mut server.clone(), prefix).await);
            }
        }
        for (key, found) in &keys {
            if found.ttl == -1 {
                complaints.push(format!("{} has no TTL", shown(key)));
            }
        }
        for person in &service.people {
            let sessions = person.sessions();
            let living = living(person.id, &sessions, history);
            let mut records = self.take_records(person.id, &mut keys);
            for known in living {
                let key = self.key(&known.token);
                if let Err(what) = self.take_token(person.id, &key, &mut keys) {
                    complaints.push(format!("{}: {what}", known.id));
                }
                let (_, name) = known.id.split_once('.').unwrap();
                if records.remove(name) != Some(key) {
                    complaints.push(format!("the index does not know {}", known.id));
                }
            }
            // What is left is of log-ins whose clients were told nothing.
            let mut untold = 0;
            for (name, key) in records {
                if self.take_token(person.id, &key, &mut keys).is_ok() {
                    untold += 1;
                } else if !faulty {
                    let user = person.id;
                    let what = format!("the index of user {user} knows {name}, which is not there");
                    complaints.push(what);
                }
            }
            let unknown = history.iter().filter(|operation| {
                operation.user == person.id
                    && matches!(operation.action, Action::LogIn { .. })
                    && operation.outcome == Outcome::Unknown
            });
            let unknown = unknown.count();
            if untold > unknown {
                let user = person.id;
                complaints.push(format!(
                    "user {user} has {untold} sessions that nobody was told of, and only {unknown} log-ins may have made some"
                ));
            }
        }
        // Names that nobody has, and the self-test of the service, stand under ids that no user has.
        let nobodies = self.nobodies(&keys);
        for nobody in nobodies {
            if !self.take_records(nobody, &mut keys).is_empty() {
                complaints.push(format!(
                    "the user {nobody}, whom there can't be, has sessions"
                ));
            }
        }
        for (key, Found { ttl, .. }) in keys {
            // What the throttle counts belongs to no session. It has an end, as all that is found here.
            if shown(&key).ends_with(":attempts") || shown(&key).ends_with(":failures") {
                continue;
            }
            if !faulty || ttl > UNCONFIRMED {
                let key = shown(&key);
                complaints.push(format!("nothing explains {key}, whose TTL is {ttl} ms"));
            }
        }
        complaints
    }

    /// The users who have an index, and ids that no user has.
    fn nobodies(&self, keys: &Keys) -> Vec<i64> {
        let users = keys.keys().filter_map(|key| {
            let user = key.strip_prefix(&self.private)?.strip_prefix("{u:")?;
            user.strip_suffix("}:sessions")?.parse().ok()
        });
        users.filter(|user| *user < 1).collect()
    }

    /// Takes the index of a user out of `keys`: of each session the name, and the key of its token.
    fn take_records(&self, user: i64, keys: &mut Keys) -> BTreeMap<String, String> {
        let hash = keys.remove(&format!("{}{{u:{user}}}:sessions", self.private));
        let Some(Value::Fields(fields)) = hash.map(|found| found.value) else {
            return BTreeMap::new();
        };
        let records = fields.into_iter();
        // The generation, and the revocations that were carried out.
        let records = records.filter(|(name, _)| !matches!(name.as_str(), "g" | "r"));
        let key = |record: String| record.lines().nth(4).unwrap_or_default().to_owned();
        records.map(|(name, record)| (name, key(record))).collect()
    }

    /// Takes what there is of one token out of `keys`.
    fn take_token(&self, user: i64, key: &str, keys: &mut Keys) -> Result<(), &'static str> {
        let companion = keys.remove(&format!("{}{{{key}}}:idle", self.private));
        match keys.remove(key).map(|found| found.value) {
            Some(Value::Text(holder)) if holder == user.to_string() => {}
            Some(_) => return Err("its key holds something else"),
            None => return Err("it has no key"),
        }
        if companion.is_some() != self.settings.idle_ttl.is_some() {
            return Err("its absolute end is not noted, or is and need not be");
        }
        Ok(())
    }

    fn key(&self, token: &str) -> String {
        let prefix = &self.settings.key_prefix;
        match self.settings.key {
            TokenKey::Plain => format!("{prefix}{token}"),
            TokenKey::Sha256 => {
                let hash = Sha256::digest(token);
                hash.iter().fold(prefix.clone(), |mut key, byte| {
                    write!(key, "{byte:02x}").unwrap();
                    key
                })
            }
        }
    }
}

/// Reads all keys of one server that begin so.
async fn read(server: &mut MultiplexedConnection, prefix: &str) -> Keys {
    let mut names = HashSet::new();
    let mut cursor: u64 = 0;
    loop {
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(format!("{prefix}*"));
        scan.arg("COUNT").arg(1_000);
        let (next, some): (u64, Vec<String>) = scan.query_async(server).await.unwrap();
        names.extend(some);
        cursor = next;
        if cursor == 0 {
            break;
        }
    }
    let mut keys = Keys::new();
    for name in names {
        let kind: String = redis::cmd("TYPE")
            .arg(&name)
            .query_async(server)
            .await
            .unwrap();
        let value = match kind.as_str() {
            "string" => server.get(&name).await.ok().map(Value::Text),
            "hash" => server.hgetall(&name).await.ok().map(Value::Fields),
            _ => Some(Value::Other),
        };
        let ttl: i64 = server.pttl(&name).await.unwrap();
        // It may have ended meanwhile.
        if let (Some(value), true) = (value, ttl != -2) {
            keys.insert(name, Found { ttl, value });
        }
    }
    keys
}

/// The sessions of a user that were alive when they were last checked.
fn living<'h>(user: i64, sessions: &'h [Known], history: &'h [Operation]) -> Vec<&'h Known> {
    let mut living = HashSet::new();
    let mut of_user: Vec<&Operation> = history
        .iter()
        .filter(|operation| operation.user == user)
        .collect();
    of_user.sort_by_key(|operation| operation.call);
    for operation in of_user {
        match (&operation.action, &operation.outcome) {
            (Action::LogIn { .. }, Outcome::Token(session)) => {
                living.insert(session);
            }
            (Action::Check { by }, Outcome::User(_)) => {
                living.insert(by);
            }
            (Action::Check { by }, Outcome::Refused) => {
                living.remove(by);
            }
            _ => {}
        }
    }
    let sessions = sessions.iter();
    sessions
        .filter(|known| living.contains(&known.id))
        .collect()
}

/// As much of a key as does not tell a token.
fn shown(key: &str) -> String {
    match key.split_once("clv_") {
        Some((before, token)) => format!("{before}clv_{}...", &token[..8]),
        None => key.to_owned(),
    }
}
