//! Where a value came from, and what is wrong with it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::PathBuf;

/// Where the value of a setting came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Built in.
    Default,
    /// The TOML file.
    File {
        /// As it was given.
        path: PathBuf,
        /// Counted from 1. `None` for what concerns the file as a whole.
        line: Option<usize>,
    },
    /// The environment variable of this name.
    Variable(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line: None } => write!(f, "file {}", path.display()),
            Self::File {
                path,
                line: Some(line),
            } => {
                write!(f, "file {}, line {line}", path.display())
            }
            Self::Variable(name) => write!(f, "environment variable {name}"),
        }
    }
}

/// The configuration can't be used. Says everything that is wrong with it, one problem a line, each with the key, its source
/// and what is expected. No value is ever repeated, since it may be a secret that was put into the wrong place.
///
/// The process ends with 78 (`EX_CONFIG` of sysexits).
#[derive(Debug, thiserror::Error)]
pub struct ConfigError {
    problems: Vec<String>,
}

impl ConfigError {
    /// The problems, at least one.
    pub fn problems(&self) -> &[String] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration is not valid:")?;
        for problem in &self.problems {
            write!(f, "\n  {problem}")?;
        }
        Ok(())
    }
}

/// What is found while loading.
#[derive(Default)]
pub(super) struct Report {
    /// Of the settings that are not at their default.
    pub(super) origins: BTreeMap<String, Origin>,
    pub(super) warnings: Vec<String>,
    problems: Vec<String>,
    /// Keys with a problem. Their fields hold the default, so a rule about them would only confuse.
    spoilt: BTreeSet<String>,
}

impl Report {
    /// Something is wrong with the value of a setting.
    pub(super) fn reject(&mut self, key: &str, origin: &Origin, message: &str) {
        self.problems.push(format!("{key} ({origin}): {message}"));
        self.spoilt.insert(key.to_owned());
    }

    /// Something is wrong that belongs to no setting.
    pub(super) fn reject_source(&mut self, origin: &Origin, message: &str) {
        self.problems.push(format!("{origin}: {message}"));
    }

    /// A rule about settings: unless it holds, they are rejected.
    pub(super) fn require(&mut self, holds: bool, keys: &[&str], expected: &str) {
        if !holds && !keys.iter().any(|key| self.spoilt.contains(*key)) {
            let problem = format!("{}: {expected}", self.name(keys));
            self.problems.push(problem);
            self.spoilt.extend(keys.iter().map(|key| (*key).to_owned()));
        }
    }

    /// Something is wrong with settings, or without any that would be to blame.
    pub(super) fn refuse(&mut self, keys: &[&str], message: &str) {
        self.problems.push(if keys.is_empty() {
            message.to_owned()
        } else {
            format!("{}: {message}", self.name(keys))
        });
    }

    /// A rule that one may break, but should know about.
    pub(super) fn advise(&mut self, holds: bool, keys: &[&str], advice: &str) {
        if !holds && !keys.iter().any(|key| self.spoilt.contains(*key)) {
            let warning = format!("{}: {advice}", self.name(keys));
            self.warnings.push(warning);
        }
    }

    /// Ends the loading.
    pub(super) fn finish(&mut self) -> Result<(), ConfigError> {
        let problems = std::mem::take(&mut self.problems);
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigError { problems })
        }
    }

    fn name(&self, keys: &[&str]) -> String {
        let name = |key: &&str| {
            let origin = self.origins.get(*key).unwrap_or(&Origin::Default);
            format!("{key} ({origin})")
        };
        keys.iter().map(name).collect::<Vec<_>>().join(", ")
    }
}
