//! URLs that may hold a password: how they are read, and how they are shown.

use secrecy::{ExposeSecret, SecretString};
use toml::Value;
use url::{Position, Url};

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
    } else if let Some(server) = parse_url(text) {
        masked_authority(server)
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

fn masked_authority(mut server: ServerUrl) -> String {
    let url = &mut server.url;
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
    server.text()
}

/// What begins a URL that may name several servers, with commas between them.
const SEVERAL_SERVERS: [&str; 4] = [
    "redis+sentinel://",
    "rediss+sentinel://",
    "redis+cluster://",
    "rediss+cluster://",
];

/// The URL of a server, or of several that belong together.
pub(super) struct ServerUrl {
    /// With the first of them as its host.
    pub(super) url: Url,
    /// The others, each after a comma, as they were written.
    others: String,
}

impl ServerUrl {
    fn text(&self) -> String {
        let (before, after) = (
            &self.url[..Position::AfterPort],
            &self.url[Position::AfterPort..],
        );
        format!("{before}{}{after}", self.others)
    }
}

/// Parses the URL of a server; `None` also if it is not what its writer meant: an unescaped `/`, `?` or `#` in a password ends
/// the authority early, and then its beginning is taken for a host and its end stands before an `@` further on.
pub(super) fn parse_url(text: &str) -> Option<ServerUrl> {
    let several = SEVERAL_SERVERS.iter().any(|start| text.starts_with(start));
    let (text, others) = if several {
        without_others(text)?
    } else {
        (text.to_owned(), String::new())
    };
    let url = Url::parse(&text).ok()?;
    let strays = |part: &str| part.contains('@');
    let misread = strays(url.path()) || url.query().is_some_and(strays) || url.fragment().is_some();
    (!misread && !url.cannot_be_a_base()).then_some(ServerUrl { url, others })
}

/// Takes all hosts but the first out of a URL; they stand behind the last `@` of its authority.
fn without_others(text: &str) -> Option<(String, String)> {
    let start = text.find("//")? + 2;
    let (scheme, rest) = text.split_at(start);
    let (authority, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    let (credentials, hosts) = authority.split_at(authority.rfind('@').map_or(0, |at| at + 1));
    let (first, others) = hosts.split_at(hosts.find(',').unwrap_or(hosts.len()));
    let is_host = |text: &str| {
        let url = Url::parse(&format!("redis://{text}")).ok();
        let named = |url: Url| url.host_str().is_some_and(|host| !host.is_empty());
        text.bytes().all(|byte| byte.is_ascii_graphic()) && url.is_some_and(named)
    };
    // The first of these is what stands before the first comma, which is nothing.
    let valid = others.split(',').skip(1).all(is_host);
    valid.then(|| {
        (
            format!("{scheme}{credentials}{first}{tail}"),
            others.to_owned(),
        )
    })
}

/// Whether a user or a password stands in the URL of a server.
pub(super) fn holds_credentials(ServerUrl { url, .. }: &ServerUrl) -> bool {
    let is_one = |name: &str| matches!(name, "user" | "password");
    !url.username().is_empty()
        || url.password().is_some()
        || url.query_pairs().any(|(name, _)| is_one(&name))
}

/// Puts a user and a password into a valid URL of servers that holds none, if there are any.
pub(super) fn join(
    text: &mut SecretString,
    username: Option<&SecretString>,
    password: Option<&SecretString>,
) {
    if username.is_none() && password.is_none() {
        return;
    }
    let Some(mut server) = parse_url(text.expose_secret()) else {
        return;
    };
    let url = &mut server.url;
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
    *text = server.text().into();
}
