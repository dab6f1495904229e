//! Whether the database, its schema and the token store can be used now.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{PoisonError, RwLock};

use sea_orm::DatabaseConnection;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::database::{is_read_only, pool_status};
use super::schema::{Comparison, Schema};
use super::tokens::Tokens;
use super::users::Users;
use super::{Dependency, PoolStatus, StoreError, with_sources};

/// Looks at what the service depends on, and remembers what it saw last.
#[derive(Debug)]
pub struct Health {
    db: DatabaseConnection,
    users: Users,
    schema: Schema,
    tokens: Tokens,
    /// Held while looking, so that however many ask, one looks.
    probing: Mutex<Option<(Instant, Report)>>,
    last: RwLock<Option<Report>>,
    schema_is_behind: AtomicBool,
    database_is_read_only: AtomicBool,
    /// The last that the token store told of it.
    tokens_may_be_evicted: AtomicBool,
    /// The id that the sessions belong to.
    installation: Mutex<Option<String>>,
    /// The token store was seen to do all that it has to.
    tokens_were_tested: AtomicBool,
}

/// What a look at the schema saw.
struct Seen {
    comparison: Comparison,
    version: usize,
    /// `None` if there is no such table.
    installation: Option<String>,
}

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The database can be written to.
    pub database_up: bool,
    /// The token store can be written to.
    pub tokens_up: bool,
    /// How the schema compares; `None` while the database is away.
    pub schema: Option<Comparison>,
    /// The version of the schema and the newest one that this binary knows.
    pub schema_version: Option<(usize, usize)>,
    /// The token store would end sessions for want of memory; `None` while it does not tell.
    pub tokens_may_be_evicted: Option<bool>,
    /// What is wrong, for the log: one sentence for each failing part.
    pub causes: Vec<String>,
}

impl Report {
    /// The schema holds all that this binary needs.
    pub fn schema_fits(&self) -> bool {
        matches!(self.schema, Some(Comparison::Current | Comparison::Ahead))
    }

    /// The names of the parts that fail.
    pub fn failing(&self) -> Vec<&'static str> {
        let mut failing = Vec::new();
        if !self.database_up {
            failing.push("database");
        }
        if !self.tokens_up {
            failing.push("tokens");
        }
        // Of a schema that can't be looked at nothing is known, and the database fails already.
        if self.schema == Some(Comparison::Behind) {
            failing.push("schema");
        }
        failing
    }
}

impl Health {
    /// Nothing is looked at yet.
    pub fn new(db: DatabaseConnection, tokens: Tokens) -> Self {
        Self {
            users: Users::new(db.clone()),
            schema: Schema::new(db.clone()),
            db,
            tokens,
            probing: Mutex::new(None),
            last: RwLock::new(None),
            schema_is_behind: AtomicBool::new(false),
            database_is_read_only: AtomicBool::new(false),
            tokens_may_be_evicted: AtomicBool::new(false),
            installation: Mutex::new(None),
            tokens_were_tested: AtomicBool::new(false),
        }
    }

    /// Looks now. Whoever asks while somebody else is looking waits for a look that began after the question, so that an answer
    /// is never older than its question, and the dependencies are asked once however many want to know.
    pub async fn probe(&self) -> Report {
        let asked = Instant::now();
        let mut probing = self.probing.lock().await;
        if let Some((began, report)) = probing.as_ref()
            && *began >= asked
        {
            return report.clone();
        }
        let began = Instant::now();
        let report = self.look().await;
        *probing = Some((began, report.clone()));
        self.remember(&report);
        report
    }

