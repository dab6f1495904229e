//! How commands fail, and with which code of sysexits.h.

use std::io;

use crate::auth::hash_pool::HashError;
use crate::config::ConfigError;
use crate::store::database::UrlError;
use crate::store::schema::SchemaError;
use crate::store::tokens::InvalidTokensUrl;
use crate::store::{StoreError, with_sources};
use crate::telemetry::TelemetryError;

/// The command line is wrong (`EX_USAGE`).
pub(super) const USAGE: u8 = 64;
/// The input is wrong (`EX_DATAERR`).
const DATA: u8 = 65;
/// The file with the input can't be read (`EX_NOINPUT`).
const NO_INPUT: u8 = 66;
/// There is no such user (`EX_NOUSER`).
const NO_USER: u8 = 67;
/// Something that is needed is away, or refuses (`EX_UNAVAILABLE`).
const UNAVAILABLE: u8 = 69;
/// A bug (`EX_SOFTWARE`).
const SOFTWARE: u8 = 70;
/// The configuration is wrong (`EX_CONFIG`).
const CONFIG: u8 = 78;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    /// The command line is wrong.
    #[error("{0}")]
    Usage(String),
    /// The input is wrong.
    #[error("{0}")]
    Data(String),
    /// The file with the input can't be read.
    #[error("{0}")]
    NoInput(String),
    /// There is no such user.
    #[error("there is no user of this name")]
    NoUser,
    /// Nobody would be left who may manage users.
    #[error("this is the last administrator who is enabled: make another one first")]
    LastAdmin,
    /// Something that is needed is away, or refuses.
    #[error("{0}")]
    Unavailable(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// Anything else.
    #[error("{0:#}")]
    Other(#[from] anyhow::Error),
}

impl Failure {
    pub(super) fn code(&self) -> u8 {
        match self {
            Self::Usage(_) => USAGE,
            Self::Data(_) | Self::LastAdmin => DATA,
            Self::NoInput(_) => NO_INPUT,
            Self::NoUser => NO_USER,
            Self::Unavailable(_) => UNAVAILABLE,
            Self::Config(_) => CONFIG,
            // What the group `config` returns has its type erased.
            Self::Other(error) if error.is::<ConfigError>() || error.is::<TelemetryError>() => {
                CONFIG
            }
            Self::Other(_) => SOFTWARE,
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Other(error.into())
    }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

// These two were found before the command began, with their source; see `super::load_for_stores`.
impl From<UrlError> for Failure {
    fn from(error: UrlError) -> Self {
        Self::Config(format!("database.url: {error}"))
    }
}

impl From<InvalidTokensUrl> for Failure {
    fn from(error: InvalidTokensUrl) -> Self {
        Self::Config(format!("tokens.url: {error}"))
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable { .. } => Self::Unavailable(with_sources(&error)),
            StoreError::Conflict => Self::Data(error.to_string()),
            StoreError::Corrupt { .. } => Self::Other(error.into()),
        }
    }
}

impl From<SchemaError> for Failure {
    fn from(error: SchemaError) -> Self {
        match error {
            SchemaError::UnknownVersion { .. } => Self::Usage(error.to_string()),
            error => Self::Unavailable(with_sources(&error)),
        }
    }
}

impl From<HashError> for Failure {
    fn from(error: HashError) -> Self {
        Self::Other(error.into())
    }
}
