//! The factory: settings in, a service out. Used by `claviger serve` and by every test, so that what is tested is what runs.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio_util::sync::CancellationToken;

use crate::api::{self, Api, AppState};
use crate::auth::Authenticator;
use crate::auth::accounts::Accounts;
use crate::auth::bootstrap::{Bootstrap, InvalidBootstrap};
use crate::auth::hash_pool::sizing::{Sizing, SizingError};
use crate::auth::hash_pool::{HashPool, Observer, StartError};
use crate::config::{Config, MigrateMode};
use crate::metrics::Metrics;
use crate::store::database::{self, UrlError};
use crate::store::health::{Health, Report};
use crate::store::revocations::Revocations;
use crate::store::schema::{self, Comparison, Schema, SchemaError, Target};
use crate::store::tokens::{InvalidTokensUrl, Tokens};
use crate::store::users::Users;
use crate::store::with_sources;

/// How often the dependencies are looked at.
const WATCH_INTERVAL: Duration = Duration::from_secs(1);

/// A service that is wired but not yet serving.
pub struct App {
    /// What `server.listen` serves.
    pub api: Api,
    /// What `server.ops_listen` serves.
    pub ops: Router,
    /// What both share.
    pub state: AppState,
    startup: Startup,
}

/// The service can't be built from these settings. The text does not name them, see [`BuildError::keys`].
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// `database.url` can't be used.
    #[error(transparent)]
    Database(#[from] UrlError),
    /// `tokens.url` can't be used.
    #[error(transparent)]
    Tokens(#[from] InvalidTokensUrl),
    /// `database.schema_version` is unknown.
    #[error(transparent)]
    SchemaVersion(SchemaError),
    /// The memory or the threads for hashing can't be had.
    #[error(transparent)]
    HashPool(#[from] StartError),
    /// The sizes of the hash gate don't fit into the memory.
    #[error(transparent)]
    Sizing(#[from] SizingError),
    /// `bootstrap.*` is not acceptable.
    #[error(transparent)]
    Bootstrap(#[from] InvalidBootstrap),
    /// A bug in the table of metrics.
    #[error("metrics: {0}")]
    Metrics(#[from] prometheus::Error),
}

impl BuildError {
    /// The settings that are to blame; none for a bug, and for what the operating system refuses.
    pub fn keys(&self) -> &'static [&'static str] {
        const GATE: &[&str] = &["password.workers", "password.memory_kib"];
        match self {
            Self::Database(_) => &["database.url"],
            Self::Tokens(_) => &["tokens.url"],
            Self::SchemaVersion(_) => &["database.schema_version"],
            Self::HashPool(StartError::Memory { .. })
            | Self::Sizing(SizingError::TooManyWorkers { .. }) => GATE,
            Self::HashPool(StartError::Cost(_)) => &[
                "password.memory_kib",
                "password.iterations",
                "password.parallelism",
            ],
            Self::Sizing(SizingError::NoWorkerFits { .. }) => &["password.memory_kib"],
            Self::Bootstrap(error) => error.keys(),
            Self::HashPool(StartError::Dummy(_) | StartError::Thread(_)) | Self::Metrics(_) => &[],
        }
    }
}

/// All that [`App::build`] would refuse, as far as it can be found without asking a dependency; the loading of the
/// settings has found the rest. The memory limits are those of the machine on which this runs.
pub fn check(config: &Config) -> Vec<BuildError> {
    let mut errors = check_stores(config);
    errors.extend(check_schema_version(config).err());
    errors.extend(Sizing::detect(&config.password).err().map(Into::into));
    errors.extend(Bootstrap::new(config).err().map(Into::into));
    errors
}

/// Of [`check`] what concerns every command that works on a store.
pub fn check_stores(config: &Config) -> Vec<BuildError> {
    let database = database::check_url(&config.database).err();
    let tokens = Tokens::check_url(&config.tokens).err();
    let errors = [database.map(BuildError::from), tokens.map(BuildError::from)];
    errors.into_iter().flatten().collect()
}

fn check_schema_version(config: &Config) -> Result<(), BuildError> {
    let latest = schema::latest();
    match config.database.schema_version {
        Some(wanted) if wanted > latest => {
            Err(BuildError::SchemaVersion(SchemaError::UnknownVersion {
                wanted,
                latest,
            }))
        }
        _ => Ok(()),
    }
}

impl App {
    /// Wires the parts. Nothing is asked of a dependency yet, so this succeeds while they are away.
    ///
    /// `dropped_log_lines` counts the log lines that were dropped since the start, for the metrics.
    ///
    /// # Errors
    /// The settings can't be used; see [`BuildError`].
    pub async fn build(
        config: Config,
        dropped_log_lines: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Result<Self, BuildError> {
        let metrics = Metrics::new()?;
        let bootstrap = Bootstrap::new(&config)?;
        let db = database::connect(&config.database).await?;
        let users = Users::new(db.clone());
        let tokens = Tokens::open(&config.tokens)?;
        // Whoever finds another instance at it tries again with the next round.
        let schema = Schema::new(db.clone()).lock_wait(WATCH_INTERVAL);
        check_schema_version(&config)?;
        let health = Arc::new(Health::new(db.clone(), tokens.clone()));
        let accounts = Accounts::new(users.clone(), Revocations::new(db), tokens.clone());

        let sizing = Sizing::detect(&config.password)?;
        let (wait, run) = (metrics.hash_wait(), metrics.hash_duration());
        let observer = Observer {
            wait: Box::new(move |time| wait.observe(time.as_secs_f64())),
            run: Box::new(move |time| run.observe(time.as_secs_f64())),
        };
        let hash_pool = HashPool::start(&config.password, &sizing, observer)?;

        let authenticator = Authenticator::new(
            &config,
            users.clone(),
            tokens.clone(),
            accounts.clone(),
            hash_pool.clone(),
            Arc::clone(&health),
        );
        let schema_step = SchemaStep::of(&config);
        let state = AppState::new(
            config,
            authenticator,
            Arc::clone(&health),
            metrics,
            Box::new(dropped_log_lines),
        );
        let startup = Startup {
            schema_step,
            schema,
            bootstrap,
            users,
            tokens,
            accounts,
            hash_pool,
            health,
            state: state.clone(),
            trouble: Trouble::default(),
            settling: Trouble::default(),
        };
        Ok(Self {
            api: api::api(state.clone()),
            ops: api::ops(state.clone()),
            state,
            startup,
        })
    }

    /// Takes the parts that are served, and what has to happen beside them.
    pub fn into_parts(self) -> (Api, Router, AppState, Startup) {
        (self.api, self.ops, self.state, self.startup)
    }
}

/// What is to be done once, as soon as the dependencies allow it: the schema, then the first administrator. And what is to be
/// done again and again: looking at the dependencies, and keeping the promises to end sessions.
pub struct Startup {
    schema_step: Option<SchemaStep>,
    schema: Schema,
    bootstrap: Option<Bootstrap>,
    users: Users,
    tokens: Tokens,
    accounts: Accounts,
    hash_pool: HashPool,
    health: Arc<Health>,
    state: AppState,
    trouble: Trouble,
    settling: Trouble,
}

/// What keeps something from being done that is tried every second. It is told when it changes.
#[derive(Default)]
struct Trouble(String);

impl Trouble {
    fn tell(&mut self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        let cause = with_sources(error);
        if cause != self.0 {
            tracing::warn!(%cause, "{what}, and will be tried again");
            self.0 = cause;
        }
    }
}

const NOT_STARTED: &str = "the start is not done";

/// What the start does about the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SchemaStep {
    Up,
    To(usize),
}

impl SchemaStep {
    fn of(config: &Config) -> Option<Self> {
        match (config.database.schema_version, config.migrate()) {
            (Some(version), _) => Some(Self::To(version)),
            (None, MigrateMode::Auto) => Some(Self::Up),
            (None, MigrateMode::Check) => None,
        }
    }
}

impl Startup {
    /// Looks at the dependencies every second until `shutdown`, and does what is to be done as soon as they are there.
    ///
    /// # Errors
    /// The schema can't be brought to where the settings want it, and waiting won't help.
    pub async fn watch(mut self, shutdown: CancellationToken) -> Result<(), SchemaError> {
        let mut interval = tokio::time::interval(WATCH_INTERVAL);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                _ = interval.tick() => {}
            }
            if self.is_done() {
                tokio::select! {
                    () = shutdown.cancelled() => return Ok(()),
                    outcome = self.round() => outcome?,
                }
            } else {
                // A migration that has begun is not to be dropped half-way, nor the first administrator.
                self.round().await?;
            }
        }
    }

    fn is_done(&self) -> bool {
        self.schema_step.is_none() && self.bootstrap.is_none()
    }

    /// Does what is to be done, and looks, once.
    ///
    /// # Errors
    /// See [`Startup::watch`].
    pub async fn round(&mut self) -> Result<(), SchemaError> {
        if let Some(step) = self.schema_step {
            match self.migrate(step).await {
                Ok(()) => self.schema_step = None,
                Err(error) if error.may_pass() => self.trouble.tell(NOT_STARTED, &error),
                Err(error) => return Err(error),
            }
        }
        let report = self.health.probe().await;
        if report.failing().is_empty()
            && let Some(bootstrap) = &self.bootstrap
        {
            match bootstrap.run(&self.users, &self.hash_pool).await {
                Ok(()) => self.bootstrap = None,
                Err(error) => self.trouble.tell(NOT_STARTED, &error),
            }
        }
        self.settle(&report).await;
        Ok(())
    }

    /// Ends the sessions that a change to an account left alive: because the token store was away, or the one who made the
    /// change can't reach it, or ended.
    async fn settle(&mut self, report: &Report) {
        // Also while the token store takes no tokens: it may be full, and then it still ends them.
        if !report.database_up || !report.schema_fits() {
            return;
        }
        match self.accounts.settle_pending().await {
            Ok(ended) => {
                self.settling.0.clear();
                self.state.metrics().count_revoked(ended);
            }
            Err(error) => self
                .settling
                .tell("sessions that have to end did not", &error),
        }
    }

    async fn migrate(&self, step: SchemaStep) -> Result<(), SchemaError> {
        let end_sessions = async || self.tokens.clear().await.map(|_| ());
        let status = match step {
            SchemaStep::Up => self.schema.up().await?,
            SchemaStep::To(version) => {
                let mut ended = false;
                let end_sessions = async || {
                    ended = true;
                    end_sessions().await
                };
                let target = Target::Version(version);
                // The names of the sessions depend on it.
                if let Some(installation) = self.schema.installation_id().await? {
                    self.tokens.belong_to(&installation);
                }
                let status = self.schema.to(target, end_sessions).await?;
                if ended {
                    // A login of another instance may have stored its token after the first sweep.
                    self.tokens.clear().await?;
                }
                status
            }
        };
        if status.comparison != Comparison::Ahead {
            tracing::info!(version = status.version, latest = status.known, "schema");
        }
        Ok(())
    }
}
