//! Table `pending_revocations`: sessions that have to end because of a change to an account.
//!
//! Written in the transaction of the change and deleted when the sessions have ended, so that what was promised with the change
//! is kept also when the token store is away, or the process ends in between.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(crate) const NAME: &str = "m20261124_000003_create_pending_revocations";

/// No foreign key: the user may have been deleted.
const POSTGRES: &str = "
CREATE TABLE pending_revocations (
    id text PRIMARY KEY,
    user_id bigint NOT NULL,
    only_session text,
    keep_session text,
    created_at timestamptz NOT NULL DEFAULT now()
);
";

const SQLITE: &str = "
CREATE TABLE pending_revocations (
    id text NOT NULL PRIMARY KEY,
    user_id integer NOT NULL,
    only_session text,
    keep_session text,
    created_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'))
);
";

pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &str {
        NAME
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let sql = match manager.get_database_backend() {
            DbBackend::Sqlite => SQLITE,
            _ => POSTGRES,
        };
        manager.get_connection().execute_unprepared(sql).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .get_connection()
            .execute_unprepared("DROP TABLE pending_revocations")
            .await?;
        Ok(())
    }
}
