//! Table `users`: who may log in.
//!
//! The installation's id is made anew with it: ids of users start again at 1, and what was kept under the old id must not
//! be taken for theirs. A service that keeps tokens in its process ends them when it sees another id.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::DbBackend;

pub(crate) const NAME: &str = "m20261124_000002_create_users";

/// `ALWAYS`: with `BY DEFAULT` a row that brings its own id would leave the sequence behind, and a later insert would collide.
const POSTGRES: &str = "
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    username text NOT NULL CONSTRAINT users_username_key UNIQUE,
    password_hash text,
    is_admin boolean NOT NULL DEFAULT false,
    disabled_at timestamptz,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    last_login_at timestamptz,
    password_changed_at timestamptz
);
UPDATE installation SET id =
    encode(substring(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())) FROM 1 FOR 16), 'hex');
";

/// `AUTOINCREMENT`, or SQLite gives the id of the last row to the next one once that row is deleted.
///
/// Times are text in one form, RFC 3339 in UTC with `+00:00`: it sorts as time does, whatever the number of decimals, since
/// `+` comes before `.` and before the digits. `CURRENT_TIMESTAMP` writes a space where the service writes a `T`.
const SQLITE: &str = "
CREATE TABLE users (
    id integer NOT NULL PRIMARY KEY AUTOINCREMENT,
    username text NOT NULL CONSTRAINT users_username_key UNIQUE,
    password_hash text,
    is_admin boolean NOT NULL DEFAULT false,
    disabled_at text,
    created_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    updated_at text NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now')),
    last_login_at text,
    password_changed_at text
);
UPDATE installation SET id = lower(hex(randomblob(16)));
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
            .execute_unprepared("DROP TABLE users")
            .await?;
        Ok(())
    }
}
