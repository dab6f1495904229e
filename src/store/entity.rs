//! The tables as SeaORM sees them. Visible in `store` only: everybody else gets the structs of its modules.

pub(super) mod audit_events;
pub(super) mod pending_revocations;
pub(super) mod users;
