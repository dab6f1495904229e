//! Users, as the database keeps them.

mod administration;
mod import;

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{
    ActiveValue, ColumnTrait, Condition, ConnectionTrait, DatabaseConnection, DatabaseTransaction,
    DbBackend, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, UpdateMany,
};
use secrecy::{ExposeSecret, SecretString};

pub use self::administration::{Applied, UserChange};
pub use self::import::{ImportError, Imported, ImportedUser, OnConflict};
use super::StoreError;
use super::database::{begin, bounded, call, now, ping};
use super::entity::users::{ActiveModel, Column, Entity, Model};
use super::revocations::{Revocation, note};

/// One row of `users`.
#[derive(Clone, Debug)]
pub struct User {
    /// From 1 upwards, never given twice.
    pub id: i64,
    /// In the form in which names are compared.
    pub username: String,
    /// PHC string. None: nobody can log in as this user.
    pub password_hash: Option<SecretString>,
    /// May manage other users.
    pub is_admin: bool,
    /// Since when the user may not log in.
    pub disabled_at: Option<DateTimeUtc>,
    /// When the row was made.
    pub created_at: DateTimeUtc,
    /// When a person last changed something. A login, and the new hash that it may bring, is no such change.
    pub updated_at: DateTimeUtc,
    /// The last login that succeeded.
    pub last_login_at: Option<DateTimeUtc>,
    /// The last time that the password was set to another one.
    pub password_changed_at: Option<DateTimeUtc>,
}

impl From<Model> for User {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            username: row.username,
            password_hash: row.password_hash.map(SecretString::from),
            is_admin: row.is_admin,
            disabled_at: row.disabled_at,
            created_at: row.created_at,
            updated_at: row.updated_at,
            last_login_at: row.last_login_at,
            password_changed_at: row.password_changed_at,
        }
    }
}

/// What a user is made of.
#[derive(Clone, Debug)]
pub struct NewUser {
    /// In the form in which names are compared.
    pub username: String,
    /// PHC string.
    pub password_hash: Option<SecretString>,
    /// May manage other users.
    pub is_admin: bool,
    /// May not log in yet.
    pub disabled: bool,
}

/// The users. A cheap clone: all clones share one pool.
#[derive(Clone, Debug)]
pub struct Users {
    db: DatabaseConnection,
}

impl Users {
    /// The users of this database.
    pub fn new(db: DatabaseConnection) -> Self {
        Self { db }
    }

    /// The user of this name, which has to be in the form in which names are compared. One indexed select.
    pub async fn find(&self, username: &str) -> Result<Option<User>, StoreError> {
        let row = call(&self.db, || {
            Entity::find()
                .filter(Column::Username.eq(username))
                .one(&self.db)
        })
        .await?;
        Ok(row.map(User::from))
    }

