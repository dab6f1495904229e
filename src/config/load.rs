//! Merges the sources.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::Config;
use super::clients;
use super::environment::{Environment, twin};
use super::file::{Entry, File};
use super::report::{ConfigError, Origin, Report};
use super::setting::{FILE_SUFFIX, SETTINGS};
use super::url::join;
use super::validate::validate;
use super::value::Raw;

/// Where settings come from, beside the built-in defaults.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The configuration file, if the command line names one; else it is the one that `CLAVIGER_CONFIG` names. No file is
    /// read that nobody named.
    pub file: Option<PathBuf>,
    /// The environment variables.
    pub environment: Environment,
}

impl Sources {
    /// The sources of this process: its environment, and a file if the command line names one.
    pub fn from_process(file: Option<PathBuf>) -> Self {
        Self {
            file,
            environment: Environment::from_process(),
        }
    }
}

/// A configuration that is valid.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// The same, before user and password became a part of their URL.
    pub(super) parts: Config,
    /// What an operator should know. One sentence each, without any value.
    pub warnings: Vec<String>,
    /// Where each setting that is not at its default came from, by key.
    pub origins: BTreeMap<String, Origin>,
}

impl Loaded {
    /// Refuses what only another room can find wrong: each problem with the keys of the settings that it is about.
    ///
    /// # Errors
    ///
    /// There is at least one problem.
    pub fn refuse<'a>(
        &self,
        problems: impl IntoIterator<Item = (&'a [&'static str], String)>,
    ) -> Result<(), ConfigError> {
        let mut report = Report::default();
        report.origins.clone_from(&self.origins);
        for (keys, problem) in problems {
            report.refuse(keys, &problem);
        }
        report.finish()
    }
}

/// Merges the sources into a configuration and validates it. Of each setting only the value that wins is looked at.
///
/// # Errors
///
/// Everything that is wrong, see [`ConfigError`].
pub fn load(sources: &Sources) -> Result<Loaded, ConfigError> {
    let environment = &sources.environment;
    let mut report = Report::default();
    let named = environment.config_file().map(PathBuf::from);
    let file = match sources.file.clone().or(named) {
        Some(path) => File::read(&path, &mut report),
        None => File::default(),
    };
    environment.review(&mut report);

    let mut config = Config::default();
    for setting in SETTINGS {
        let place = Place {
            key: setting.key,
            secret: setting.secret,
        };
        let ours = Some(setting.variable());
        let well_known = setting.well_known;
        let found = find(&place, ours, well_known, environment, &file, &mut report);
        if let Some(Entry { raw, origin }) = found {
            if let Err(expected) = (setting.set)(&mut config, raw) {
                report.reject(setting.key, &origin, expected);
            }
            report.origins.insert(setting.key.to_owned(), origin);
        }
    }
    config.clients = clients::load(environment, &file, &mut report);
    config.telemetry.otel = environment.otel();

    validate(&config, &mut report);
    report.finish()?;
    let parts = config.clone();
    let Config {
        database, tokens, ..
    } = &mut config;
    join(
        &mut database.url,
        database.username.as_ref(),
        database.password.as_ref(),
    );
    join(
        &mut tokens.url,
        tokens.username.as_ref(),
        tokens.password.as_ref(),
    );
    Ok(Loaded {
        config,
        parts,
        warnings: report.warnings,
        origins: report.origins,
    })
}

/// What is looked for.
pub(super) struct Place<'a> {
    /// The full key.
    pub(super) key: &'a str,
    /// Whether it can be read from a file of its own.
    pub(super) secret: bool,
}

/// The value that wins: that of our variable, of the well-known one, or of the file.
pub(super) fn find(
    place: &Place<'_>,
    ours: Option<String>,
    well_known: Option<&str>,
    environment: &Environment,
    file: &File,
    report: &mut Report,
) -> Option<Entry> {
    let ours = ours.and_then(|name| from_variable(place, &name, environment, report));
    let well_known = well_known.and_then(|name| from_variable(place, name, environment, report));
    if let (Some(ours), Some(other)) = (&ours, &well_known)
        && ours.raw != other.raw
    {
        report.warnings.push(format!(
            "{}: {} differs from {}, which is used",
            place.key, other.origin, ours.origin
        ));
    }
    ours.or(well_known)
        .or_else(|| from_file(place, file, report))
}

fn from_variable(
    place: &Place<'_>,
    name: &str,
    environment: &Environment,
    report: &mut Report,
) -> Option<Entry> {
    let entry = |name: &str| {
        environment.get(name).map(|text| Entry {
            raw: Raw::Text(text.to_owned()),
            origin: Origin::Variable(name.to_owned()),
        })
    };
    let twin = twin(name);
    let in_file = if place.secret { entry(&twin) } else { None };
    either(place, entry(name), in_file, (name, &twin), report)
}

fn from_file(place: &Place<'_>, file: &File, report: &mut Report) -> Option<Entry> {
    let copy = |key: &str| {
        file.get(key).map(|entry| Entry {
            raw: entry.raw.clone(),
            origin: entry.origin.clone(),
        })
    };
    let twin = format!("{}{FILE_SUFFIX}", place.key);
    let names = (place.key, twin.as_str());
    either(place, copy(place.key), copy(&twin), names, report)
}

/// A value, or the content of the file that is named instead.
fn either(
    place: &Place<'_>,
    direct: Option<Entry>,
    in_file: Option<Entry>,
    (name, twin): (&str, &str),
    report: &mut Report,
) -> Option<Entry> {
    let Some(in_file) = in_file else {
        return direct;
    };
    let origin = in_file.origin;
    if direct.is_some() {
        let message = format!("`{name}` and `{twin}` are both set: remove one");
        report.reject(place.key, &origin, &message);
        return None;
    }
    let content = match in_file.raw {
        Raw::Text(path) => read_secret(&path),
        _ => Err("expected the path of a file".to_owned()),
    };
    match content {
        Ok(text) => Some(Entry {
            raw: Raw::Text(text),
            origin,
        }),
        Err(message) => {
            report.reject(place.key, &origin, &message);
            None
        }
    }
}

/// The content of a file without the line end that editors add.
fn read_secret(path: &str) -> Result<String, String> {
    let mut text = fs::read_to_string(path)
        .map_err(|error| format!("{} can't be read: {error}", shown_path(path)))?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() {
        return Err(format!("{} is empty", shown_path(path)));
    }
    Ok(text)
}

/// People put the secret itself where its file should be named, so only what is surely meant as a path is repeated.
fn shown_path(path: &str) -> String {
    let meant = ["/", "./", "../"]
        .iter()
        .any(|start| path.starts_with(start));
    if meant {
        format!("the file {}", Path::new(path).display())
    } else {
        "the file that it names".to_owned()
    }
}
