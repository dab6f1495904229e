//! The environment variables: the only place that reads them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fmt;

use secrecy::SecretString;

use super::clients;
use super::report::{Origin, Report};
use super::setting::{self, FILE_SUFFIX, SETTINGS, VARIABLE_PREFIX};

/// The variable that names the configuration file.
const CONFIG_VARIABLE: &str = "CLAVIGER_CONFIG";

/// What the names of the variables of OpenTelemetry begin with.
const OTEL_PREFIX: &str = "OTEL_";

/// The environment variables of the process, or of a test. A variable that is empty counts as not set, since Compose and
/// Kubernetes templates pass an unset one on as empty.
#[derive(Clone, Default)]
pub struct Environment {
    variables: BTreeMap<String, String>,
    /// Names of ours whose value is no UTF-8.
    unreadable: BTreeSet<String>,
}

impl Environment {
    /// The environment of this process; of other names than ours only those that concern us.
    pub fn from_process() -> Self {
        Self::from_os(std::env::vars_os())
    }

    fn from_os(variables: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut environment = Self::default();
        let well_known: BTreeSet<String> = SETTINGS
            .iter()
            .filter_map(|setting| setting.well_known)
            .flat_map(|name| [name.to_owned(), twin(name)])
            .collect();
        for (name, value) in variables {
            let Ok(name) = name.into_string() else {
                continue;
            };
            let ours = name.starts_with(VARIABLE_PREFIX) || name.starts_with(OTEL_PREFIX);
            if !ours && !well_known.contains(&name) {
                continue;
            }
            match value.into_string() {
                Ok(value) => environment.variables.insert(name, value).is_some(),
                Err(_) => environment.unreadable.insert(name),
            };
        }
        environment
    }

    /// The value of a variable that is set and not empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.variables.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// The names of the variables that are set and not empty.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let set = self.variables.iter().filter(|(_, value)| !value.is_empty());
        set.map(|(name, _)| name.as_str())
    }

    /// The configuration file that the environment names.
    pub(super) fn config_file(&self) -> Option<&str> {
        self.get(CONFIG_VARIABLE)
    }

    /// The variables of OpenTelemetry.
    pub(super) fn otel(&self) -> BTreeMap<String, SecretString> {
        self.variables
            .iter()
            .filter(|(name, value)| name.starts_with(OTEL_PREFIX) && !value.is_empty())
            .map(|(name, value)| (name.clone(), SecretString::from(value.as_str())))
            .collect()
    }

    /// Warns about variables that look like ours and are not, and rejects those that can't be read.
    pub(super) fn review(&self, report: &mut Report) {
        for name in &self.unreadable {
            report.reject_source(&Origin::Variable(name.clone()), "the value is not UTF-8");
        }
        let known: BTreeSet<String> = SETTINGS
            .iter()
            .flat_map(|setting| {
                let variable = setting.variable();
                let twin = setting.secret.then(|| twin(&variable));
                twin.into_iter().chain([variable])
            })
            .chain([CONFIG_VARIABLE.to_owned()])
            .collect();
        let unknown = self.variables.keys().filter(|name| {
            name.starts_with(VARIABLE_PREFIX)
                && !known.contains(*name)
                && clients::of_variable(name).is_none()
        });
        let (injected, others): (Vec<&String>, Vec<&String>) =
            unknown.partition(|name| is_service_link(name));
        if let Some(first) = injected.first() {
            report.warnings.push(format!(
                "environment variables ignored that Kubernetes sets for Services: {first} and {} more; \
                 `enableServiceLinks: false` in the pod keeps them out",
                injected.len() - 1
            ));
        }
        for name in others {
            let key = name.trim_start_matches(VARIABLE_PREFIX).to_lowercase();
            let hint = match setting::nearest(&key.replace("__", ".")) {
                Some(setting) => format!("; did you mean {}?", setting.variable()),
                None if key.starts_with(clients::SECTION) => {
                    format!("; expected {}", clients::VARIABLE)
                }
                None => String::new(),
            };
            report.warnings.push(format!(
                "environment variable {name} is unknown and ignored{hint}"
            ));
        }
    }
}

impl FromIterator<(String, String)> for Environment {
    fn from_iter<I: IntoIterator<Item = (String, String)>>(variables: I) -> Self {
        Self {
            variables: variables.into_iter().collect(),
            unreadable: BTreeSet::new(),
        }
    }
}

/// Names only: a value may be a secret.
impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.variables.keys()).finish()
    }
}

/// The variable that names the file with the value of another.
pub(super) fn twin(variable: &str) -> String {
    format!("{variable}{}", FILE_SUFFIX.to_uppercase())
}

/// Whether a variable is one of those that Kubernetes sets in every pod for a Service whose name begins with `claviger`
/// (`CLAVIGER_SERVICE_HOST`, `CLAVIGER_PORT`, `CLAVIGER_PORT_8000_TCP_ADDR` ...). Ours have two underscores after the section.
fn is_service_link(name: &str) -> bool {
    !name.contains("__")
        && (name.contains("_SERVICE_HOST")
            || name.contains("_SERVICE_PORT")
            || name.contains("_PORT_")
            || name.ends_with("_PORT"))
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt as _;

    use super::*;

    fn from_os(variables: &[(&str, &[u8])]) -> Environment {
        let variables = variables.iter();
        Environment::from_os(
            variables
                .map(|(name, value)| (OsString::from(name), OsString::from_vec(value.to_vec()))),
        )
    }

    #[test]
    fn only_what_concerns_us_is_kept() {
        let environment = from_os(&[
            ("CLAVIGER_MODE", b"dev"),
            ("DATABASE_URL_FILE", b"/x"),
            ("OTEL_SERVICE_NAME", b"x"),
            ("HOME", b"/root"),
            ("PATH", b"\xff"),
        ]);
        assert_eq!(
            format!("{environment:?}"),
            r#"{"CLAVIGER_MODE", "DATABASE_URL_FILE", "OTEL_SERVICE_NAME"}"#
        );
    }

    #[test]
    fn a_value_of_ours_that_is_no_utf8_is_rejected_by_name() {
        let mut report = Report::default();
        from_os(&[("DATABASE_URL", b"\xff")]).review(&mut report);
        assert_eq!(
            report.finish().unwrap_err().problems(),
            ["environment variable DATABASE_URL: the value is not UTF-8"]
        );
    }
}
