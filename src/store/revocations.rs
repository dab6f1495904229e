//! Sessions that have to end because of a change to an account: noted in the transaction of the change, carried out after it.

use sea_orm::{
    ActiveValue, ColumnTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityTrait,
    QueryFilter, QueryOrder, QuerySelect,
};

use super::StoreError;
use super::database::{begin, bounded, call, now};
use super::entity::pending_revocations::{ActiveModel, Column, Entity, Model};
use super::tokens::{SessionId, Tokens};

/// Which sessions of which user have to end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    id: String,
    user_id: i64,
    extent: Extent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Extent {
    All,
    But(SessionId),
    Only(SessionId),
}

impl Revocation {
    /// Of all sessions of a user.
    pub fn of_user(user_id: i64) -> Self {
        Self::new(user_id, Extent::All)
    }

    /// Of all sessions of the user that has this one, which is kept.
    pub fn of_others(kept: SessionId) -> Self {
        Self::new(kept.user_id(), Extent::But(kept))
    }

    /// Of one session.
    pub fn of_session(session: SessionId) -> Self {
        Self::new(session.user_id(), Extent::Only(session))
    }

    fn new(user_id: i64, extent: Extent) -> Self {
        // Random: a table that was made anew must not count from 1 again, as the token store remembers what was done.
        let id = format!("{:032x}", rand::random::<u128>());
        Self {
            id,
            user_id,
            extent,
        }
    }

    /// Ends the sessions and tells how many were alive. May be done again, and by others at the same time: nothing ends that
    /// began after the first was done.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`]: some of them may still be alive.
    pub async fn carry_out(&self, tokens: &Tokens) -> Result<u64, StoreError> {
        let id = Some(self.id.as_str());
        match &self.extent {
            Extent::All => tokens.end_all(self.user_id, None, id).await,
            Extent::But(kept) => tokens.end_all(self.user_id, Some(kept), id).await,
            Extent::Only(session) => tokens.end(session).await.map(u64::from),
        }
    }
}

/// The table `pending_revocations`.
#[derive(Clone, Debug)]
pub struct Revocations {
    db: DatabaseConnection,
}

impl Revocations {
    /// Those of this database.
    pub fn new(db: DatabaseConnection) -> Self {
        Self { db }
    }

    /// Notes one by itself, for a service that will carry it out.
    pub async fn note(&self, revocation: &Revocation) -> Result<(), StoreError> {
        bounded(&self.db, async {
            let transaction = begin(&self.db).await?;
            note(&transaction, revocation).await?;
            transaction.commit().await
        })
        .await
    }

    /// At most `limit` that were not carried out, the oldest first, behind so many that are older.
    pub async fn pending(&self, limit: u64, behind: u64) -> Result<Vec<Revocation>, StoreError> {
        let page = Entity::find()
            .order_by_asc(Column::CreatedAt)
            .order_by_asc(Column::Id)
            .limit(limit)
            .offset(behind);
        let rows = call(&self.db, || page.clone().all(&self.db)).await?;
        Ok(rows.into_iter().map(Revocation::from).collect())
    }

    /// Strikes one that was carried out.
    pub async fn strike(&self, revocation: &Revocation) -> Result<(), StoreError> {
        let delete = Entity::delete_many().filter(Column::Id.eq(&revocation.id));
        call(&self.db, || delete.clone().exec(&self.db)).await?;
        Ok(())
    }
}

/// Notes one within the transaction of the change that asks for it.
pub(super) async fn note(
    transaction: &DatabaseTransaction,
    revocation: &Revocation,
) -> Result<(), DbErr> {
    let (only, keep) = match &revocation.extent {
        Extent::All => (None, None),
        Extent::But(kept) => (None, Some(kept.to_string())),
        Extent::Only(session) => (Some(session.to_string()), None),
    };
    let row = ActiveModel {
        id: ActiveValue::Set(revocation.id.clone()),
        user_id: ActiveValue::Set(revocation.user_id),
        only_session: ActiveValue::Set(only),
        keep_session: ActiveValue::Set(keep),
        created_at: ActiveValue::Set(now()),
    };
    Entity::insert(row)
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

impl From<Model> for Revocation {
    fn from(row: Model) -> Self {
        let session = |text: Option<String>| text.and_then(|text| text.parse().ok());
        // What can't be read is taken for the most that it can mean.
        let extent = match (session(row.only_session), session(row.keep_session)) {
            (Some(only), None) => Extent::Only(only),
            (None, Some(kept)) => Extent::But(kept),
            _ => Extent::All,
        };
        Self {
            id: row.id,
            user_id: row.user_id,
            extent,
        }
    }
}
