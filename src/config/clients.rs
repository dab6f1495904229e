//! Section `clients`: the machines that may introspect and revoke tokens. Whoever writes it chooses its names, so it stands in no
//! list.

use std::collections::BTreeMap;

use secrecy::{ExposeSecret, SecretString};

use super::Client;
use super::environment::Environment;
use super::file::File;
use super::load::{Place, find};
use super::report::{Origin, Report};
use super::setting::FILE_SUFFIX;
use super::value::{Kind as _, Secret};

/// The section.
pub(super) const SECTION: &str = "clients";

/// The key that each client has.
const SECRET: &str = "secret";

/// The fewest characters of a secret: random hexadecimal digits then hold 80 bits.
const SHORTEST_SECRET: usize = 20;

/// How the documentation writes the key.
pub(super) const PATTERN: &str = "clients.NAME.secret";

/// How the documentation writes the variable.
pub(super) const VARIABLE: &str = "CLAVIGER_CLIENTS__NAME__SECRET";

/// What it is for.
pub(super) const MEANING: &str = "The secret of a machine that may introspect and revoke tokens: 20 printable ASCII characters at least. It sends them \
                                  by HTTP Basic, with its NAME (of `a` to `z`, `0` to `9`, `-`, `_` and `.`). A section for each machine.";

/// The full key of a client's secret.
pub(super) fn key(name: &str) -> String {
    format!("{SECTION}.{name}.{SECRET}")
}

/// The section of a client, as a file has it.
pub(super) fn section(name: &str) -> String {
    if name.contains('.') {
        format!("{SECTION}.\"{name}\"")
    } else {
        format!("{SECTION}.{name}")
    }
}

/// Whether a client has this key.
pub(super) fn is_key(key: &str) -> bool {
    key.strip_suffix(FILE_SUFFIX).unwrap_or(key) == SECRET
}

/// The client that a variable is about, and the variable without what makes it one that names a file.
pub(super) fn of_variable(variable: &str) -> Option<(String, &str)> {
    let suffix = FILE_SUFFIX.to_uppercase();
    let direct = variable.strip_suffix(&suffix).unwrap_or(variable);
    let rest = direct.strip_prefix("CLAVIGER_CLIENTS__")?;
    let name = rest.strip_suffix("__SECRET")?;
    Some((name.to_lowercase(), direct))
}

/// All clients that the sources know.
pub(super) fn load(
    environment: &Environment,
    file: &File,
    report: &mut Report,
) -> BTreeMap<String, Client> {
    let mut names: BTreeMap<String, Option<String>> =
        file.clients().map(|name| (name.to_owned(), None)).collect();
    for (name, variable) in environment.names().filter_map(of_variable) {
        let known = names.entry(name.clone()).or_default();
        match known {
            // `..._GATE_...` and `..._gate_...`
            Some(other) if other != variable => report.reject(
                &key(&name),
                &Origin::Variable(variable.to_owned()),
                &format!("`{other}` and `{variable}` are both set: remove one"),
            ),
            _ => *known = Some(variable.to_owned()),
        }
    }
    let mut clients = BTreeMap::new();
    for (name, variable) in names {
        let secret = secret(&name, variable, environment, file, report).unwrap_or_default();
        clients.insert(name, Client { secret });
    }
    clients
}

fn secret(
    name: &str,
    variable: Option<String>,
    environment: &Environment,
    file: &File,
    report: &mut Report,
) -> Option<SecretString> {
    let key = key(name);
    let place = Place {
        key: &key,
        secret: true,
    };
    let found = find(&place, variable, None, environment, file, report);
    let secret = found.and_then(|entry| {
        let parsed = Secret::parse(entry.raw);
        report.origins.insert(key.clone(), entry.origin.clone());
        parsed
            .map_err(|expected| report.reject(&key, &entry.origin, expected))
            .ok()
    });
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.');
    report.require(
        !name.is_empty() && name.bytes().all(plain),
        &[&key],
        "expected another name: of `a` to `z`, `0` to `9`, `-`, `_` and `.`",
    );
    let text = secret.as_ref().map(ExposeSecret::expose_secret);
    // RFC 6749, appendix A.2.
    let printable = |byte: u8| matches!(byte, b' '..=b'~');
    report.require(
        text.is_some_and(|text| text.len() >= SHORTEST_SECRET && text.bytes().all(printable)),
        &[&key],
        "expected 20 printable ASCII characters at least",
    );
    secret
}
