//! The bookkeeping: which migrations are applied. The table is the one that sea-orm-migration uses.

use std::time::SystemTime;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use super::Direction;
use crate::store::database::is_undefined;

/// The names of what is applied, in order. Nothing, if the table isn't there yet.
pub(super) async fn applied(db: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    if !exists(db).await? {
        return Ok(Vec::new());
    }
    let query = "SELECT version FROM seaql_migrations ORDER BY version";
    let rows = db
        .query_all_raw(Statement::from_string(db.get_database_backend(), query))
        .await?;
    let mut names = rows
        .iter()
        .map(|row| row.try_get("", "version"))
        .collect::<Result<Vec<String>, _>>()?;
    // Once more, since the database may sort by the rules of a language.
    names.sort_unstable();
    Ok(names)
}

/// Makes the table. Under the lock: two sessions that do so at once fail in PostgreSQL, also with `IF NOT EXISTS`.
pub(super) async fn create(db: &impl ConnectionTrait) -> Result<(), DbErr> {
    if !exists(db).await? {
        let table = "CREATE TABLE seaql_migrations (version varchar NOT NULL PRIMARY KEY, applied_at bigint NOT NULL)";
        db.execute_unprepared(table).await?;
    }
    Ok(())
}

/// Notes that a migration was applied or undone.
pub(super) async fn note(
    db: &impl ConnectionTrait,
    name: &str,
    direction: Direction,
) -> Result<(), DbErr> {
    let backend = db.get_database_backend();
    let note = match direction {
        Direction::Up => {
            let seconds = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs();
            Statement::from_sql_and_values(
                backend,
                "INSERT INTO seaql_migrations (version, applied_at) VALUES ($1, $2)",
                [
                    name.into(),
                    i64::try_from(seconds).unwrap_or(i64::MAX).into(),
                ],
            )
        }
        Direction::Down => Statement::from_sql_and_values(
            backend,
            "DELETE FROM seaql_migrations WHERE version = $1",
            [name.into()],
        ),
    };
    db.execute_raw(note).await?;
    Ok(())
}

/// The one row of `installation`, if there is such a table.
pub(super) async fn installation_id(db: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    match db
        .query_one_raw(Statement::from_string(
            db.get_database_backend(),
            "SELECT id FROM installation",
        ))
        .await
    {
        Ok(row) => row.map(|row| row.try_get("", "id")).transpose(),
        Err(error) if is_undefined(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn exists(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let backend = db.get_database_backend();
    let query = match backend {
        DbBackend::Sqlite => {
            "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'"
        }
        _ => "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL",
    };
    Ok(db
        .query_one_raw(Statement::from_string(backend, query))
        .await?
        .is_some())
}
