//! `claviger config`: what is set, what can be set, and whether it is right.

use std::io::Write;

use clap::Subcommand;

use crate::app;
use crate::config::{self, Sources};
use crate::telemetry::Telemetry;

/// The commands of this group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Print the settings in force and where each comes from, secrets masked
    Show {
        /// Print JSON instead of TOML
        #[arg(long)]
        json: bool,
    },
    /// Print a configuration file with every setting, its meaning and its default
    Example {
        /// Print the table of the documentation instead
        #[arg(long, hide = true)]
        markdown: bool,
    },
    /// Find all that keeps the service from starting and can be found without asking a store, and print warnings
    Check,
}

/// Runs a command. `out` is where the answer goes, `err` where warnings go.
///
/// # Errors
///
/// A [`config::ConfigError`] if the configuration is not valid (the process then ends with 78), or the error of a write.
pub fn run(
    command: Command,
    sources: &Sources,
    out: &mut dyn Write,
    err: &mut dyn Write,
) -> anyhow::Result<()> {
    if let Command::Example { markdown } = command {
        let text = if markdown {
            config::table()
        } else {
            config::example()
        };
        out.write_all(text.as_bytes())?;
        return Ok(());
    }
    let loaded = config::load(sources)?;
    for warning in &loaded.warnings {
        writeln!(err, "warning: {warning}")?;
    }
    match command {
        Command::Show { json: true } => {
            let shown = serde_json::to_string_pretty(&config::show_json(&loaded))?;
            writeln!(out, "{shown}")?;
        }
        Command::Show { json: false } => out.write_all(config::show(&loaded).as_bytes())?,
        Command::Check => {
            super::refuse(&loaded, &app::check(&loaded.config))?;
            Telemetry::check(&loaded.config)?;
            writeln!(out, "the configuration is valid")?;
        }
        Command::Example { .. } => {}
    }
    Ok(())
}
