//! The body of a login: JSON, or a form for OAuth 2 password clients (RFC 6749, section 4.3.2).

use axum::extract::{FromRequest, Request};
use axum::http::header::{HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use secrecy::SecretString;
use zeroize::Zeroizing;

use super::body::{Encoding, decode, malformed, read};
use super::fields::{Fields, Value};
use crate::api::AppState;
use crate::api::error::ApiError;

/// What a login may be written in.
const TYPES: &str = "application/json or application/x-www-form-urlencoded";

const NAMES: [&str; 2] = ["username", "password"];

/// A username and a password, as they were sent.
#[derive(Debug)]
pub struct Credentials {
    /// Not yet normalised.
    pub username: String,
    /// Not yet normalised.
    pub password: SecretString,
}

impl FromRequest<AppState> for Credentials {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let encoding = Encoding::of(&parts.headers)
            .ok_or(ApiError::UnsupportedMediaType { expected: TYPES })?;
        if encoding == Encoding::Form && is_cross_site(&parts.headers, &parts.uri) {
            return Err(ApiError::CrossSite);
        }
        let bytes = read(body, state.config().server.body_limit).await?;
        let fields = match encoding {
            Encoding::Json => Fields::from_json(NAMES, &bytes)?,
            Encoding::Form => from_form(&bytes)?,
        };
        let [username, password] = fields.check()?;
        Ok(Self {
            username: username.to_string(),
            password: SecretString::from(password.as_str()),
        })
    }
}

/// A browser sends forms from any site without asking. JSON it does not send from another site, since no CORS header
/// ever allows it.
fn is_cross_site(headers: &HeaderMap, uri: &Uri) -> bool {
    if headers
        .get("sec-fetch-site")
        .is_some_and(|site| site != "same-origin" && site != "none")
    {
        return true;
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return false;
    };
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.parse::<Uri>().ok());
    let own = match headers.get(HOST) {
        Some(host) => host.to_str().ok().and_then(|host| host.parse::<Uri>().ok()),
        None => Some(uri.clone()),
    };
    // The port is left out: proxies commonly drop it from `Host`. `Origin: null` has no host, and is another site.
    match (
        origin.as_ref().and_then(Uri::host),
        own.as_ref().and_then(Uri::host),
    ) {
        (Some(origin), Some(own)) => !origin.eq_ignore_ascii_case(own),
        _ => true,
    }
}

fn from_form(bytes: &[u8]) -> Result<Fields<2>, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8."))?;
    let mut fields = Fields::named(NAMES);
    let mut grant_type = None;
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        if let Some(field) = fields.get_mut(&name) {
            field.set(Value::Text(Zeroizing::new(decode(value)?)));
        } else if name == "grant_type" {
            grant_type = Some(decode(value)?);
        }
    }
    if grant_type.is_some_and(|grant_type| grant_type != "password") {
        return Err(ApiError::UnsupportedGrantType);
    }
    Ok(fields)
}
