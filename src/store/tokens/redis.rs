//! Tokens in Redis, for several instances and for other services, which read them with one `GET`.
//!
//! A token's key is the contract with those services. All else that is kept stands in one hash for each user
//! ([`record`]), and is never written in one step with a token's key, which may be on another server: the order of the steps
//! ([`sessions`]) makes up for that.

mod attempts;
mod checks;
mod connection;
mod failure;
mod link;
mod node;
mod place;
mod record;
mod route;
mod scripts;
mod seen;
mod sentinels;
mod sessions;
mod slots;
mod topology;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use redis::{ErrorKind, ServerErrorKind, Value};
use sha2::{Digest as _, Sha256};

use self::link::{Connection, Link};
use self::scripts::Scripts;
use self::seen::{GATHER, Seen};
use super::session::SessionId;
use super::{Holder, InvalidTokensUrl};
use crate::config::{self, TokenKey};
use crate::store::{Dependency, PoolStatus, StoreError};

/// Sessions whose last use is written in one go.
const TOUCHES: usize = 500;

/// What every token begins with.
const TOKEN_START: &str = "clv_";

/// The tokens of a Redis server.
#[derive(Clone)]
pub struct RedisTokens(Arc<Inner>);

struct Inner {
    link: Link,
    scripts: Scripts,
    seen: Seen,
    key: TokenKey,
    key_prefix: String,
    ttl: Duration,
    idle_ttl: Option<Duration>,
    max_sessions: usize,
    /// Part of the name of every key that is not a token's; `None` until the database was read.
    installation: RwLock<Option<Arc<str>>>,
}

/// The database was not read since this process began.
#[derive(Debug, thiserror::Error)]
#[error("the id of the installation was not read yet")]
struct NoInstallation;

impl RedisTokens {
    pub(super) fn open(settings: &config::Tokens) -> Result<Self, InvalidTokensUrl> {
        Ok(Self(Arc::new(Inner {
            link: Link::open(settings)?,
            scripts: Scripts::new(),
            seen: Seen::default(),
            key: settings.key,
            key_prefix: settings.key_prefix.clone(),
            ttl: settings.ttl,
            idle_ttl: settings.idle_ttl,
            max_sessions: settings.max_sessions_per_user,
            installation: RwLock::default(),
        })))
    }

    pub(super) fn check_url(settings: &config::Tokens) -> Result<(), InvalidTokensUrl> {
        Link::check_url(settings)
    }

    pub(super) fn belong_to(&self, installation: &str) {
        let known = &self.0.installation;
        let mut known = known.write().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() != Some(installation) {
            *known = Some(installation.into());
        }
    }

    pub(super) fn knows_sessions(&self) -> bool {
        self.installation().is_some()
    }

    pub(super) async fn get(&self, token: &str) -> Result<Option<Holder>, StoreError> {
        let key = self.key(token);
        let companion = self.companion(&key);
        let holder = self.0.link.check(&key, companion.as_deref()).await?;
        let Some((user_id, expires_in)) = holder else {
            // Without its companion a token was not prolonged, so that it is gone says nothing.
            return match self.0.idle_ttl {
                Some(_) if companion.is_none() => Err(no_installation()),
                _ => Ok(None),
            };
        };
        if self.0.seen.note(token, user_id) {
            tokio::spawn(self.clone().write_seen());
        }
        Ok(Some(Holder {
            user_id,
            expires_in,
        }))
    }

    /// Writes when the sessions that were checked lately were last seen. Nobody waits for it, and what fails is left out.
    async fn write_seen(self) {
        tokio::time::sleep(GATHER).await;
        let seen = self.0.seen.take();
        for some in seen.chunks(TOUCHES) {
            if let Err(error) = self.touch(some).await {
                tracing::debug!(%error, "when sessions were last seen was not written");
            }
        }
    }

