//! The command line: a table of contents. One file per group of commands; they call auth and store, never HTTP, but for
//! the two whose purpose is to ask a running service.

mod calibrate;
pub mod config;
mod doctor;
mod exit;
mod healthcheck;
mod migrate;
mod serve;
mod session;
mod smoke;
mod stores;
mod user;

use std::future::Future;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::slice;

use clap::{CommandFactory, Parser, Subcommand};

use self::exit::Failure;
use crate::app::{self, BuildError};
use crate::config::{ConfigError, Loaded, Sources};

/// A self-hosted login service: username and password in, opaque token out.
#[derive(Debug, Parser)]
#[command(name = "claviger", version, max_term_width = 100)]
struct Cli {
    /// The configuration file; else the one that `CLAVIGER_CONFIG` names
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve logins (also without a command)
    Serve,
    /// Go to a version of the database schema, or compare
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Manage users
    #[command(subcommand)]
    User(user::Command),
    /// List and end sessions
    #[command(subcommand)]
    Session(session::Command),
    /// Show, explain or check the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print the OpenAPI document
    Openapi,
    /// Ask the running service on this machine whether it is ready
    Healthcheck,
    /// Log in, check and log out through a URL, as a new user that is deleted afterwards
    Smoke(smoke::Arguments),
    /// Suggest what a password hash may cost on this machine
    Calibrate(calibrate::Arguments),
    /// Look at the configuration, the stores and the clocks, and say what to do
    Doctor,
    /// Print a script that completes commands in a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Runs the command line of this process and tells its exit code, one of sysexits.h.
pub fn main() -> ExitCode {
    // The TLS libraries of three crates share one provider, and would each refuse to choose. It fails only if one is set.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no mistakes, and go to standard output.
            let code = if error.use_stderr() { exit::USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            let _ = writeln!(io::stderr(), "claviger: {failure}");
            ExitCode::from(failure.code())
        }
    }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let sources = Sources::from_process(cli.config);
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => serve::run(&sources),
        Command::Migrate(command) => {
            let loaded = load_for_stores(&sources)?;
            block_on(migrate::run(
                command,
                &loaded.config,
                &mut io::stdout().lock(),
            ))
        }
        Command::User(command) => {
            let loaded = load_for_stores(&sources)?;
            block_on(user::run(command, &loaded, &mut io::stdout().lock()))
        }
        Command::Session(command) => {
            let loaded = load_for_stores(&sources)?;
            block_on(session::run(
                command,
                &loaded.config,
                &mut io::stdout().lock(),
            ))
        }
        Command::Config(command) => Ok(config::run(
            command,
            &sources,
            &mut io::stdout().lock(),
            &mut io::stderr().lock(),
        )?),
        Command::Openapi => {
            let document = crate::api::openapi()
                .to_pretty_json()
                .map_err(anyhow::Error::from)?;
            Ok(writeln!(io::stdout().lock(), "{document}")?)
        }
        Command::Healthcheck => {
            let loaded = load(&sources)?;
            block_on(healthcheck::run(&loaded.config))
        }
        Command::Smoke(arguments) => {
            let loaded = load_for_stores(&sources)?;
            block_on(smoke::run(arguments, &loaded, &mut io::stdout().lock()))
        }
        Command::Calibrate(arguments) => {
            let loaded = load(&sources)?;
            block_on(calibrate::run(arguments, &loaded, &mut io::stdout().lock()))
        }
        Command::Doctor => {
            let loaded = load(&sources)?;
            block_on(doctor::run(&loaded, &mut io::stdout().lock()))
        }
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "claviger",
                &mut io::stdout().lock(),
            );
            Ok(())
        }
    }
}

/// Loads the configuration for a command that a person runs, and tells them of what is odd.
fn load(sources: &Sources) -> Result<Loaded, Failure> {
    let loaded = crate::config::load(sources)?;
    for warning in &loaded.warnings {
        let _ = writeln!(io::stderr(), "claviger: warning: {warning}");
    }
    Ok(loaded)
}

/// The same for a command that works on a store.
fn load_for_stores(sources: &Sources) -> Result<Loaded, Failure> {
    let loaded = load(sources)?;
    refuse(&loaded, &app::check_stores(&loaded.config))?;
    Ok(loaded)
}

/// Says which settings are to blame and where they come from, unless there are no errors.
fn refuse(loaded: &Loaded, errors: &[BuildError]) -> Result<(), ConfigError> {
    let problems = errors.iter();
    loaded.refuse(problems.map(|error| (error.keys(), error.to_string())))
}

/// What a command ends with that could not build what it needs.
fn not_built(loaded: &Loaded, error: BuildError) -> Failure {
    if !error.keys().is_empty()
        && let Err(refused) = refuse(loaded, slice::from_ref(&error))
    {
        return refused.into();
    }
    Failure::Other(error.into())
}

/// A client for the commands that ask a running service.
fn http_client(
    set: impl FnOnce(reqwest::ClientBuilder) -> reqwest::ClientBuilder,
) -> Result<reqwest::Client, Failure> {
    let client = set(reqwest::Client::builder());
    Ok(client.build().map_err(anyhow::Error::from)?)
}

fn block_on(command: impl Future<Output = Result<(), Failure>>) -> Result<(), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(command)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commands_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn no_command_takes_a_password() {
        fn check(command: &clap::Command) {
            for argument in command.get_arguments() {
                let takes_value = argument.get_action().takes_values();
                assert!(
                    !(takes_value && argument.get_id().as_str().contains("password")),
                    "{argument:?}"
                );
            }
            command.get_subcommands().for_each(check);
        }
        check(&Cli::command());
    }
}
