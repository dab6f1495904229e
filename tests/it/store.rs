//! Persistence, each test on both databases.

use claviger::store::schema::Schema;
use claviger::store::users::{NewUser, Users};

use crate::common::{Backend, TestDatabase, database};

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

fn named(username: &str) -> NewUser {
    NewUser {
        username: username.to_owned(),
        password_hash: Some("$argon2id$old".into()),
        is_admin: false,
        disabled: false,
    }
}