    /// What was seen last; `None` before the first look.
    pub fn last(&self) -> Option<Report> {
        self.last
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the database is known to be of no use for a login, though it can be read: its schema was behind, or it took
    /// no writes, when it was last looked at. Otherwise a wrong password would be refused, and a right one answered with 503.
    ///
    /// Cheap: asked at every login.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] says which.
    pub fn takes_logins(&self) -> Result<(), StoreError> {
        let unavailable = |cause| Err(StoreError::unavailable(Dependency::Database, cause));
        if self.schema_is_behind.load(Ordering::Relaxed) {
            return unavailable("the schema is behind");
        }
        if self.database_is_read_only.load(Ordering::Relaxed) {
            return unavailable("the database is read-only");
        }
        Ok(())
    }

    /// The connections of the database's pool.
    pub fn database_pool(&self) -> PoolStatus {
        pool_status(&self.db)
    }

    async fn look(&self) -> Report {
        let (database, schema, mut tokens) =
            tokio::join!(self.users.ping(), self.look_at_schema(), self.tokens.ping());
        if let Ok(seen) = &schema {
            let ended = self.end_sessions_of_another_installation(seen).await;
            tokens = tokens.and(ended);
        }
        if tokens.is_ok() {
            tokens = self.test_tokens().await;
        }
        let read_only = database.as_ref().is_err_and(is_read_only);
        self.database_is_read_only
            .store(read_only, Ordering::Relaxed);
        let mut report = Report {
            database_up: database.is_ok(),
            tokens_up: tokens.is_ok(),
            ..Report::default()
        };
        if report.tokens_up {
            report.tokens_may_be_evicted = self.tokens.may_evict().await;
        }
        report.causes.extend(
            [database.err(), tokens.err()]
                .into_iter()
                .flatten()
                .map(|error| with_sources(&error)),
        );
        match schema {
            Ok(Seen {
                comparison,
                version,
                ..
            }) => {
                report.schema = Some(comparison);
                report.schema_version = Some((version, self.schema.latest()));
                if comparison == Comparison::Behind {
                    report.causes.push(format!(
                        "the schema is at version {version} and this binary needs {}: run `claviger migrate up`",
                        self.schema.latest()
                    ));
                }
            }
            Err(error) => {
                if report.database_up {
                    report.database_up = false;
                    report.causes.push(with_sources(&error));
                }
            }
        }
        report
    }

    async fn look_at_schema(&self) -> Result<Seen, StoreError> {
        let status = self.schema.status().await?;
        Ok(Seen {
            comparison: status.comparison,
            version: status.version,
            installation: self.schema.installation_id().await?,
        })
    }

    /// Somebody may undo and redo the schema from another process, which can't reach tokens in this one, or was not told of
    /// the Redis that this one uses. Ids then start from 1 again, so a token of before must not live on. The installation's
    /// id is made anew with the schema.
    async fn end_sessions_of_another_installation(&self, seen: &Seen) -> Result<(), StoreError> {
        let mut known = self.installation.lock().await;
        if known.is_none() {
            // Whatever else fails at the moment: sessions can be ended as soon as it has a name.
            self.belong_to(&mut known, seen.installation.as_deref());
            return Ok(());
        }
        let now = match seen.comparison {
            Comparison::Behind => None,
            Comparison::Current | Comparison::Ahead => seen.installation.as_deref(),
        };
        // Of a schema that is behind it is not said that it was undone: with Redis this waits for the next id.
        if now.is_none() && !self.tokens.is_local() {
            return Ok(());
        }
        if known.as_deref() != now {
            let ended = self.tokens.clear().await?;
            tracing::warn!(
                ended,
                "the schema was undone or made anew: all sessions are ended"
            );
        }
        // Only now, so that the next look tries again if they could not be ended, under the name that they have.
        self.belong_to(&mut known, now);
        Ok(())
    }

    fn belong_to(&self, known: &mut Option<String>, installation: Option<&str>) {
        *known = installation.map(str::to_owned);
        if let Some(installation) = installation {
            self.tokens.belong_to(installation);
        }
    }

    /// Once, as soon as the store is there: what it may not do, as for want of a right, is found before somebody logs in.
    async fn test_tokens(&self) -> Result<(), StoreError> {
        if self.tokens_were_tested.load(Ordering::Relaxed) || !self.tokens.knows_sessions() {
            return Ok(());
        }
        self.tokens.self_test().await?;
        self.tokens_were_tested.store(true, Ordering::Relaxed);
        Ok(())
    }

    fn remember(&self, report: &Report) {
        if let Some(comparison) = report.schema {
            self.schema_is_behind
                .store(comparison == Comparison::Behind, Ordering::Relaxed);
        }
        self.remember_eviction(report.tokens_may_be_evicted);
        let before = self
            .last
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .replace(report.clone());
        // Once for each change: what is said every second is read by nobody.
        let said = |report: &Report| (report.failing(), report.schema, report.causes.clone());
        if before.as_ref().map(said) == Some(said(report)) {
            return;
        }
        if report.failing().is_empty() {
            tracing::info!("ready");
        } else {
            tracing::warn!(failing = %report.failing().join(","), causes = %report.causes.join("; "), "not ready");
        }
        if report.schema == Some(Comparison::Ahead) {
            tracing::warn!(
                "the schema is ahead of this binary: fine during a roll-out or after a roll-back"
            );
        }
    }

    /// An outage tells nothing of it, and does not make it news again.
    fn remember_eviction(&self, told: Option<bool>) {
        let Some(now) = told else { return };
        if now && !self.tokens_may_be_evicted.swap(now, Ordering::Relaxed) {
            tracing::warn!(
                "Redis may end sessions when its memory is full: it has a maxmemory, and a maxmemory-policy other than noeviction"
            );
        }
        self.tokens_may_be_evicted.store(now, Ordering::Relaxed);
    }
}
