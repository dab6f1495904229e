//! Sessions, step by step. Each step is one command, or one script on the keys of one slot, and any number of other instances, or
//! the end of this process, may come between two of them.
//!
//! Issue: the generation was read before the password was looked at; then
//! 1. the record is noted, if the generation is still the same;
//! 2. the token's key is written, with a short life;
//! 3. generation and record are compared once more;
//! 4. the token gets its whole life, if its key is still there.
//!
//! A session that is no more in step 3 or 4 though the generation is the same was ended by itself: by newer ones, for whom it was
//! the oldest, or by its id. It came about and is over, and nothing is tried again: many log-ins at once would else push each
//! other out again and again.
//!
//! End all: the generation is forgotten and the records are read; the tokens' keys are deleted; the records are.
//!
//! So a log-in that noted its record before the generation changed is among those that are ended: if its key is written after
//! the deletion, step 3 sees the change and takes it back, and nobody was told the token. One that comes later fails in step 1.
//! If this process ends after step 2, the key ends within [`UNCONFIRMED`], and at any other point the index knows more than
//! there is, never less.

use std::future::Future;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::{RedisResult, Value};
use tracing::Instrument as _;

use super::failure::not_ours;
use super::link::Connection;
use super::{RedisTokens, record};
use crate::store::tokens::session::{Device, Generation, Issued, Session, SessionId};
use crate::store::{Dependency, StoreError};

/// The life of a token's key until its log-in has come to its end.
const UNCONFIRMED: Duration = Duration::from_secs(30);

/// How long a user's hash stays when no session needs it. A log-in that takes longer finds another generation, and is lost.
const KEPT: Duration = Duration::from_hours(1);

/// Revocations that are remembered for each user, so that the one that carries them out last ends nothing new.
const REVOCATIONS: usize = 8;

/// What the script `confirm` says of a session whose key was written: it may live.
const LIVES: u8 = 1;

/// The same: it was ended by itself, as by newer ones that took its place.
const ENDED: u8 = 2;

/// What is known of a session that shall come about.
struct New {
    id: SessionId,
    hash: String,
    keys: Vec<String>,
    tail: String,
    generation: String,
}

impl RedisTokens {
    /// See [`Tokens::generation`](crate::store::tokens::Tokens::generation).
    pub(in crate::store::tokens) async fn generation(
        &self,
        user_id: i64,
    ) -> Result<Generation, StoreError> {
        let hash = self.sessions_key(user_id)?;
        let arguments = [&*new_generation(), &*millis(KEPT)];
        let script = &self.0.scripts.generation;
        let ask =
            async |connection: &mut Connection| script.run(connection, &[&hash], &arguments).await;
        self.0.link.write(ask).await.map(Generation)
    }

    /// See [`Tokens::issue`](crate::store::tokens::Tokens::issue).
    pub(in crate::store::tokens) async fn issue(
        &self,
        token: &str,
        user_id: i64,
        username: &str,
        device: &Device,
        generation: &Generation,
    ) -> Result<Issued, StoreError> {
        let part = self.part(token);
        let new = New {
            id: SessionId::of(user_id, token),
            hash: self.sessions_key(user_id)?,
            keys: self.keys(&part),
            tail: record::tail(&part, username, device),
            generation: generation.0.clone(),
        };
        let store = self.clone();
        to_its_end(async move {
            let outcome = store
                .0
                .link
                .write(async |connection| store.steps(connection, &new).await)
                .await;
            if !matches!(outcome, Ok(Issued::Done)) {
                // Nobody waits for what is only tidied up: the store may be away.
                tokio::spawn(async move { store.withdraw(&new).await });
            }
            outcome
        })
        .await
    }

    async fn steps(&self, connection: &mut Connection, new: &New) -> RedisResult<Issued> {
        let scripts = &self.0.scripts;
        let keys: Vec<&str> = new.keys.iter().map(String::as_str).collect();
        let (name, generation) = (new.id.name(), new.generation.as_str());
        let ttl = millis(self.0.ttl);

        let most = self.0.max_sessions.to_string();
        let arguments = [generation, name, &ttl, &millis(KEPT), &most, &new.tail];
        let ending: Option<Vec<String>> = scripts
            .index
            .run(connection, &[&new.hash], &arguments)
            .await?;
        let Some(ending) = ending else {
            return Ok(Issued::Lost);
        };

        let mut set = redis::cmd("SET");
        set.arg(keys.first())
            .arg(new.id.user_id())
            .arg("PX")
            .arg(millis(UNCONFIRMED.min(self.0.ttl)));
        set.exec_async(connection).await?;

        let (names, parts) = halves(&ending);
        self.delete(connection, &parts).await?;
        let confirm = async |connection: &mut Connection, ended: &[&str]| -> RedisResult<u8> {
            let arguments = [&[generation, name], ended].concat();
            let keys = [new.hash.as_str()];
            scripts.confirm.run(connection, &keys, &arguments).await
        };
        let mut state = confirm(connection, &names).await?;
        if state == LIVES {
            let idle = self.0.idle_ttl.map(millis).unwrap_or_default();
            if scripts.live.run(connection, &keys, &[&ttl, &idle]).await? {
                return Ok(Issued::Done);
            }
            // Somebody ended it since then: alone, or with all others?
            state = confirm(connection, &[]).await?;
        }
        if state != ENDED {
            return Ok(Issued::Lost);
        }
        // Whoever ended it may have been done before its key was written.
        self.take_back(connection, new).await?;
        Ok(Issued::Done)
    }

