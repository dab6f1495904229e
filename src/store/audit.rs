//! The trail of who did what, table `audit_events`. Nothing secret is in it, and no name that somebody typed.

use std::net::IpAddr;

use sea_orm::prelude::DateTimeUtc;
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DatabaseConnection, DbErr, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};

use super::StoreError;
use super::database::{begin, bounded, call, now};
use super::entity::audit_events::{ActiveModel, Column, Entity, Model};

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A user was made.
    UserCreated,
    /// The name of a user, or the right to manage others, was changed.
    UserChanged,
    /// A user may not log in any more.
    UserDisabled,
    /// A user may log in again.
    UserEnabled,
    /// A user was removed.
    UserDeleted,
    /// Somebody else set another password.
    PasswordReset,
    /// A user changed the own password.
    PasswordChanged,
    /// All sessions of a user were ended.
    SessionsEnded,
}

impl Action {
    /// As the table has it; frozen.
    pub fn name(self) -> &'static str {
        match self {
            Self::UserCreated => "user-created",
            Self::UserChanged => "user-changed",
            Self::UserDisabled => "user-disabled",
            Self::UserEnabled => "user-enabled",
            Self::UserDeleted => "user-deleted",
            Self::PasswordReset => "password-reset",
            Self::PasswordChanged => "password-changed",
            Self::SessionsEnded => "sessions-ended",
        }
    }
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done.
    Ok,
    /// It was refused.
    Refused,
}

impl Outcome {
    /// As the table has it; frozen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Refused => "refused",
        }
    }
}

/// Who did it, and from where.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Author {
    actor: Actor,
    address: Option<IpAddr>,
    request_id: Option<String>,
}

/// Whether it was a request or somebody at the machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Actor {
    /// The command line, which knows nobody by a name.
    #[default]
    Command,
    /// A user, by a request.
    User(i64),
}

impl Author {
    /// Whoever runs a command.
    pub fn command() -> Self {
        Self::default()
    }

    /// A user, by a request of this id that came from this address.
    pub fn user(id: i64, address: Option<IpAddr>, request_id: Option<String>) -> Self {
        Self {
            actor: Actor::User(id),
            address,
            request_id,
        }
    }

    fn event(&self, action: Action, subject_id: Option<i64>, outcome: Outcome) -> ActiveModel {
        let (origin, actor_id) = match self.actor {
            Actor::Command => ("command", None),
            Actor::User(id) => ("api", Some(id)),
        };
        ActiveModel {
            id: ActiveValue::NotSet,
            at: ActiveValue::Set(now()),
            actor_id: ActiveValue::Set(actor_id),
            action: ActiveValue::Set(action.name().to_owned()),
            subject_id: ActiveValue::Set(subject_id),
            outcome: ActiveValue::Set(outcome.name().to_owned()),
            origin: ActiveValue::Set(origin.to_owned()),
            address: ActiveValue::Set(self.address.map(|address| address.to_string())),
            request_id: ActiveValue::Set(self.request_id.clone()),
        }
    }
}

/// One row of `audit_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEvent {
    /// Greater than that of every earlier one, but for those that were written at the same time.
    pub id: i64,
    /// When.
    pub at: DateTimeUtc,
    /// Who, if it was a user who is known.
    pub actor_id: Option<i64>,
    /// What.
    pub action: String,
    /// To whom.
    pub subject_id: Option<i64>,
    /// What came of it.
    pub outcome: String,
    /// `api` or `command`.
    pub origin: String,
    /// From where.
    pub address: Option<String>,
    /// Finds the request in the log.
    pub request_id: Option<String>,
}

impl From<Model> for AuditEvent {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            at: row.at,
            actor_id: row.actor_id,
            action: row.action,
            subject_id: row.subject_id,
            outcome: row.outcome,
            origin: row.origin,
            address: row.address,
            request_id: row.request_id,
        }
    }
}

/// The trail. A cheap clone.
#[derive(Clone, Debug)]
pub struct Audit {
    db: DatabaseConnection,
}

impl Audit {
    /// That of this database.
    pub fn new(db: DatabaseConnection) -> Self {
        Self { db }
    }

    /// Writes one that belongs to no transaction.
    pub async fn append(
        &self,
        author: &Author,
        action: Action,
        subject_id: Option<i64>,
        outcome: Outcome,
    ) -> Result<(), StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            let event = author.event(action, subject_id, outcome);
            Entity::insert(event)
                .exec_without_returning(&transaction)
                .await?;
            transaction.commit().await
        })
        .await
    }

    /// At most `limit`, the newest first, from behind that of the id `before` on.
    pub async fn list(
        &self,
        before: Option<i64>,
        limit: u64,
    ) -> Result<Vec<AuditEvent>, StoreError> {
        let mut page = Entity::find().order_by_desc(Column::Id).limit(limit);
        if let Some(before) = before {
            page = page.filter(Column::Id.lt(before));
        }
        let rows = call(&self.db, || page.clone().all(&self.db)).await?;
        Ok(rows.into_iter().map(AuditEvent::from).collect())
    }
}

/// Writes what was done to a user, within the transaction that does it.
pub(super) async fn write(
    transaction: &impl ConnectionTrait,
    author: &Author,
    action: Action,
    subject_id: i64,
) -> Result<(), DbErr> {
    let event = author.event(action, Some(subject_id), Outcome::Ok);
    Entity::insert(event)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}
