//! URLs that may hold a password: how they are read, and how they are shown.

use secrecy::{ExposeSecret, SecretString};
use toml::Value;
use url::Url;

use super::value::{Kind, MASK, Raw, Secret};

/// A URL that may hold a password.
pub(super) struct SecretUrl;

impl Kind for SecretUrl {
    type Value = SecretString;
    const SECRET: bool = true;

    fn parse(raw: Raw) -> Result<SecretString, &'static str> {
        Secret::parse(raw)
    }

    fn render(value: &SecretString) -> Option<Value> {
        Some(Value::String(masked(value.expose_secret())))
    }
}

/// Query parameters whose value says how, and not as whom, to connect.
const HARMLESS_PARAMETERS: [&str; 5] = ["host", "mode", "port", "protocol", "sslmode"];

/// The URL without its secrets: the host stays visible, the password doesn't.
fn masked(text: &str) -> String {
    let (base, query) = match text.split_once('?') {
        Some((base, query)) => (base, Some(query)),
        None => (text, None),
    };
    let mut shown = if base.starts_with("sqlite:") || base == "memory:" {
        base.to_owned()
    } else if let Some(url) = parse_url(text) {
        masked_authority(url)
    } else {
        return MASK.to_owned();
    };
    for (index, parameter) in query.into_iter().flat_map(|q| q.split('&')).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        match parameter.split_once('=') {
            Some((name, _)) if HARMLESS_PARAMETERS.contains(&name) => shown.push_str(parameter),
            Some((name, _)) => {
                shown.push_str(name);
                shown.push('=');
                shown.push_str(MASK);
            }
            None => shown.push_str(MASK),
        }
    }
    shown
}

fn masked_authority(mut url: Url) -> String {
    url.set_query(None);
    // Both fail only for a URL without a host, which has neither.
    let _ = if url.password().is_some() {
        url.set_password(Some(MASK))
    } else if url.username().is_empty() {
        Ok(())
    } else {
        // A name alone may well be a password without the colon before it.
        url.set_username(MASK)
    };
    url.into()
}

/// Parses the URL of a server; `None` also if it is not what its writer meant: an unescaped `/`, `?` or `#` in a password ends
/// the authority early, and then its beginning is taken for a host and its end stands before an `@` further on.
pub(super) fn parse_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let strays = |part: &str| part.contains('@');
    let misread = strays(url.path()) || url.query().is_some_and(strays) || url.fragment().is_some();
    (!misread && !url.cannot_be_a_base()).then_some(url)
}

/// Whether a user or a password stands in the URL of a server.
pub(super) fn holds_credentials(url: &Url) -> bool {
    let is_one = |name: &str| matches!(name, "user" | "password");
    !url.username().is_empty()
        || url.password().is_some()
        || url.query_pairs().any(|(name, _)| is_one(&name))
}

/// Puts a user and a password into a valid URL of a server that holds none, if there are any.
pub(super) fn join(
    text: &mut SecretString,
    username: Option<&SecretString>,
    password: Option<&SecretString>,
) {
    if username.is_none() && password.is_none() {
        return;
    }
    let Some(mut url) = parse_url(text.expose_secret()) else {
        return;
    };
    let [username, password] =
        [username, password].map(|part| part.map(ExposeSecret::expose_secret));
    if url.has_host() {
        // These encode whatever would end the part early, but take a `%` for the beginning of something encoded. They fail
        // only for a URL without a host.
        let escaped = |part: &str| part.replace('%', "%25");
        let _ = url.set_username(&username.map(escaped).unwrap_or_default());
        let _ = url.set_password(password.map(escaped).as_deref());
    } else {
        // `postgres:///NAME?host=/run/postgresql`
        let mut query = url.query_pairs_mut();
        query.extend_pairs(username.map(|name| ("user", name)));
        query.extend_pairs(password.map(|password| ("password", password)));
    }
    *text = String::from(url).into();
}
