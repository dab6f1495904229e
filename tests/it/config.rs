//! The configuration: sources and who wins, what is refused and how that is said, what is shown.

mod clients;
mod credentials;
mod documents;
mod file;
mod secrets;
mod sources;
mod values;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use claviger::cli;
use claviger::config::{
    self, Config, ConfigError, Environment, Loaded, LogFormat, MigrateMode, Mode, Origin, Sources,
};
use rstest::rstest;
use secrecy::ExposeSecret;
use tempfile::TempDir;

/// Stands where a value could leak. It is a valid value of no setting but the free texts.
const SECRET: &str = "Sesame-0pen";

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn load_variables(variables: &[(&str, &str)]) -> Result<Loaded, ConfigError> {
    config::load(&Sources {
        environment: environment(variables),
        ..Sources::default()
    })
}

/// A folder with a configuration file.
struct File {
    folder: TempDir,
    path: PathBuf,
}

impl File {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("claviger.toml");
        fs::write(&path, text).unwrap();
        Self { folder, path }
    }

    /// Another file beside it.
    fn beside(&self, name: &str, content: &str) -> String {
        let path = self.folder.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn sources(&self, variables: &[(&str, &str)]) -> Sources {
        Sources {
            file: Some(self.path.clone()),
            environment: environment(variables),
        }
    }

    fn load(&self) -> Result<Loaded, ConfigError> {
        config::load(&self.sources(&[]))
    }
}

fn load_text(text: &str) -> Result<Loaded, ConfigError> {
    File::new(text).load()
}

/// The only problem of a configuration.
fn problem(result: Result<Loaded, ConfigError>) -> String {
    let error = result.expect_err("this configuration is not valid");
    let [problem] = error.problems() else {
        panic!("more than one problem: {error}");
    };
    problem.clone()
}

/// The keys of all settings, from the example.
fn keys() -> Vec<String> {
    let mut section = String::new();
    let mut keys = Vec::new();
    for line in config::example().lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned() + ".";
        } else if let Some((name, _)) = uncommented(line).and_then(|line| line.split_once(" = ")) {
            keys.push(format!("{section}{name}"));
        }
    }
    keys
}

/// The setting in a line of the example.
fn uncommented(line: &str) -> Option<&str> {
    line.strip_prefix('#')
        .filter(|rest| !rest.is_empty() && !rest.starts_with(' '))
}

fn variable(key: &str) -> String {
    format!("CLAVIGER_{}", key.to_uppercase().replace('.', "__"))
}

/// Everything of a configuration as text, secrets in clear.
fn dump(config: &Config) -> String {
    let optional = [
        &config.database.username,
        &config.database.password,
        &config.tokens.username,
        &config.tokens.password,
        &config.bootstrap.password,
    ]
    .map(|secret| secret.as_ref().map(ExposeSecret::expose_secret));
    let clients: Vec<&str> = config
        .clients
        .values()
        .map(|client| client.secret.expose_secret())
        .collect();
    format!(
        "{config:?} {:?} {:?} {optional:?} {clients:?}",
        config.database.url.expose_secret(),
        config.tokens.url.expose_secret(),
    )
}
