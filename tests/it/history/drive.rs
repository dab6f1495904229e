//! Clients that ask at random, and the record of what they were told.

use std::future::Future;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use claviger::auth::accounts::Change;
use claviger::store::audit::Author;
use futures_util::future::join_all;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

use super::model::{Action, Clock, Moment, Operation, Outcome, Password, SessionId};
use super::service::Service;
use crate::common::Answer;

/// Clients that ask beside each other.
const CLIENTS: usize = 24;

/// Sessions of a user that are asked about most of the time: the newest that may be alive.
const NEWEST: usize = 6;

/// The others, alive or not: of what is dead nothing must come back.
const RECENT: usize = 40;

/// Sessions that are checked at once if a list did not show them, or after all were ended.
const MISSING: usize = 2;

/// One request of so many is given up by its client, after at most [`PATIENCE`].
const LEAVES_ONE_IN: u32 = 30;

const PATIENCE: Duration = Duration::from_millis(60);

/// A user, and what the clients know of him.
pub(super) struct Person {
    pub(super) id: i64,
    name: String,
    sessions: Mutex<Vec<Known>>,
    /// The password that was set last.
    password: AtomicU32,
    /// Held by who changes the account; the next password that was never set.
    account: tokio::sync::Mutex<Password>,
}

/// A session whose token is known.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) id: SessionId,
    pub(super) token: String,
    /// Somebody was told so.
    dead: bool,
}

impl Person {
    pub(super) fn new(id: i64, name: String) -> Self {
        Self {
            id,
            name,
            sessions: Mutex::default(),
            password: AtomicU32::new(0),
            account: tokio::sync::Mutex::new(1),
        }
    }

    /// The text of a password.
    pub(super) fn secret(&self, password: Password) -> String {
        format!("what {} says at the door, number {password}", self.name)
    }

    pub(super) fn sessions(&self) -> Vec<Known> {
        self.sessions.lock().unwrap().clone()
    }

    /// Mostly one of the newest of which nobody was told that it is dead.
    fn some_session(&self, random: &mut StdRng) -> Option<Known> {
        let sessions = self.sessions.lock().unwrap();
        if random.random_ratio(3, 4) {
            let living = sessions.iter().rev().filter(|known| !known.dead);
            let newest: Vec<&Known> = living.take(NEWEST).collect();
            if let Some(known) = newest.choose(random) {
                return Some((*known).clone());
            }
        }
        let recent = &sessions[sessions.len().saturating_sub(RECENT)..];
        recent.choose(random).cloned()
    }

    fn note_dead(&self, session: &SessionId) {
        let mut sessions = self.sessions.lock().unwrap();
        let mut newest_first = sessions.iter_mut().rev();
        if let Some(known) = newest_first.find(|known| known.id == *session) {
            known.dead = true;
        }
    }
}

/// The id of the session that a token stands for.
fn session_id(user: i64, token: &str) -> SessionId {
    let hash = Sha256::new()
        .chain_update("claviger session\0")
        .chain_update(token)
        .finalize();
    format!("{user}.{}", URL_SAFE_NO_PAD.encode(&hash[..16])).into()
}

/// Lets the clients ask for some time.
pub(super) async fn run(
    service: &Arc<Service>,
    seed: u64,
    time: Duration,
    pause: Duration,
) -> Vec<Operation> {
    let until = Instant::now() + time;
    let clients = (0..CLIENTS).map(|number| {
        let mut client = Client::new(service, number, seed);
        tokio::spawn(async move {
            while Instant::now() < until {
                client.do_something().await;
                // A part of the experiment, as the delays of the proxy are.
                let pause = client.random.random_range(Duration::ZERO..pause);
                tokio::time::sleep(pause).await;
            }
            client.history
        })
    });
    let histories = join_all(clients.collect::<Vec<_>>()).await;
    histories.into_iter().flat_map(Result::unwrap).collect()
}

