//! Users, as the database keeps them.

use std::time::SystemTime;

use sea_orm::prelude::DateTimeUtc;
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{
    ActiveValue, ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend,
    DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
};
use secrecy::{ExposeSecret, SecretString};

use super::StoreError;
use super::database::{begin, bounded, call, ping};
use super::entity::users::{ActiveModel, Column, Entity, Model};

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

    /// Notes a login that succeeded, in one statement.
    ///
    /// `rehashed` is the hash that the password was compared with, and the one that replaces it: only if it is still the stored
    /// one, so that a password that somebody set in between stays.
    pub async fn record_login(
        &self,
        id: i64,
        rehashed: Option<(&SecretString, SecretString)>,
    ) -> Result<(), StoreError> {
        let mut update = Entity::update_many()
            .col_expr(Column::LastLoginAt, Expr::value(now()))
            .filter(Column::Id.eq(id));
        if let Some((old, new)) = rehashed {
            let hash: Expr = Expr::case(
                Column::PasswordHash.eq(old.expose_secret()),
                new.expose_secret(),
            )
            .finally(Expr::col(Column::PasswordHash))
            .into();
            update = update.col_expr(Column::PasswordHash, hash);
        }
        call(&self.db, || update.clone().exec(&self.db)).await?;
        Ok(())
    }

    /// Sets another password. False: there is no such user.
    pub async fn set_password(&self, id: i64, hash: SecretString) -> Result<bool, StoreError> {
        let now = now();
        let update = Entity::update_many()
            .col_expr(Column::PasswordHash, Expr::value(hash.expose_secret()))
            .col_expr(Column::PasswordChangedAt, Expr::value(now))
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id));
        let done = call(&self.db, || update.clone().exec(&self.db)).await?;
        Ok(done.rows_affected > 0)
    }

    /// Forbids or allows to log in. One that is disabled already keeps the time since when. False: there is no such user.
    pub async fn set_disabled(&self, id: i64, disabled: bool) -> Result<bool, StoreError> {
        let now = now();
        let disabled_at = if disabled {
            Expr::from(Func::coalesce([
                Expr::col(Column::DisabledAt),
                Expr::value(now),
            ]))
        } else {
            Expr::value(None::<DateTimeUtc>)
        };
        let update = Entity::update_many()
            .col_expr(Column::DisabledAt, disabled_at)
            .col_expr(Column::UpdatedAt, Expr::value(now))
            .filter(Column::Id.eq(id));
        let done = call(&self.db, || update.clone().exec(&self.db)).await?;
        Ok(done.rows_affected > 0)
    }

    /// Removes a user. False: there is none.
    pub async fn delete(&self, id: i64) -> Result<bool, StoreError> {
        let done = call(&self.db, || Entity::delete_by_id(id).exec(&self.db)).await?;
        Ok(done.rows_affected > 0)
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

/// In microseconds, as PostgreSQL keeps it: what was inserted then equals what is read back.
fn now() -> DateTimeUtc {
    let since_1970 = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let micros = i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX);
    DateTimeUtc::from_timestamp_micros(micros).unwrap_or(DateTimeUtc::MAX_UTC)
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
    let now = now();
    let password_hash = new
        .password_hash
        .map(|hash| hash.expose_secret().to_owned());
    let row = ActiveModel {
        id: ActiveValue::NotSet,
        username: ActiveValue::Set(new.username),
        password_changed_at: ActiveValue::Set(password_hash.as_ref().map(|_| now)),
        password_hash: ActiveValue::Set(password_hash),
        is_admin: ActiveValue::Set(new.is_admin),
        disabled_at: ActiveValue::Set(new.disabled.then_some(now)),
        created_at: ActiveValue::Set(now),
        updated_at: ActiveValue::Set(now),
        last_login_at: ActiveValue::Set(None),
    };
    Entity::insert(row).exec_with_returning(transaction).await
}
