//! Table `installation`: exactly one row, whose id names this installation in stores that it may share with others.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(crate) const NAME: &str = "m20261124_000001_create_installation";

/// 128 random bits. A UUID has only 122 of them, so two are hashed into one; MD5 is refused where the server runs in FIPS mode.
const POSTGRES: &str = "
CREATE TABLE installation (
    id text PRIMARY KEY CONSTRAINT installation_id_form CHECK (id ~ '^[0-9a-f]{32}$')
);
CREATE UNIQUE INDEX installation_one_row ON installation ((true));
INSERT INTO installation (id) VALUES
    (encode(substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16), 'hex'));
";

/// `randomblob` is seeded from the random source of the operating system.
const SQLITE: &str = "
CREATE TABLE installation (
    id text NOT NULL PRIMARY KEY
        CONSTRAINT installation_id_form CHECK (length(id) = 32 AND id NOT GLOB '*[^0-9a-f]*')
);
CREATE UNIQUE INDEX installation_one_row ON installation ((1));
INSERT INTO installation (id) VALUES (lower(hex(randomblob(16))));
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
            .execute_unprepared("DROP TABLE installation")
            .await?;
        Ok(())
    }
}