/// What is there in the end: one client logs in as each user, lists the sessions, and checks all of them at all instances.
pub(super) async fn look(service: &Arc<Service>) -> Vec<Operation> {
    let mut client = Client::new(service, CLIENTS, 0);
    client.stays = true;
    for person in &service.people {
        let password = person.password.load(Ordering::Relaxed);
        let by = client.log_in(person, password).await;
        let by = by.unwrap_or_else(|| panic!("{}", client.history.last().unwrap()));
        for instance in 0..service.instances.len() {
            client.instance = Some(instance);
            client.list(person, &by).await;
            for known in person.sessions() {
                client.check(person, &known).await;
            }
        }
        client.instance = None;
    }
    client.history
}

struct Client {
    service: Arc<Service>,
    number: usize,
    random: StdRng,
    /// The instance that is asked; any, if `None`.
    instance: Option<usize>,
    /// Waits for every answer.
    stays: bool,
    /// What the last list showed.
    seen: Vec<SessionId>,
    history: Vec<Operation>,
}

impl Client {
    fn new(service: &Arc<Service>, number: usize, seed: u64) -> Self {
        let place = (number as u64 + 1).wrapping_mul(0x2545_f491_4f6c_dd1d);
        Self {
            service: Arc::clone(service),
            number,
            random: StdRng::seed_from_u64(seed ^ place),
            instance: None,
            stays: false,
            seen: Vec::new(),
            history: Vec::new(),
        }
    }

    async fn do_something(&mut self) {
        let service = Arc::clone(&self.service);
        let person = service.people.choose(&mut self.random).unwrap();
        let other = service.people.choose(&mut self.random).unwrap();
        let password = person.password.load(Ordering::Relaxed);
        let Some(by) = person.some_session(&mut self.random) else {
            self.log_in(person, password).await;
            return;
        };
        match self.random.random_range(0..100) {
            0..26 => drop(self.log_in(person, password).await),
            26..29 => {
                let older = password.saturating_sub(self.random.random_range(0..3));
                self.log_in(person, older).await;
            }
            29..58 => self.check(person, &by).await,
            58..64 => self.log_out(person, &by).await,
            64..79 => self.list(person, &by).await,
            79..86 => {
                let ended = person.some_session(&mut self.random).map(|known| known.id);
                self.end(person, &by, ended.unwrap_or_else(|| by.id.clone()))
                    .await;
            }
            86..89 => {
                let seen = self.seen.choose(&mut self.random).cloned();
                self.end(person, &by, seen.unwrap_or_else(|| by.id.clone()))
                    .await;
            }
            89..91 => {
                let known = other.some_session(&mut self.random);
                if let Some(known) = known.filter(|_| other.id != person.id) {
                    self.end(person, &by, known.id).await;
                }
            }
            91..94 => self.end_all(person, &by, false).await,
            94..97 => self.end_all(person, &by, true).await,
            97..99 => self.change_password(person, &by).await,
            _ if self.random.random_ratio(1, 3) => self.disable_and_enable(person).await,
            _ => self.check(person, &by).await,
        }
    }

    async fn log_in(&mut self, person: &Person, password: Password) -> Option<Known> {
        let secret = person.secret(password);
        let body = json!({ "username": person.name, "password": secret }).to_string();
        let request = Request::post("/v1.0/user/auth").header("content-type", "application/json");
        let request = request.body(Body::from(body)).unwrap();
        let mut told = None;
        let action = Action::LogIn { password };
        self.ask(person, action, request, |answer| {
            match answer.status.as_u16() {
                200 => {
                    let token = answer.token();
                    let id = session_id(person.id, &token);
                    told = Some(Known {
                        id: id.clone(),
                        token,
                        dead: false,
                    });
                    Some(Outcome::Token(id))
                }
                401 => Some(Outcome::Refused),
                _ => None,
            }
        })
        .await;
        person.sessions.lock().unwrap().extend(told.clone());
        told
    }

    async fn check(&mut self, person: &Person, by: &Known) {
        let action = Action::Check { by: by.id.clone() };
        let request = with_token("GET", "/v1.0/user/auth", by);
        self.ask(person, action, request, |answer| {
            match answer.status.as_u16() {
                200 => answer.json()["user_id"].as_i64().map(Outcome::User),
                401 => Some(Outcome::Refused),
                _ => None,
            }
        })
        .await;
    }

