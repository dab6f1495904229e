//! Many users at once, as another program knew them.

use std::collections::{HashMap, HashSet};

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, DatabaseTransaction, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    UpdateMany,
};
use secrecy::{ExposeSecret, SecretString};

use super::administration::lock_admins;
use super::{NewUser, Users, row};
use crate::store::StoreError;
use crate::store::database::{begin, bounded, call, now};
use crate::store::entity::users::{Column, Entity, Model};
use crate::store::revocations::{Revocation, note};

/// How often a batch begins again because somebody made one of its users at the same time.
const ATTEMPTS: usize = 3;

/// A user as a file has it. What is `None` is not said: the default for a new user, as it is for one that exists.
#[derive(Clone, Debug)]
pub struct ImportedUser {
    /// In the form in which names are compared.
    pub username: String,
    /// A string that can be verified; `Some(None)` takes the password away.
    pub password_hash: Option<Option<SecretString>>,
    /// May manage other users.
    pub is_admin: Option<bool>,
    /// May not log in.
    pub disabled: Option<bool>,
}

/// What becomes of a user whose name is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnConflict {
    /// None of the batch is imported.
    Fail,
    /// The one that exists stays as it is.
    Skip,
    /// The one that exists becomes what the import says.
    Update,
}

/// What was done with users. Each is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Imported {
    /// Users that did not exist.
    pub created: u64,
    /// Users that existed and were changed.
    pub updated: u64,
    /// Users that existed and were as the import says, or were to be skipped.
    pub unchanged: u64,
    /// Users whose sessions have to end: that is noted. They are counted above too.
    pub to_revoke: u64,
}

/// Why nothing of a batch was imported.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// See [`StoreError`]; a conflict means that somebody made a user of a name meanwhile.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It would leave nobody who may manage users.
    #[error("the last administrator who is not disabled would be disabled or be none any more")]
    LastAdmin,
}

impl Users {
    /// Which of these names are taken.
    pub async fn taken(&self, usernames: &[&str]) -> Result<HashSet<String>, StoreError> {
        let select = Entity::find()
            .select_only()
            .column(Column::Username)
            .filter(Column::Username.is_in(usernames.iter().copied()));
        let all = || select.clone().into_tuple().all(&self.db);
        let taken: Vec<String> = call(&self.db, all).await?;
        Ok(taken.into_iter().collect())
    }

    /// Imports users in one transaction. No name may be there twice. Sessions that have to end, since a password was changed or
    /// taken away or a user was disabled, are noted in it.
    ///
    /// # Errors
    /// See [`ImportError`]; nothing of it was done, unless the database went away while it was told to keep it.
    pub async fn import(
        &self,
        batch: &[ImportedUser],
        on_conflict: OnConflict,
    ) -> Result<Imported, ImportError> {
        let mut attempt = 1;
        loop {
            let outcome = bounded(&self.db, async {
                let transaction = begin(&self.db).await?;
                let imported = import(&transaction, batch, on_conflict).await?;
                match &imported {
                    Some(_) => transaction.commit().await?,
                    None => transaction.rollback().await?,
                }
                Ok(imported)
            })
            .await;
            match outcome {
                // Its user exists now, and is found by the next attempt.
                Err(StoreError::Conflict)
                    if on_conflict != OnConflict::Fail && attempt < ATTEMPTS =>
                {
                    attempt += 1;
                }
                Err(error) => return Err(error.into()),
                Ok(None) => return Err(ImportError::LastAdmin),
                Ok(Some(imported)) => return Ok(imported),
            }
        }
    }
}

/// `None`: there would be no administrator left.
async fn import(
    transaction: &DatabaseTransaction,
    batch: &[ImportedUser],
    on_conflict: OnConflict,
) -> Result<Option<Imported>, DbErr> {
    let existing = match on_conflict {
        // A name that is taken is a conflict when it is inserted.
        OnConflict::Fail => HashMap::new(),
        OnConflict::Skip => existing(transaction, batch, false).await?,
        OnConflict::Update => {
            // First, and for everybody in the same order: whoever else takes one of them away waits here.
            lock_admins(transaction).await?;
            existing(transaction, batch, true).await?
        }
    };
    let now = now();
    let mut imported = Imported::default();
    let mut new = Vec::new();
    let mut risky = false;
    for user in batch {
        let Some(old) = existing.get(&user.username) else {
            new.push(row(new_user(user), now));
            continue;
        };
        let change = match on_conflict {
            OnConflict::Update => Change::of(user, old, now),
            OnConflict::Fail | OnConflict::Skip => None,
        };
        let Some(change) = change else {
            imported.unchanged += 1;
            continue;
        };
        change.update.exec(transaction).await?;
        if change.revokes {
            note(transaction, &Revocation::of_user(old.id)).await?;
            imported.to_revoke += 1;
        }
        risky |= old.is_admin && old.disabled_at.is_none();
        imported.updated += 1;
    }
    imported.created = new.len() as u64;
    if !new.is_empty() {
        Entity::insert_many(new)
            .exec_without_returning(transaction)
            .await?;
    }
    if risky && lock_admins(transaction).await?.is_empty() {
        return Ok(None);
    }
    Ok(Some(imported))
}

/// The users of these names. To be changed, they stay as they are until the transaction ends.
async fn existing(
    transaction: &DatabaseTransaction,
    batch: &[ImportedUser],
    to_be_changed: bool,
) -> Result<HashMap<String, Model>, DbErr> {
    let usernames = batch.iter().map(|user| user.username.as_str());
    let mut select = Entity::find()
        .filter(Column::Username.is_in(usernames))
        .order_by_asc(Column::Id);
    if to_be_changed {
        select = select.lock_exclusive();
    }
    let rows = select.all(transaction).await?.into_iter();
    Ok(rows.map(|row| (row.username.clone(), row)).collect())
}

fn new_user(user: &ImportedUser) -> NewUser {
    NewUser {
        username: user.username.clone(),
        password_hash: user.password_hash.clone().flatten(),
        is_admin: user.is_admin.unwrap_or(false),
        disabled: user.disabled.unwrap_or(false),
    }
}

/// What has to be done with a user who exists.
struct Change {
    update: UpdateMany<Entity>,
    revokes: bool,
}

impl Change {
    /// `None`: the user is as the import says.
    fn of(user: &ImportedUser, old: &Model, now: DateTimeUtc) -> Option<Self> {
        let mut update = Entity::update_many()
            .filter(Column::Id.eq(old.id))
            .col_expr(Column::UpdatedAt, Expr::value(now));
        let (mut changes, mut revokes) = (false, false);
        if let Some(hash) = &user.password_hash {
            let hash = hash.as_ref().map(ExposeSecret::expose_secret);
            if hash != old.password_hash.as_deref() {
                update = update
                    .col_expr(Column::PasswordHash, Expr::value(hash))
                    .col_expr(Column::PasswordChangedAt, Expr::value(now));
                (changes, revokes) = (true, true);
            }
        }
        if let Some(is_admin) = user.is_admin
            && is_admin != old.is_admin
        {
            update = update.col_expr(Column::IsAdmin, Expr::value(is_admin));
            changes = true;
        }
        if let Some(disabled) = user.disabled
            && disabled != old.disabled_at.is_some()
        {
            update = update.col_expr(Column::DisabledAt, Expr::value(disabled.then_some(now)));
            changes = true;
            revokes |= disabled;
        }
        changes.then_some(Self { update, revokes })
    }
}