    /// Takes back whatever was written of a session that did not come about.
    async fn withdraw(&self, new: &New) {
        let work = async |connection: &mut Connection| self.take_back(connection, new).await;
        if let Err(error) = self.0.link.write(work).await {
            tracing::debug!(%error, "a log-in that failed was not tidied up");
        }
    }

    async fn take_back(&self, connection: &mut Connection, new: &New) -> RedisResult<()> {
        redis::cmd("DEL")
            .arg(&new.keys)
            .exec_async(connection)
            .await?;
        self.forget(connection, &new.hash, "", &[new.id.name()])
            .await
    }

    /// See [`Tokens::session`](crate::store::tokens::Tokens::session).
    pub(in crate::store::tokens) async fn session(
        &self,
        id: &SessionId,
    ) -> Result<Option<Session>, StoreError> {
        let mut command = redis::cmd("HGET");
        command.arg(self.sessions_key(id.user_id())?).arg(id.name());
        let ask = async |connection: &mut Connection| command.query_async(connection).await;
        let text: Option<String> = self.0.link.write(ask).await?;
        let record = text.and_then(|text| record::read(id.user_id(), id.name(), &text));
        Ok(record.and_then(|record| record.session))
    }

    /// See [`Tokens::sessions`](crate::store::tokens::Tokens::sessions).
    pub(in crate::store::tokens) async fn sessions(
        &self,
        user_id: i64,
    ) -> Result<Vec<Session>, StoreError> {
        let hash = self.sessions_key(user_id)?;
        let ask = async |connection: &mut Connection| -> RedisResult<Vec<Session>> {
            let mut command = redis::cmd("HGETALL");
            let fields: Vec<(String, String)> = command.arg(&hash).query_async(connection).await?;
            let known: Vec<(String, Session)> = fields
                .iter()
                .filter_map(|(name, text)| record::read(user_id, name, text))
                .filter_map(|record| Some((self.key(&record.key), record.session?)))
                .collect();
            if known.is_empty() {
                return Ok(Vec::new());
            }
            // The index knows more than there is: what was not checked for long, what a process that ended left behind.
            let mut command = redis::cmd("MGET");
            let keys: Vec<&String> = known.iter().map(|(key, _)| key).collect();
            let holders: Vec<Option<String>> = command.arg(keys).query_async(connection).await?;
            let living = known.into_iter().zip(holders);
            let living = living.filter(|(_, holder)| holder.is_some());
            Ok(living.map(|((_, session), _)| session).collect())
        };
        let mut sessions = self.0.link.write(ask).await?;
        crate::store::tokens::newest_first(&mut sessions);
        Ok(sessions)
    }

    /// See [`Tokens::remove`](crate::store::tokens::Tokens::remove).
    pub(in crate::store::tokens) async fn remove(
        &self,
        token: &str,
    ) -> Result<Option<i64>, StoreError> {
        let (store, token) = (self.clone(), token.to_owned());
        to_its_end(async move {
            let part = store.part(&token);
            let Some(user_id) = store.remove_key(&part).await? else {
                return Ok(None);
            };
            // Without the database the hash has no name yet: its record then stays until it expires. So it does if this
            // fails: the token is dead.
            if let Ok(hash) = store.sessions_key(user_id) {
                let id = SessionId::of(user_id, &token);
                let forget = async |connection: &mut Connection| {
                    store.forget(connection, &hash, "", &[id.name()]).await
                };
                if let Err(error) = store.0.link.write(forget).await {
                    tracing::debug!(%error, "the record of an ended session was not deleted");
                }
            }
            Ok(Some(user_id))
        })
        .await
    }

    /// Deletes a token's key and tells whose it was.
    async fn remove_key(&self, part: &str) -> Result<Option<i64>, StoreError> {
        let keys = self.keys(part);
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        let script = &self.0.scripts.remove;
        let remove = async |connection: &mut Connection| {
            let user_id = script.run(connection, &keys, &[]).await?;
            // Also if it was gone already: somebody may try again because of the replicas.
            self.0.link.wait_for_replicas(connection).await?;
            Ok(user_id)
        };
        let user_id: Option<String> = self.0.link.write(remove).await?;
        let user_id = user_id.map(|id| id.parse().map_err(|_| not_ours()));
        user_id.transpose()
    }

