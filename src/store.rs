//! Persistence: users in a database, tokens in Redis or in this process. Knows no HTTP and no policy.
//!
//! Whatever goes wrong in here comes out as a [`StoreError`], whose variants are what a caller can act on.

use std::error::Error;
use std::fmt::{self, Write as _};

pub mod attempts;
pub mod audit;
pub mod database;
mod entity;
pub mod health;
pub mod revocations;
pub mod schema;
pub mod tokens;
pub mod users;

/// Something the service can't do without.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// Where users are kept.
    Database,
    /// Where tokens are kept.
    Tokens,
}

impl Dependency {
    /// As metrics and logs have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Tokens => "tokens",
        }
    }
}

impl fmt::Display for Dependency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The connections of a pool, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolStatus {
    /// Connections that are open.
    pub open: usize,
    /// Open connections that nobody uses.
    pub idle: usize,
    /// The most that may be open.
    pub max: usize,
}

/// Why a store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Down, slow past its time-out, read-only, full, or its schema is behind: not the caller's fault, and it may be over soon.
    #[error("{dependency} unavailable")]
    Unavailable {
        /// What is away.
        dependency: Dependency,
        /// What it said: the next link of the error chain, not part of this text. For the log, never for a client.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The username is taken.
    #[error("the username is taken")]
    Conflict,
    /// What is stored can't be read, or a statement is refused as wrong: a bug or a tampered row.
    #[error("{dependency}: {what}")]
    Corrupt {
        /// Where it is stored.
        dependency: Dependency,
        /// What is wrong with it.
        what: String,
    },
}

impl StoreError {
    pub(crate) fn unavailable(
        dependency: Dependency,
        source: impl Into<Box<dyn Error + Send + Sync>>,
    ) -> Self {
        Self::Unavailable {
            dependency,
            source: source.into(),
        }
    }
}

/// An error and what caused it, in one line.
pub(crate) fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        // The texts of some errors end with that of their cause.
        if !text.ends_with(&cause_text) {
            let _ = write!(text, ": {cause_text}");
        }
        source = cause.source();
    }
    text
}
