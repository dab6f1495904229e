//! `/v1.0/user/sessions`: list the own sessions, end one, end all. And how sessions are kept in Redis.

mod broken_off;
mod end;
mod hashed_keys;
mod last_seen;
mod limit;
mod list;
mod outage;
mod paging;
mod promises;

use std::fmt::Write as _;

use claviger::store::schema::Schema;
use claviger::store::tokens::SessionId;
use redis::AsyncCommands;
use redis::aio::MultiplexedConnection;
use secrecy::ExposeSecret;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::common::{Answer, TestApp};

const ROUTE: &str = "/v1.0/user/sessions";

async fn end_session(app: &TestApp, token: &str, id: &str) -> Answer {
    app.call_with("DELETE", &format!("{ROUTE}/{id}"), token)
        .await
}

async fn end_sessions(app: &TestApp, token: &str, query: &str) -> Answer {
    app.call_with("DELETE", &format!("{ROUTE}{query}"), token)
        .await
}

/// The hash of a token as it may stand in Redis: lower-case and hexadecimal.
fn sha256(token: &str) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(token) {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn ids(sessions: &[Value]) -> Vec<&str> {
    let ids = sessions.iter().map(|session| session["id"].as_str());
    ids.map(Option::unwrap).collect()
}

/// What a service keeps in its Redis, seen from beside it.
struct Kept {
    redis: MultiplexedConnection,
    prefix: String,
    installation: String,
}

impl Kept {
    async fn by(app: &TestApp) -> Self {
        let client = redis::Client::open(app.config.tokens.url.expose_secret()).unwrap();
        let schema = Schema::new(app.database.connect().await);
        Self {
            redis: client.get_multiplexed_async_connection().await.unwrap(),
            prefix: app.config.tokens.key_prefix.clone(),
            installation: schema.installation_id().await.unwrap().unwrap(),
        }
    }

    /// The key of a token.
    fn key(&self, token: &str) -> String {
        format!("{}{token}", self.prefix)
    }

    async fn is_there(&mut self, token: &str) -> bool {
        self.redis.exists(self.key(token)).await.unwrap()
    }

    /// The key under which the sessions of a user stand.
    fn hash(&self, user_id: i64) -> String {
        format!("claviger:{}:{{u:{user_id}}}:sessions", self.installation)
    }

    async fn record(&mut self, user_id: i64, token: &str) -> Option<String> {
        let id = SessionId::of(user_id, token);
        self.redis
            .hget(self.hash(user_id), id.name())
            .await
            .unwrap()
    }

    /// Writes the record of a session by hand.
    async fn set_record(&mut self, user_id: i64, token: &str, record: &str) {
        let id = SessionId::of(user_id, token);
        self.redis
            .hset::<_, _, _, ()>(self.hash(user_id), id.name(), record)
            .await
            .unwrap();
    }
}
