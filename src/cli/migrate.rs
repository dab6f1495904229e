//! `claviger migrate`: go to any version of the schema, or compare.

use std::io::Write;

use clap::Subcommand;
use serde_json::json;

use super::exit::Failure;
use crate::config::Config;
use crate::store::StoreError;
use crate::store::database;
use crate::store::schema::{Schema, Status, Target};
use crate::store::tokens::Tokens;

/// The commands of this group.
#[derive(Clone, Copy, Debug, Subcommand)]
pub(super) enum Command {
    /// Go to the latest version; a database that is ahead is fine
    Up,
    /// Go back one version
    Down,
    /// Go to a version, up or down
    To {
        /// A number, `zero` or `latest`
        #[arg(value_name = "VERSION")]
        target: Target,
    },
    /// Print `current`, `behind` or `ahead` with the versions
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(
    command: Command,
    config: &Config,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let schema = Schema::new(database::connect(&config.database).await?);
    // Opened before anything is done: a mistake in its URL must not be found half-way.
    let tokens = Tokens::open(&config.tokens)?;
    if matches!(command, Command::Down | Command::To { .. })
        && let Some(installation) = schema.installation_id().await?
    {
        tokens.belong_to(&installation);
    }
    let mut ended = None;
    let end_sessions = async || -> Result<(), StoreError> {
        ended = Some(tokens.clear().await?);
        Ok(())
    };
    let status = match command {
        Command::Status { json: true } => {
            return Ok(writeln!(out, "{}", as_json(&schema.status().await?))?);
        }
        Command::Status { json: false } => schema.status().await?,
        Command::Up => schema.up().await?,
        Command::Down => schema.down(end_sessions).await?,
        Command::To { target } => schema.to(target, end_sessions).await?,
    };
    if let Some(mut ended) = ended {
        // A login that ran beside it may have stored its token after the first sweep.
        ended += tokens.clear().await?;
        if tokens.is_local() {
            // What was cleared is this process's own store, which is empty.
            writeln!(
                out,
                "tokens.url is memory: this command ended no session; a running service that keeps its tokens \
                 in memory ends them when it next checks the schema, once a second"
            )?;
        } else {
            writeln!(out, "ended {ended} sessions")?;
        }
    }
    Ok(writeln!(out, "{}", in_words(&status))?)
}

fn in_words(status: &Status) -> String {
    let mut words = format!(
        "{}: version {} of {}",
        status.comparison, status.version, status.known
    );
    if !status.missing.is_empty() {
        words.extend([", missing ", &status.missing.join(", ")]);
    }
    if !status.unknown.is_empty() {
        words.extend([", unknown to this binary ", &status.unknown.join(", ")]);
    }
    words
}

fn as_json(status: &Status) -> serde_json::Value {
    json!({
        "comparison": status.comparison.to_string(),
        "version": status.version,
        "latest": status.known,
        "applied": status.applied,
        "missing": status.missing,
        "unknown": status.unknown,
    })
}
