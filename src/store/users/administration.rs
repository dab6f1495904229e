//! What is done to users by others: each change with its place in the audit trail, and with the promise to end sessions.

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use secrecy::{ExposeSecret, SecretString};

use super::{NewUser, User, Users, insert_row};
use crate::store::StoreError;
use crate::store::audit::{Action, Author, write};
use crate::store::database::{begin, bounded, now};
use crate::store::entity::users::{Column, Entity, Model};
use crate::store::revocations::{Revocation, note};

/// What shall be another than it is; `None`: it stays as it is.
#[derive(Clone, Debug, Default)]
pub struct UserChange {
    /// In the form in which names are compared.
    pub username: Option<String>,
    /// PHC string of a new password, which ends all sessions.
    pub password_hash: Option<SecretString>,
    /// May manage other users.
    pub is_admin: Option<bool>,
    /// May not log in, which ends all sessions.
    pub disabled: Option<bool>,
}

/// What came of a change.
#[derive(Clone, Debug)]
pub enum Applied {
    /// It is done: the user as it is now, or as it was before it was removed.
    Done(Box<User>),
    /// There is no such user.
    NotFound,
    /// Nobody would be left who is enabled and may manage others. Nothing was done.
    LastAdmin,
}

impl Users {
    /// Makes a user, as [`Users::insert`], and writes who did it.
    ///
    /// # Errors
    ///
    /// See [`Users::insert`].
    pub async fn create(&self, new: NewUser, author: &Author) -> Result<User, StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            let row = insert_row(&transaction, new).await?;
            write(&transaction, author, Action::UserCreated, row.id).await?;
            transaction.commit().await?;
            Ok(User::from(row))
        })
        .await
    }

    /// Changes a user, notes what has to be revoked for that, and writes who did it: all or nothing. What is already as it
    /// shall be is no change.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the name is taken.
    pub async fn apply(
        &self,
        id: i64,
        change: &UserChange,
        revocation: Option<&Revocation>,
        author: &Author,
    ) -> Result<Applied, StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            let takes_away = change.is_admin == Some(false) || change.disabled == Some(true);
            if takes_away && is_last_admin(&transaction, id).await? {
                transaction.rollback().await?;
                return Ok(Applied::LastAdmin);
            }
            let row = Entity::find_by_id(id).lock_exclusive().one(&transaction);
            let Some(before) = row.await? else {
                transaction.rollback().await?;
                return Ok(Applied::NotFound);
            };
            let (after, actions) = changed(&before, change);
            if !actions.is_empty() {
                update(&transaction, &after).await?;
            }
            for action in actions {
                write(&transaction, author, action, id).await?;
            }
            if let Some(revocation) = revocation {
                note(&transaction, revocation).await?;
            }
            transaction.commit().await?;
            Ok(Applied::Done(Box::new(User::from(after))))
        })
        .await
    }

    /// Removes a user, notes what has to be revoked for that, and writes who did it: all or nothing.
    pub async fn remove(
        &self,
        id: i64,
        revocation: &Revocation,
        author: &Author,
    ) -> Result<Applied, StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            if is_last_admin(&transaction, id).await? {
                transaction.rollback().await?;
                return Ok(Applied::LastAdmin);
            }
            let row = Entity::find_by_id(id).lock_exclusive().one(&transaction);
            let Some(before) = row.await? else {
                transaction.rollback().await?;
                return Ok(Applied::NotFound);
            };
            Entity::delete_by_id(id).exec(&transaction).await?;
            write(&transaction, author, Action::UserDeleted, id).await?;
            note(&transaction, revocation).await?;
            transaction.commit().await?;
            Ok(Applied::Done(Box::new(User::from(before))))
        })
        .await
    }
}

/// Whether this user is the only one who is enabled and may manage others.
async fn is_last_admin(transaction: &DatabaseTransaction, id: i64) -> Result<bool, DbErr> {
    Ok(lock_admins(transaction).await? == [id])
}

/// Those who are enabled and may manage others. Their rows are locked until the end of the transaction, in one order: two who
/// remove each other at the same time wait for each other here, and the second finds one less. On SQLite `begin` has the write
/// lock.
pub(super) async fn lock_admins(transaction: &DatabaseTransaction) -> Result<Vec<i64>, DbErr> {
    Entity::find()
        .select_only()
        .column(Column::Id)
        .filter(Column::IsAdmin.eq(true))
        .filter(Column::DisabledAt.is_null())
        .order_by_asc(Column::Id)
        .lock_exclusive()
        .into_tuple()
        .all(transaction)
        .await
}

/// The row with the change, and what there is to tell of it.
fn changed(before: &Model, change: &UserChange) -> (Model, Vec<Action>) {
    let now = now();
    let mut after = before.clone();
    let mut actions = Vec::new();
    if let Some(username) = &change.username {
        after.username.clone_from(username);
    }
    if let Some(is_admin) = change.is_admin {
        after.is_admin = is_admin;
    }
    if after != *before {
        actions.push(Action::UserChanged);
    }
    if let Some(hash) = &change.password_hash {
        after.password_hash = Some(hash.expose_secret().to_owned());
        after.password_changed_at = Some(now);
        actions.push(Action::PasswordReset);
    }
    match change.disabled {
        Some(true) if before.disabled_at.is_none() => {
            after.disabled_at = Some(now);
            actions.push(Action::UserDisabled);
        }
        Some(false) if before.disabled_at.is_some() => {
            after.disabled_at = None;
            actions.push(Action::UserEnabled);
        }
        _ => {}
    }
    if !actions.is_empty() {
        after.updated_at = now;
    }
    (after, actions)
}

async fn update(transaction: &DatabaseTransaction, row: &Model) -> Result<(), DbErr> {
    let time = |time: Option<DateTimeUtc>| Expr::value(time);
    Entity::update_many()
        .col_expr(Column::Username, Expr::value(row.username.as_str()))
        .col_expr(Column::PasswordHash, Expr::value(row.password_hash.clone()))
        .col_expr(Column::IsAdmin, Expr::value(row.is_admin))
        .col_expr(Column::DisabledAt, time(row.disabled_at))
        .col_expr(Column::UpdatedAt, Expr::value(row.updated_at))
        .col_expr(Column::PasswordChangedAt, time(row.password_changed_at))
        .filter(Column::Id.eq(row.id))
        .exec(transaction)
        .await?;
    Ok(())
}