    async fn log_out(&mut self, person: &Person, by: &Known) {
        let action = Action::LogOut { by: by.id.clone() };
        let request = with_token("DELETE", "/v1.0/user/auth", by);
        self.ask(person, action, request, done).await;
    }

    async fn end(&mut self, person: &Person, by: &Known, session: SessionId) {
        let path = format!("/v1.0/user/sessions/{session}");
        let request = with_token("DELETE", &path, by);
        let by = by.id.clone();
        let action = Action::End { by, session };
        self.ask(person, action, request, |answer| {
            match answer.status.as_u16() {
                404 => Some(Outcome::NotFound),
                _ => done(answer),
            }
        })
        .await;
    }

    async fn end_all(&mut self, person: &Person, by: &Known, keep: bool) {
        let query = if keep { "?keep=current" } else { "" };
        let request = with_token("DELETE", &format!("/v1.0/user/sessions{query}"), by);
        let by = by.id.clone();
        let action = Action::EndAll { by, keep };
        if self.ask(person, action, request, done).await == Outcome::Done {
            self.check_missing(person, &[]).await;
        }
    }

    async fn list(&mut self, person: &Person, by: &Known) {
        let request = with_token("GET", "/v1.0/user/sessions?limit=200", by);
        let action = Action::List { by: by.id.clone() };
        let outcome = self
            .ask(person, action, request, |answer| {
                match answer.status.as_u16() {
                    200 => sessions(&answer.json()),
                    401 => Some(Outcome::Refused),
                    _ => None,
                }
            })
            .await;
        let Outcome::Sessions { all, .. } = outcome else {
            return;
        };
        if !self.stays {
            self.check_missing(person, &all).await;
        }
        self.seen = all;
    }

    /// Checks, at once, what could be alive and was not shown.
    async fn check_missing(&mut self, person: &Person, shown: &[SessionId]) {
        let sessions = person.sessions();
        let missing = sessions
            .iter()
            .rev()
            .filter(|known| !known.dead && !shown.contains(&known.id));
        for known in missing.take(MISSING) {
            self.check(person, known).await;
        }
    }

    /// Does nothing while somebody else changes the account: what is good when they meet is not asked here.
    async fn change_password(&mut self, person: &Person, by: &Known) {
        let Ok(mut next) = person.account.try_lock() else {
            return;
        };
        let from = person.password.load(Ordering::Relaxed);
        let to = *next;
        *next += 1;
        let secrets = json!({
            "current_password": person.secret(from),
            "new_password": person.secret(to),
        });
        let request = Request::put("/v1.0/user/password")
            .header("authorization", format!("Bearer {}", by.token))
            .header("content-type", "application/json");
        let request = request.body(Body::from(secrets.to_string())).unwrap();
        let by = by.id.clone();
        let action = Action::ChangePassword { by, from, to };
        let outcome = self
            .ask(person, action, request, |answer| {
                match answer.status.as_u16() {
                    403 => Some(Outcome::WrongPassword),
                    _ => done(answer),
                }
            })
            .await;
        match outcome {
            Outcome::Done => {
                person.password.store(to, Ordering::Relaxed);
                self.log_in_and_check(person, to).await;
            }
            // Which one is good now? An administrator sets another one.
            Outcome::Unknown => self.enable(person, &mut next).await,
            _ => {}
        }
    }

    /// As the command line does it.
    async fn disable_and_enable(&mut self, person: &Person) {
        let Ok(mut next) = person.account.try_lock() else {
            return;
        };
        let instance = self.some_instance();
        let service = Arc::clone(&self.service);
        let accounts = &service.instances[instance].accounts;
        let disable = async {
            let change = accounts
                .set_disabled(person.id, true, &Author::command())
                .await
                .unwrap();
            Some(settled(change))
        };
        self.record(person, instance, Action::Disable, Box::pin(disable))
            .await;
        for _ in 0..self.random.random_range(0..3) {
            let password = person.password.load(Ordering::Relaxed);
            self.log_in(person, password).await;
        }
        self.enable(person, &mut next).await;
    }

