//! What the commands about users and sessions work on.

use super::exit::Failure;
use crate::auth::accounts::Accounts;
use crate::config::Config;
use crate::store::database;
use crate::store::revocations::Revocations;
use crate::store::schema::Schema;
use crate::store::tokens::Tokens;
use crate::store::users::Users;

/// The stores of the settings.
pub(super) struct Stores {
    pub(super) users: Users,
    pub(super) tokens: Tokens,
    pub(super) accounts: Accounts,
}

impl Stores {
    /// Asks the database for the name under which sessions are kept.
    pub(super) async fn open(config: &Config) -> Result<Self, Failure> {
        let db = database::connect(&config.database).await?;
        let tokens = Tokens::open(&config.tokens)?;
        if let Some(installation) = Schema::new(db.clone()).installation_id().await? {
            tokens.belong_to(&installation);
        }
        let users = Users::new(db.clone());
        let accounts = Accounts::of_command(users.clone(), Revocations::new(db), tokens.clone());
        Ok(Self {
            users,
            tokens,
            accounts,
        })
    }
}
