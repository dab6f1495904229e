//! The versions of the database schema, and nothing else: how they are run, and under which lock, is `claviger::store::schema`.
//!
//! The version of a database is a number: 0 is empty, LATEST is the number of migrations listed here.
//!
//! Rules for whoever adds one:
//!
//! - A migration that was released is frozen. It is written as SQL text, so that no later change of a library can change it,
//!   and names tables and columns itself: it never looks at the entities of the service.
//! - It changes one thing, goes up and down, and works on PostgreSQL and on SQLite.
//! - It expands or it contracts, never both: the service one version older has to work with the schema one version newer.
//! - Every column of `users` but `username` is nullable or has a default, so that `INSERT INTO users(username)` keeps working.
//! - On SQLite it runs inside the transaction that is the migration lock, also where `use_transaction` says no. To rebuild a
//!   table that others refer to, start with `PRAGMA defer_foreign_keys = ON`; `PRAGMA foreign_keys` does nothing in there.
//! - On PostgreSQL it runs in a transaction of its own. What can't (`CREATE INDEX CONCURRENTLY`) says so in
//!   `use_transaction`, and has to be safe to run again after it broke off half-way.

mod m20261124_000001_create_installation;
mod m20261124_000002_create_users;
mod m20261124_000003_create_pending_revocations;
mod m20261125_000004_create_audit_events;

pub use sea_orm_migration::{
    MigrationName, MigrationTrait, MigratorTrait, SchemaManager, async_trait,
};

/// All versions, in order.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m20261124_000001_create_installation::Migration),
            Box::new(m20261124_000002_create_users::Migration),
            Box::new(m20261124_000003_create_pending_revocations::Migration),
            Box::new(m20261125_000004_create_audit_events::Migration),
        ]
    }
}

/// Whether every session has to be ended before the migration of this name is undone.
///
/// Without `users` the ids start again at 1, and a token that is still alive would stand for whoever gets its id next.
/// Without `installation` the names under which sessions are kept change, and nobody could end them any more. Without
/// `pending_revocations` the sessions that it says have to end would live on.
#[must_use]
pub fn undoing_ends_sessions(name: &str) -> bool {
    [
        m20261124_000001_create_installation::NAME,
        m20261124_000002_create_users::NAME,
        m20261124_000003_create_pending_revocations::NAME,
    ]
    .contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The names are what databases out there remember: they never change, and new ones come after.
    #[test]
    fn names_are_frozen_and_in_order() {
        let names: Vec<String> = Migrator::migrations()
            .iter()
            .map(|m| m.name().to_owned())
            .collect();
        assert_eq!(
            names,
            [
                "m20261124_000001_create_installation",
                "m20261124_000002_create_users",
                "m20261124_000003_create_pending_revocations",
                "m20261125_000004_create_audit_events"
            ]
        );
        assert!(names.is_sorted());
    }

    #[test]
    fn undoing_the_first_three_ends_sessions() {
        let migrations = Migrator::migrations();
        let ends: Vec<bool> = migrations
            .iter()
            .map(|m| undoing_ends_sessions(m.name()))
            .collect();
        assert_eq!(ends, [true, true, true, false]);
    }
}
