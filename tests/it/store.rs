//! Persistence, each test on both databases.

use claviger::store::database::pool_status;
use claviger::store::schema::Schema;
use claviger::store::users::{NewUser, Users};
use sea_orm::DatabaseConnection;

use crate::common::{Backend, TestDatabase, database};

mod administration;
mod attempts;
mod availability;
mod schema;
mod users;

/// A database at the latest version, and its users.
async fn users(backend: Backend) -> (TestDatabase, Users) {
    let database = database(backend).await;
    let db = database.connect().await;
    Schema::new(db.clone()).up().await.unwrap();
    (database, Users::new(db))
}

/// Opens a connection, and waits until it is back in the pool: it comes back in the background.
async fn connected(db: &DatabaseConnection) {
    Users::new(db.clone()).ping().await.unwrap();
    while pool_status(db).idle == 0 {
        tokio::task::yield_now().await;
    }
}

fn named(username: &str) -> NewUser {
    NewUser {
        username: username.to_owned(),
        password_hash: Some("$argon2id$old".into()),
        is_admin: false,
        disabled: false,
    }
}
