//! The TOML file: to a flat list of keys, each with its line.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::clients;
use super::report::{Origin, Report};
use super::setting::{self, FILE_SUFFIX, SETTINGS, Setting};
use super::value::Raw;

/// What a configuration file says.
#[derive(Default)]
pub(super) struct File {
    path: PathBuf,
    /// By full key, as in `tokens.ttl`. Only keys of settings, and `..._file` twins of secrets.
    entries: BTreeMap<String, Entry>,
    /// The names below `clients`.
    clients: BTreeSet<String>,
}

/// One line of it.
pub(super) struct Entry {
    pub(super) raw: Raw,
    pub(super) origin: Origin,
}

impl File {
    pub(super) fn read(path: &Path, report: &mut Report) -> Self {
        let mut file = Self {
            path: path.to_owned(),
            ..Self::default()
        };
        let text = fs::read_to_string(path).unwrap_or_else(|error| {
            report.reject_source(&file.origin(None), &format!("can't be read: {error}"));
            String::new()
        });
        match DeTable::parse(&text) {
            Ok(table) => file.walk(&text, table.get_ref(), "", report),
            // The error's own text quotes the line, and with it perhaps a password.
            Err(error) => {
                let line = error.span().map(|span| line_at(&text, span.start));
                let message = format!("is not TOML: {}", error.message());
                report.reject_source(&file.origin(line), &message);
            }
        }
        file
    }

    /// What the file says about a key.
    pub(super) fn get(&self, key: &str) -> Option<&Entry> {
        self.entries.get(key)
    }

    /// The names of the clients that have a section.
    pub(super) fn clients(&self) -> impl Iterator<Item = &str> {
        self.clients.iter().map(String::as_str)
    }

    fn walk(&mut self, text: &str, table: &DeTable<'_>, section: &str, report: &mut Report) {
        for (name, value) in table {
            let name_text = name.get_ref();
            let key = if section.is_empty() {
                name_text.to_string()
            } else {
                format!("{section}.{name_text}")
            };
            let origin = self.origin(Some(line_at(text, name.span().start)));
            match value.get_ref() {
                DeValue::Table(inner) if key == clients::SECTION => {
                    self.walk_clients(text, inner, report);
                }
                DeValue::Table(inner) if is_section(&key) => self.walk(text, inner, &key, report),
                _ if is_section(&key) => {
                    let message = format!("`{key}` is a section: expected `[{key}]`");
                    report.reject_source(&origin, &message);
                }
                value if is_known(&key) => {
                    let raw = raw(value);
                    self.entries.insert(key, Entry { raw, origin });
                }
                _ => {
                    let hint = match setting::nearest(&key) {
                        Some(setting) => format!("; did you mean `{}`?", setting.key),
                        None => String::new(),
                    };
                    report.reject_source(&origin, &format!("`{key}` is no setting{hint}"));
                }
            }
        }
    }

    /// A name may hold dots, so the depth and not the key tells what a table is.
    fn walk_clients(&mut self, text: &str, table: &DeTable<'_>, report: &mut Report) {
        for (name, value) in table {
            let section = format!("{}.{}", clients::SECTION, name.get_ref());
            let DeValue::Table(inner) = value.get_ref() else {
                let origin = self.origin(Some(line_at(text, name.span().start)));
                let message = format!("`{section}` is a section: expected `[{section}]`");
                report.reject_source(&origin, &message);
                continue;
            };
            // One problem is enough: a key that is misspelt is not missing as well.
            if inner.is_empty() || inner.keys().any(|name| clients::is_key(name.get_ref())) {
                self.clients.insert(name.get_ref().to_string());
            }
            for (inner_name, value) in inner {
                let origin = self.origin(Some(line_at(text, inner_name.span().start)));
                let key = format!("{section}.{}", inner_name.get_ref());
                if clients::is_key(inner_name.get_ref()) {
                    let raw = raw(value.get_ref());
                    self.entries.insert(key, Entry { raw, origin });
                } else {
                    let hint = if value.get_ref().is_table() {
                        "a name with a dot stands in quotes".to_owned()
                    } else {
                        format!("expected `{}`", clients::key(name.get_ref()))
                    };
                    report.reject_source(&origin, &format!("`{key}` is no setting; {hint}"));
                }
            }
        }
    }

    fn origin(&self, line: Option<usize>) -> Origin {
        Origin::File {
            path: self.path.clone(),
            line,
        }
    }
}

/// The number of the line that holds the byte at `offset`.
fn line_at(text: &str, offset: usize) -> usize {
    let before = text.bytes().take(offset);
    before.filter(|byte| *byte == b'\n').count() + 1
}

fn is_section(key: &str) -> bool {
    let listed = |setting: &Setting| setting.section_and_name().0 == key;
    key == clients::SECTION || SETTINGS.iter().any(listed)
}

fn is_known(key: &str) -> bool {
    let secret = |key| setting::find(key).is_some_and(|setting| setting.secret);
    setting::find(key).is_some() || key.strip_suffix(FILE_SUFFIX).is_some_and(secret)
}

fn raw(value: &DeValue<'_>) -> Raw {
    match value {
        DeValue::String(text) => Raw::Text(text.to_string()),
        DeValue::Boolean(value) => Raw::Boolean(*value),
        DeValue::Integer(number) => {
            i128::from_str_radix(number.as_str(), number.radix()).map_or(Raw::Other, Raw::Integer)
        }
        DeValue::Array(items) => items
            .iter()
            .map(|item: &Spanned<DeValue<'_>>| item.get_ref().as_str().map(str::to_owned))
            .collect::<Option<_>>()
            .map_or(Raw::Other, Raw::List),
        _ => Raw::Other,
    }
}
