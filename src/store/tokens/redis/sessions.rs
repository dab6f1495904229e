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
//! End all: the generation is forgotten and the records are marked; the tokens' keys are deleted; if replicas have to know, they are
//! waited for; the records are deleted. A revocation that is carried out again ends only what was marked.
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

use super::RedisTokens;
use super::failure::not_ours;
use super::link::Connection;
use super::record::{self, Record};
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
        let key = self.key(token).into_owned();
        let new = New {
            id: SessionId::of(user_id, token),
            hash: self.sessions_key(user_id)?,
            tail: record::tail(&key, username, device),
            keys: self.with_companion(key),
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
        let index = async |connection: &mut Connection, sure: &str| -> RedisResult<_> {
            let kept = millis(KEPT);
            let arguments = [generation, name, &ttl, &kept, &most, &new.tail, sure];
            let keys = [new.hash.as_str()];
            let answer: Option<Vec<String>> =
                scripts.index.run(connection, &keys, &arguments).await?;
            Ok(answer)
        };
        let mut answer = index(connection, "").await?;
        if let Some([kind, which @ ..]) = answer.as_deref()
            && kind == "which"
        {
            self.forget_the_dead(connection, new, which).await?;
            answer = index(connection, "sure").await?;
        }
        let Some([_, ending @ ..]) = answer.as_deref() else {
            return Ok(Issued::Lost);
        };

        let mut set = redis::cmd("SET");
        set.arg(keys.first())
            .arg(new.id.user_id())
            .arg("PX")
            .arg(millis(UNCONFIRMED.min(self.0.ttl)));
        set.exec_async(connection).await?;

        let (names, ended) = halves(ending);
        self.delete(connection, &ended).await?;
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

    /// Forgets those of these sessions whose keys are gone. Marks those whose keys have another form: they are refused, and have to
    /// end before any that is in use.
    async fn forget_the_dead(
        &self,
        connection: &mut Connection,
        new: &New,
        which: &[String],
    ) -> RedisResult<()> {
        let (names, keys) = halves(which);
        let pairs = names.iter().zip(&keys);
        let others = pairs.filter(|(_, key)| !self.is_of_this_form(key));
        let others: Vec<&str> = others.map(|(name, _)| *name).collect();
        self.mark(connection, &new.hash, &others).await?;
        let alive = alive(connection, &keys).await?;
        let dead = names.into_iter().zip(alive).filter(|(_, alive)| !alive);
        let dead: Vec<&str> = dead.map(|(name, _)| name).collect();
        self.forget(connection, &new.hash, &dead).await
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
        self.forget(connection, &new.hash, &[new.id.name()]).await
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
        Ok(record.map(|record| record.session))
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
            let known = fields
                .iter()
                .filter_map(|(name, text)| record::read(user_id, name, text))
                .filter(|record| self.is_of_this_form(&record.key));
            let known: Vec<Record> = known.collect();
            // The index knows more than there is: what was not checked for long, what a process that ended left behind. And who
            // marked a session may have failed to end it.
            let keys: Vec<&str> = known.iter().map(|record| record.key.as_str()).collect();
            let alive = alive(connection, &keys).await?;
            let living = known.into_iter().zip(alive).filter(|(_, alive)| *alive);
            Ok(living.map(|(record, _)| record.session).collect())
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
            let keys = store.with_companion(store.key(&token).into_owned());
            let work = async |connection: &mut Connection| -> RedisResult<Option<String>> {
                let user_id = store.remove_key(connection, &keys).await?;
                let id = user_id.as_ref().and_then(|id| id.parse().ok());
                // Also if it was gone already: somebody may try again because of the replicas. And before the record is forgotten:
                // whatever one of them brings back as a master, the index has to know.
                store.0.link.wait_for_replicas(connection).await?;
                // Without the database the hash has no name yet: the record then stays until it expires.
                if let Some(id) = id.map(|id| SessionId::of(id, &token))
                    && let Ok(hash) = store.sessions_key(id.user_id())
                {
                    store.try_to_forget(connection, &hash, &id).await;
                }
                Ok(user_id)
            };
            let user_id = store.0.link.write(work).await?;
            let user_id = user_id.map(|id| id.parse().map_err(|_| not_ours()));
            user_id.transpose()
        })
        .await
    }

    /// See [`Tokens::end`](crate::store::tokens::Tokens::end).
    pub(in crate::store::tokens) async fn end(&self, id: &SessionId) -> Result<bool, StoreError> {
        let (store, id) = (self.clone(), id.clone());
        let hash = self.sessions_key(id.user_id())?;
        to_its_end(async move {
            let script = &store.0.scripts.mark;
            let work = async |connection: &mut Connection| -> RedisResult<bool> {
                // Looked at before: of what is marked, a log-in may delete the key first.
                let was_alive = store.is_alive(connection, &hash, &id).await?;
                let marked: Option<(String, String)> =
                    script.run(connection, &[&hash], &[id.name()]).await?;
                let Some((key, state)) = marked else {
                    return Ok(false);
                };
                let keys = store.with_companion(key);
                let removed = store.remove_key(connection, &keys).await?.is_some();
                // Before it is forgotten: who tries again has to find it, and wait as well.
                store.0.link.wait_for_replicas(connection).await?;
                store.try_to_forget(connection, &hash, &id).await;
                // Somebody who tries again, because the first try was not told to be done, did not err in the id.
                Ok(was_alive || removed || state == "x")
            };
            store.0.link.write(work).await
        })
        .await
    }

    /// Whether a session is known, and the key of its token is there.
    async fn is_alive(
        &self,
        connection: &mut Connection,
        hash: &str,
        id: &SessionId,
    ) -> RedisResult<bool> {
        let mut command = redis::cmd("HGET");
        let command = command.arg(hash).arg(id.name());
        let text: Option<String> = command.query_async(connection).await?;
        let Some(record) = text.and_then(|text| record::read(id.user_id(), id.name(), &text))
        else {
            return Ok(false);
        };
        Ok(alive(connection, &[&record.key]).await?.contains(&true))
    }

    /// Deletes a token's key, and its companion, and tells what stood there.
    async fn remove_key(
        &self,
        connection: &mut Connection,
        keys: &[String],
    ) -> RedisResult<Option<String>> {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        self.0.scripts.remove.run(connection, &keys, &[]).await
    }

    /// Forgets a session whose key is gone. If that fails, the token is dead all the same, and its record stays until it expires.
    async fn try_to_forget(&self, connection: &mut Connection, hash: &str, id: &SessionId) {
        if let Err(error) = self.forget(connection, hash, &[id.name()]).await {
            tracing::debug!(%error, "the record of an ended session was not deleted");
        }
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
                store
                    .end_those_of(connection, &hash, &keep, &revocation)
                    .await
            };
            store.0.link.write(work).await
        })
        .await
    }

    /// Ends the sessions of one hash, but for one that is kept, and tells how many were alive.
    pub(super) async fn end_those_of(
        &self,
        connection: &mut Connection,
        hash: &str,
        keep: &str,
        revocation: &str,
    ) -> RedisResult<u64> {
        let script = &self.0.scripts.revoke;
        let (remembered, kept) = (REVOCATIONS.to_string(), millis(KEPT));
        let arguments = [keep, revocation, &remembered, &kept];
        let ending: Vec<String> = script.run(connection, &[hash], &arguments).await?;
        let (names, keys) = halves(&ending);
        let ended = self.delete(connection, &keys).await?;
        // Before they are forgotten: who tries again, as the same revocation too, has to find them, and wait for the replicas of
        // their masters.
        self.0.link.wait_for_replicas(connection).await?;
        self.forget(connection, hash, &names).await?;
        Ok(ended)
    }

    /// Marks sessions as being ended, so that whoever comes next ends them.
    async fn mark(
        &self,
        connection: &mut Connection,
        hash: &str,
        names: &[&str],
    ) -> RedisResult<()> {
        for name in names {
            let script = &self.0.scripts.mark;
            script.run::<Value>(connection, &[hash], &[name]).await?;
        }
        Ok(())
    }

    /// Deletes the keys of tokens, each in its slot, and tells how many were alive.
    async fn delete(&self, connection: &mut Connection, keys: &[&str]) -> RedisResult<u64> {
        if keys.is_empty() {
            return Ok(0);
        }
        let companions: Vec<String> = keys.iter().filter_map(|key| self.companion(key)).collect();
        let ended = redis::cmd("DEL").arg(keys).query_async(connection).await?;
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
        names: &[&str],
    ) -> RedisResult<()> {
        if names.is_empty() {
            return Ok(());
        }
        let mut forget = redis::cmd("HDEL");
        forget.arg(hash).arg(names);
        forget.exec_async(connection).await
    }
}

/// Names and keys, as the scripts tell them: one after the other.
fn halves(ending: &[String]) -> (Vec<&str>, Vec<&str>) {
    let pairs = ending.chunks_exact(2);
    pairs
        .filter_map(|pair| Some((pair.first()?.as_str(), pair.last()?.as_str())))
        .unzip()
}

/// Which of these keys are there.
async fn alive(connection: &mut Connection, keys: &[&str]) -> RedisResult<Vec<bool>> {
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut command = redis::cmd("MGET");
    let values: Vec<Option<String>> = command.arg(keys).query_async(connection).await?;
    Ok(values.iter().map(Option::is_some).collect())
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