    async fn enable(&mut self, person: &Person, next: &mut Password) {
        let password = *next;
        *next += 1;
        let instance = self.some_instance();
        let service = Arc::clone(&self.service);
        let accounts = &service.instances[instance].accounts;
        let enable = async {
            let hash = service.base.hash(&person.secret(password)).await;
            let change = accounts
                .set_password(person.id, hash, &Author::command())
                .await
                .unwrap();
            service.base.users.enable(person.id).await.unwrap();
            Some(settled(change))
        };
        let action = Action::Enable { password };
        self.record(person, instance, action, Box::pin(enable))
            .await;
        person.password.store(password, Ordering::Relaxed);
        self.log_in_and_check(person, password).await;
    }

    /// What begins after a change is not concerned by it, also if somebody else is late to end sessions because of it.
    async fn log_in_and_check(&mut self, person: &Person, password: Password) {
        if let Some(known) = self.log_in(person, password).await {
            for _ in 0..2 {
                self.check(person, &known).await;
            }
        }
    }

    fn some_instance(&mut self) -> usize {
        let all = self.service.instances.len();
        self.instance
            .unwrap_or_else(|| self.random.random_range(0..all))
    }

    /// Sends a request. `read` takes the answers that the contract gives to it, but for 503.
    async fn ask(
        &mut self,
        person: &Person,
        action: Action,
        request: Request<Body>,
        read: impl FnOnce(&Answer) -> Option<Outcome>,
    ) -> Outcome {
        let instance = self.some_instance();
        let leaves = !self.stays && self.random.random_ratio(1, LEAVES_ONE_IN);
        let patience = leaves.then(|| self.random.random_range(Duration::ZERO..PATIENCE));
        let service = Arc::clone(&self.service);
        let answer = async {
            let answer = service.instances[instance].send(request);
            let answer = match patience {
                Some(patience) => tokio::time::timeout(patience, answer).await.ok()?,
                None => answer.await,
            };
            Some(match answer.status.as_u16() {
                503 => Outcome::Unknown,
                _ => read(&answer).unwrap_or_else(|| unexpected(&answer)),
            })
        };
        self.record(person, instance, action, answer).await
    }

    /// Notes an operation, its moments and its outcome: `None` if the client left without one.
    async fn record(
        &mut self,
        person: &Person,
        instance: usize,
        action: Action,
        operation: impl Future<Output = Option<Outcome>>,
    ) -> Outcome {
        let clock: &Clock = &self.service.clock;
        let call = clock.now();
        let outcome = operation.await;
        let answer = outcome.as_ref().map_or(Moment::NEVER, |_| clock.now());
        let outcome = outcome.unwrap_or(Outcome::Unknown);
        if let (Some(by), Outcome::Refused) = (action.by(), &outcome) {
            person.note_dead(by);
        }
        self.history.push(Operation {
            user: person.id,
            client: self.number,
            instance,
            action,
            call,
            answer,
            outcome: outcome.clone(),
        });
        outcome
    }
}

fn with_token(method: &str, path: &str, by: &Known) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {}", by.token))
        .body(Body::empty())
        .unwrap()
}

fn done(answer: &Answer) -> Option<Outcome> {
    match answer.status.as_u16() {
        204 => Some(Outcome::Done),
        401 => Some(Outcome::Refused),
        _ => None,
    }
}

/// What a change of an account came to: its sessions ended, or they will.
fn settled(change: Change) -> Outcome {
    match change.ended() {
        Ok(ended) => {
            ended.expect("the user is there");
            Outcome::Done
        }
        Err(_) => Outcome::Unknown,
    }
}

/// All sessions: so many that they need a second page there never are.
fn sessions(list: &Value) -> Option<Outcome> {
    list["next"].as_null()?;
    let mut all: Vec<SessionId> = Vec::new();
    let mut current = Vec::new();
    for item in list["items"].as_array()? {
        let id: SessionId = item["id"].as_str()?.into();
        if item["current"].as_bool()? {
            current.push(id.clone());
        }
        all.push(id);
    }
    Some(Outcome::Sessions { all, current })
}

fn unexpected(answer: &Answer) -> Outcome {
    // Of a success the body may hold a token.
    let problem = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
    Outcome::Unexpected(format!("{} {}", answer.status, problem["code"]))
}
