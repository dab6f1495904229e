//! The service of a run: instances that share a database and a token store, each with a disturbed way to both.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use claviger::api::Api;
use claviger::app::App;
use claviger::auth::accounts::Accounts;
use claviger::config::Config;
use claviger::store::revocations::Revocations;
use claviger::store::users::NewUser;
use sea_orm::DatabaseConnection;
use secrecy::SecretString;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::cluster::Cluster;
use super::drive::Person;
use super::model::Clock;
use crate::common::{Answer, Backend, DelayingProxy, TestApp, redis_url};

/// Whose sessions are asked for. Few, so that the clients meet.
const PEOPLE: [&str; 3] = ["anna", "boris", "clara"];

/// Where the tokens are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In the one instance that there is, with SQLite.
    Memory,
    /// In a Redis, for two instances, with PostgreSQL.
    Redis,
    /// In a Redis Cluster, where the sessions of a user are on several servers.
    Cluster,
}

/// What a run is made on.
#[derive(Clone, Copy)]
pub(super) struct Setting {
    pub(super) place: Place,
    /// One message of so many to or from Redis takes its connection along. 0: none does.
    pub(super) lost_one_in: u32,
    /// The longest that a client thinks about what to do next: in memory, where nothing else takes time, the longer.
    pub(super) pause: Duration,
    /// The most sessions that a user may have, if clients come near it.
    pub(super) most: Option<usize>,
    pub(super) set: fn(&mut Config),
}

pub(super) struct Service {
    /// What made the database. It serves nobody.
    pub(super) base: TestApp,
    pub(super) instances: Vec<Instance>,
    pub(super) people: Vec<Person>,
    pub(super) clock: Clock,
    /// An undisturbed way to it, as the command line has one.
    pub(super) database: DatabaseConnection,
    /// The servers that hold the tokens.
    pub(super) servers: Vec<SecretString>,
    cluster: Option<Arc<Cluster>>,
    proxies: Vec<DelayingProxy>,
    shutdown: CancellationToken,
}

pub(super) struct Instance {
    /// As the command line has them, on the tokens of this instance.
    pub(super) accounts: Accounts,
    api: Api,
}

impl Instance {
    pub(super) async fn send(&self, request: Request<Body>) -> Answer {
        Answer::of(self.api.clone().oneshot(request).await.unwrap()).await
    }
}

impl Service {
    /// Starts it. What the instances do beside their requests goes into `tasks`.
    pub(super) async fn start(
        setting: Setting,
        cluster: Option<Arc<Cluster>>,
        seed: u64,
        tasks: &mut JoinSet<()>,
    ) -> Self {
        let (backend, servers) = match (setting.place, &cluster) {
            (Place::Memory, _) => (Backend::Embedded, Vec::new()),
            (_, None) => (Backend::External, vec![redis_url()]),
            (_, Some(cluster)) => (Backend::External, cluster.masters()),
        };
        if let Some(cluster) = &cluster {
            cluster.choose_by(seed);
        }
        let base = TestApp::start_with(backend, |config| {
            // Clients that were told no new password try the old one again and again.
            config.limits.enabled = false;
            config.tokens.timeout = Duration::from_secs(5);
            config.tokens.max_sessions_per_user = setting.most.unwrap_or(100_000);
            if let Some(cluster) = &cluster {
                config.tokens.url = cluster.url.clone();
            }
            (setting.set)(config);
        });
        let base = Box::pin(base).await;
        let mut service = Self {
            database: base.database.connect().await,
            base,
            instances: Vec::new(),
            people: Vec::new(),
            clock: Clock::new(),
            servers,
            cluster,
            proxies: Vec::new(),
            shutdown: CancellationToken::new(),
        };
        for name in PEOPLE {
            let mut person = Person::new(0, name.to_owned());
            let new = NewUser {
                username: name.to_owned(),
                password_hash: Some(service.base.hash(&person.secret(0)).await),
                is_admin: false,
                disabled: false,
            };
            person.id = service.base.insert(new).await;
            service.people.push(person);
        }
        let instances = if backend == Backend::External { 2 } else { 1 };
        for number in 0..instances {
            let seed = seed.wrapping_add(number);
            Box::pin(service.add_instance(setting, seed, tasks)).await;
        }
        service.disturb(true);
        service
    }

    async fn add_instance(&mut self, setting: Setting, seed: u64, tasks: &mut JoinSet<()>) {
        let mut config = self.base.config.clone();
        if setting.place == Place::Redis {
            let to_redis = DelayingProxy::before(&config.tokens.url, seed, setting.lost_one_in);
            let (proxy, url) = to_redis.await;
            config.tokens.url = url;
            self.proxies.push(proxy);
        }
        if setting.place != Place::Memory {
            // Without losses: what a lost database does is not asked here.
            let (proxy, url) = DelayingProxy::before(&config.database.url, !seed, 0).await;
            config.database.url = url;
            self.proxies.push(proxy);
        }
        let app = Box::pin(App::build(config, || 0)).await.unwrap();
        let (api, _, state, mut startup) = app.into_parts();
        startup.round().await.unwrap();
        let shutdown = self.shutdown.clone();
        tasks.spawn(async move { startup.watch(shutdown).await.unwrap() });
        let accounts = Accounts::new(
            self.base.users.clone(),
            Revocations::new(self.database.clone()),
            state.authenticator().tokens().clone(),
        );
        self.instances.push(Instance { accounts, api });
    }

    /// Disturbs nothing any more, and does what is left to do.
    pub(super) async fn calm_down(&self, tasks: &mut JoinSet<()>) {
        self.disturb(false);
        self.shutdown.cancel();
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap();
        }
        for instance in &self.instances {
            instance.accounts.settle_pending().await.unwrap();
        }
    }

    fn disturb(&self, active: bool) {
        let of_cluster = self.cluster.iter().flat_map(|cluster| &cluster.proxies);
        for proxy in self.proxies.iter().chain(of_cluster) {
            proxy.disturb(active);
        }
    }
}