    /// Makes a user.
    ///
    /// # Errors
    ///
    /// [`StoreError::Conflict`] if the name is taken. After [`StoreError::Unavailable`] the user may exist.
    pub async fn insert(&self, new: NewUser) -> Result<User, StoreError> {
        // In a transaction for its `BEGIN`, which finds a dead connection: the insert itself could not be tried again.
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            let row = insert_row(&transaction, new).await?;
            transaction.commit().await?;
            Ok(User::from(row))
        })
        .await
    }

    /// Makes a user if there is none at all. None: there was one, also if another instance made it in this moment.
    pub async fn insert_first(&self, new: NewUser) -> Result<Option<User>, StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            if self.db.get_database_backend() == DbBackend::Postgres {
                // Without it two instances would both see an empty table. Readers are not held up; on SQLite `begin` has the
                // write lock.
                transaction
                    .execute_unprepared("LOCK TABLE users IN SHARE ROW EXCLUSIVE MODE")
                    .await?;
            }
            if any(&transaction).await? {
                transaction.rollback().await?;
                return Ok(None);
            }
            let row = insert_row(&transaction, new).await?;
            transaction.commit().await?;
            Ok(Some(User::from(row)))
        })
        .await
    }

    /// The user of this id.
    pub async fn find_by_id(&self, id: i64) -> Result<Option<User>, StoreError> {
        let row = call(&self.db, || Entity::find_by_id(id).one(&self.db)).await?;
        Ok(row.map(User::from))
    }

    /// Notes a login that succeeded, in one statement. False: since `user` was read, the password was changed or taken away, or
    /// the user was disabled or deleted, and the login must not succeed.
    ///
    /// `new_hash` replaces the hash that the password was compared with: only if it is still the stored one. Another login that
    /// did so first is no change of the password.
    pub async fn record_login(
        &self,
        user: &User,
        new_hash: Option<&SecretString>,
    ) -> Result<bool, StoreError> {
        let mut update = Entity::update_many()
            .col_expr(Column::LastLoginAt, Expr::value(now()))
            .filter(unchanged(user));
        if let (Some(old), Some(new)) = (&user.password_hash, new_hash) {
            let hash: Expr = Expr::case(
                Column::PasswordHash.eq(old.expose_secret()),
                new.expose_secret(),
            )
            .finally(Expr::col(Column::PasswordHash))
            .into();
            update = update.col_expr(Column::PasswordHash, hash);
        }
        let done = call(&self.db, || update.clone().exec(&self.db)).await?;
        Ok(done.rows_affected > 0)
    }

    /// Sets another password, and notes what has to be revoked for that. False: there is no such user, and nothing was noted.
    pub async fn set_password(
        &self,
        id: i64,
        hash: &SecretString,
        revocation: &Revocation,
    ) -> Result<bool, StoreError> {
        let update = new_password(hash).filter(Column::Id.eq(id));
        self.change(update, Some(revocation)).await
    }

    /// Sets another password in place of the one that `user` was read with, and notes what has to be revoked for that. False:
    /// somebody changed or disabled the user since then, and nothing was done.
    pub async fn replace_password(
        &self,
        user: &User,
        hash: &SecretString,
        revocation: &Revocation,
    ) -> Result<bool, StoreError> {
        let update = new_password(hash).filter(unchanged(user));
        self.change(update, Some(revocation)).await
    }

    /// Forbids to log in, and notes what has to be revoked for that. One that is disabled already keeps the time since when.
    /// False: there is no such user.
    pub async fn disable(&self, id: i64, revocation: &Revocation) -> Result<bool, StoreError> {
        let now = now();
        let since = Func::coalesce([Expr::col(Column::DisabledAt), Expr::value(now)]);
        let update = Entity::update_many()
            .col_expr(Column::DisabledAt, Expr::from(since))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id));
        self.change(update, Some(revocation)).await
    }

    /// Allows to log in again. False: there is no such user.
    pub async fn enable(&self, id: i64) -> Result<bool, StoreError> {
        let update = Entity::update_many()
            .col_expr(Column::DisabledAt, Expr::value(None::<DateTimeUtc>))
            .col_expr(Column::UpdatedAt, Expr::value(now()))
            .filter(Column::Id.eq(id));
        self.change(update, None).await
    }

    /// Removes a user, and notes what has to be revoked for that. False: there is none.
    pub async fn delete(&self, id: i64, revocation: &Revocation) -> Result<bool, StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            let done = Entity::delete_by_id(id).exec(&transaction).await?;
            if done.rows_affected == 0 {
                transaction.rollback().await?;
                return Ok(false);
            }
            note(&transaction, revocation).await?;
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// Updates one user and notes a revocation, both or nothing.
    async fn change(
        &self,
        update: UpdateMany<Entity>,
        revocation: Option<&Revocation>,
    ) -> Result<bool, StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            let done = update.exec(&transaction).await?;
            if done.rows_affected == 0 {
                transaction.rollback().await?;
                return Ok(false);
            }
            if let Some(revocation) = revocation {
                note(&transaction, revocation).await?;
            }
            transaction.commit().await?;
            Ok(true)
        })
        .await
    }

    /// At most `limit` users in the order of their ids, from the first one after `after_id` on; 0 starts at the beginning.
    pub async fn list(&self, after_id: i64, limit: u64) -> Result<Vec<User>, StoreError> {
        let page = Entity::find()
            .filter(Column::Id.gt(after_id))
            .order_by_asc(Column::Id)
            .limit(limit);
        let rows = call(&self.db, || page.clone().all(&self.db)).await?;
        Ok(rows.into_iter().map(User::from).collect())
    }

    /// Whether there is no user at all.
    pub async fn is_empty(&self) -> Result<bool, StoreError> {
        Ok(!call(&self.db, || any(&self.db)).await?)
    }

    /// Whether the database can be read and written at the moment.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] if it can't; one that may only be read counts as away.
    pub async fn ping(&self) -> Result<(), StoreError> {
        ping(&self.db).await
    }
}

/// The row may still be logged in with: it is not disabled, and its password is the one that `user` was read with.
///
/// The hash alone does not tell, as another login may have stored one of the current cost for the same password meanwhile: then
/// the time of the change is as it was. Who changes a password in the table by hand has to change that time too, or a login that
/// is under way may still succeed.
fn unchanged(user: &User) -> Condition {
    let hash = user.password_hash.as_ref().map(ExposeSecret::expose_secret);
    let changed_at = match user.password_changed_at {
        Some(time) => Column::PasswordChangedAt.eq(time),
        None => Column::PasswordChangedAt.is_null(),
    };
    let same_password = Condition::any()
        .add(Column::PasswordHash.eq(hash))
        .add(changed_at);
    Condition::all()
        .add(Column::Id.eq(user.id))
        .add(Column::DisabledAt.is_null())
        .add(Column::PasswordHash.is_not_null())
        .add(same_password)
}

fn new_password(hash: &SecretString) -> UpdateMany<Entity> {
    let now = now();
    Entity::update_many()
        .col_expr(Column::PasswordHash, Expr::value(hash.expose_secret()))
        .col_expr(Column::PasswordChangedAt, Expr::value(now))
        .col_expr(Column::UpdatedAt, Expr::value(now))
}

async fn any(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let id: Option<i64> = Entity::find()
        .select_only()
        .column(Column::Id)
        .into_tuple()
        .one(db)
        .await?;
    Ok(id.is_some())
}

async fn insert_row(transaction: &DatabaseTransaction, new: NewUser) -> Result<Model, DbErr> {
    let row = row(new, now());
    Entity::insert(row).exec_with_returning(transaction).await
}

fn row(new: NewUser, now: DateTimeUtc) -> ActiveModel {
    let password_hash = new
        .password_hash
        .map(|hash| hash.expose_secret().to_owned());
    ActiveModel {
        id: ActiveValue::NotSet,
        username: ActiveValue::Set(new.username),
        password_changed_at: ActiveValue::Set(password_hash.as_ref().map(|_| now)),
        password_hash: ActiveValue::Set(password_hash),
        is_admin: ActiveValue::Set(new.is_admin),
        disabled_at: ActiveValue::Set(new.disabled.then_some(now)),
        created_at: ActiveValue::Set(now),
        updated_at: ActiveValue::Set(now),
        last_login_at: ActiveValue::Set(None),
    }
}