    /// See [`Tokens::end`](crate::store::tokens::Tokens::end).
    pub(in crate::store::tokens) async fn end(&self, id: &SessionId) -> Result<bool, StoreError> {
        let (store, id) = (self.clone(), id.clone());
        to_its_end(async move {
            let hash = store.sessions_key(id.user_id())?;
            let script = &store.0.scripts.mark;
            let mark = async |connection: &mut Connection| {
                script.run(connection, &[&hash], &[id.name()]).await
            };
            let part: Option<String> = store.0.link.write(mark).await?;
            let Some(part) = part else {
                return Ok(false);
            };
            let ended = store.remove_key(&part).await?.is_some();
            let forget = async |connection: &mut Connection| {
                store.forget(connection, &hash, "", &[id.name()]).await
            };
            store.0.link.write(forget).await?;
            Ok(ended)
        })
        .await
    }

    /// See [`Tokens::end_all`](crate::store::tokens::Tokens::end_all).
    pub(in crate::store::tokens) async fn end_all(
        &self,
        user_id: i64,
        keep: Option<&SessionId>,
        revocation: Option<&str>,
    ) -> Result<u64, StoreError> {
        let hash = self.sessions_key(user_id)?;
        let keep = keep.map(|id| id.name().to_owned()).unwrap_or_default();
        let revocation = revocation.unwrap_or_default().to_owned();
        let store = self.clone();
        to_its_end(async move {
            let work = async |connection: &mut Connection| -> RedisResult<u64> {
                let arguments = [&*keep, &*revocation];
                let script = &store.0.scripts.revoke;
                let ending: Option<Vec<String>> =
                    script.run(connection, &[&hash], &arguments).await?;
                let Some(ending) = ending else {
                    return Ok(0);
                };
                let (names, parts) = halves(&ending);
                let ended = store.delete(connection, &parts).await?;
                store.0.link.wait_for_replicas(connection).await?;
                store.forget(connection, &hash, &revocation, &names).await?;
                Ok(ended)
            };
            store.0.link.write(work).await
        })
        .await
    }

    /// Ends the sessions of one hash, and the hash.
    pub(super) async fn clear_user(
        &self,
        connection: &mut Connection,
        hash: &str,
    ) -> RedisResult<u64> {
        let records: Vec<String> = redis::cmd("HVALS")
            .arg(hash)
            .query_async(connection)
            .await?;
        let parts: Vec<String> = records
            .iter()
            .filter_map(|text| record::read(0, "", text))
            .map(|record| record.key)
            .collect();
        let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
        let ended = self.delete(connection, &parts).await?;
        redis::cmd("DEL").arg(hash).exec_async(connection).await?;
        Ok(ended)
    }

    /// Deletes the keys of tokens, each in its slot, and tells how many were alive.
    async fn delete(&self, connection: &mut Connection, parts: &[&str]) -> RedisResult<u64> {
        if parts.is_empty() {
            return Ok(0);
        }
        let keys: Vec<String> = parts.iter().map(|part| self.key(part)).collect();
        let companions: Vec<String> = keys.iter().filter_map(|key| self.companion(key)).collect();
        let ended = redis::cmd("DEL").arg(&keys).query_async(connection).await?;
        if !companions.is_empty() {
            redis::cmd("DEL")
                .arg(&companions)
                .exec_async(connection)
                .await?;
        }
        Ok(ended)
    }

    /// Forgets sessions whose keys are gone.
    async fn forget(
        &self,
        connection: &mut Connection,
        hash: &str,
        revocation: &str,
        names: &[&str],
    ) -> RedisResult<()> {
        let (remembered, kept) = (REVOCATIONS.to_string(), millis(KEPT));
        let mut arguments = vec![revocation, &remembered, &kept];
        arguments.extend(names);
        let script = &self.0.scripts.forget;
        script.run::<Value>(connection, &[hash], &arguments).await?;
        Ok(())
    }
}

/// Names and keys, as the scripts tell them: one after the other.
fn halves(ending: &[String]) -> (Vec<&str>, Vec<&str>) {
    let pairs = ending.chunks_exact(2);
    pairs
        .filter_map(|pair| Some((pair.first()?.as_str(), pair.last()?.as_str())))
        .unzip()
}

/// Nobody has to guess it: it only must not come again while a log-in remembers it.
fn new_generation() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 6]>())
}

fn millis(duration: Duration) -> String {
    duration.as_millis().to_string()
}

/// Does `work` to its end, even if the client that asked for it leaves: half of it would be worse than all or nothing.
async fn to_its_end<T: Send + 'static>(
    work: impl Future<Output = Result<T, StoreError>> + Send + 'static,
) -> Result<T, StoreError> {
    let outcome = tokio::spawn(work.in_current_span()).await;
    // The runtime ends, or it is a bug that the panic hook has told of.
    outcome.unwrap_or_else(|error| Err(StoreError::unavailable(Dependency::Tokens, error)))
}