    async fn touch(&self, sessions: &[SessionId]) -> Result<(), StoreError> {
        let touch = &self.0.scripts.touch;
        let work = async |connection: &mut Connection, keys: &[(String, &str)]| {
            let mut pipeline = redis::pipe();
            for (key, name) in keys {
                pipeline.add_command(touch.command(&[key], &[name]));
            }
            match pipeline.exec_async(connection).await {
                // Some of the servers don't know the script. Each learns it from the first that is sent whole.
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                    for (key, name) in keys {
                        let _: Value = touch.run(connection, &[key], &[name]).await?;
                    }
                    Ok(())
                }
                result => result,
            }
        };
        let mut keys = Vec::new();
        for session in sessions {
            keys.push((self.sessions_key(session.user_id())?, session.name()));
        }
        let all = async |connection: &mut Connection| work(connection, &keys).await;
        self.0.link.write(all).await
    }

    /// Walks the key space for the users' hashes: there is no index of all users, and this happens once in a life.
    pub(super) async fn clear(&self) -> Result<u64, StoreError> {
        // A replica that has nothing to delete would refuse nothing, and the tokens of its master would live on.
        self.ping().await?;
        let Some(installation) = self.installation() else {
            return Ok(0);
        };
        let pattern = format!("claviger:{installation}:{{u:*}}:sessions");
        let mut removed = 0;
        let mut scan = self.0.link.scan(&pattern).await?;
        while let Some(hashes) = scan.next().await? {
            for hash in &hashes {
                let clear = async |connection: &mut Connection| {
                    self.end_those_of(connection, hash, "", "").await
                };
                removed += self.0.link.write(clear).await?;
            }
        }
        Ok(removed)
    }

    /// Tries a write that changes nothing.
    pub(super) async fn ping(&self) -> Result<(), StoreError> {
        self.0.link.ping().await
    }

    /// Whether Redis would evict sessions when its memory is full; `None` where it can't be had from it.
    pub(super) async fn may_evict(&self) -> Option<bool> {
        self.0.link.may_evict().await
    }

    /// What time it is on each master.
    pub(super) async fn clocks(&self) -> Result<Vec<SystemTime>, StoreError> {
        self.0.link.clocks().await
    }

    pub(super) fn pool_status(&self) -> PoolStatus {
        self.0.link.pool_status()
    }

    /// The key of a token.
    fn key<'a>(&self, token: &'a str) -> Cow<'a, str> {
        let prefix = self.0.key_prefix.as_str();
        match self.0.key {
            TokenKey::Plain if prefix.is_empty() => Cow::Borrowed(token),
            TokenKey::Plain => [prefix, token].concat().into(),
            TokenKey::Sha256 => [prefix, &hex(&Sha256::digest(token))].concat().into(),
        }
    }

    /// Whether a key is of the form that [`Self::key`] makes now. One of another is that of a token that is refused.
    fn is_of_this_form(&self, key: &str) -> bool {
        let Some(rest) = key.strip_prefix(&self.0.key_prefix) else {
            return false;
        };
        match self.0.key {
            TokenKey::Plain => rest.starts_with(TOKEN_START),
            TokenKey::Sha256 => {
                rest.len() == 64 && rest.bytes().all(|byte| byte.is_ascii_hexdigit())
            }
        }
    }

    /// The key of a token, and in its slot that of its absolute end, if there is an idle limit.
    fn with_companion(&self, key: String) -> Vec<String> {
        let companion = self.companion(&key);
        [Some(key), companion].into_iter().flatten().collect()
    }

    fn companion(&self, key: &str) -> Option<String> {
        self.0.idle_ttl?;
        let installation = self.installation()?;
        Some(format!("claviger:{installation}:{{{key}}}:idle"))
    }

    /// The key of the hash in which the sessions of a user stand.
    fn sessions_key(&self, user_id: i64) -> Result<String, StoreError> {
        let installation = self.installation().ok_or_else(no_installation)?;
        Ok(format!("claviger:{installation}:{{u:{user_id}}}:sessions"))
    }

    fn installation(&self) -> Option<Arc<str>> {
        let installation = &self.0.installation;
        installation
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

/// What is missing is in the database.
fn no_installation() -> StoreError {
    StoreError::unavailable(Dependency::Database, NoInstallation)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hex_is_lower_case_and_keeps_zeros() {
        assert_eq!(hex(&[0, 10, 255]), "000aff");
    }
}
