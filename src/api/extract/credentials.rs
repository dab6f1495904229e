//! The body of a login: JSON, or a form for OAuth 2 password clients (RFC 6749, section 4.3.2).

use std::fmt;

use axum::body::{Body, HttpBody};
use axum::extract::{FromRequest, Request};
use axum::http::header::{CONTENT_TYPE, HOST, ORIGIN};
use axum::http::{HeaderMap, Uri};
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::api::AppState;
use crate::api::error::{ApiError, FieldError};

/// A username and a password, as they were sent.
#[derive(Debug)]
pub struct Credentials {
    /// Not yet normalised.
    pub username: String,
    /// Not yet normalised.
    pub password: SecretString,
}

/// How the body of a login is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Form,
}

impl Encoding {
    /// What `Content-Type` says, whatever its parameters. `None` for anything else.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else {
            None
        }
    }
}

impl FromRequest<AppState> for Credentials {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        let encoding = Encoding::of(&parts.headers).ok_or(ApiError::UnsupportedMediaType)?;
        if encoding == Encoding::Form && is_cross_site(&parts.headers, &parts.uri) {
            return Err(ApiError::CrossSite);
        }
        let bytes = read(body, state.config().server.body_limit).await?;
        match encoding {
            Encoding::Json => from_json(&bytes),
            Encoding::Form => from_form(&bytes),
        }
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

/// Reads the body, of which at most `limit` bytes are taken. The time that this may take is bounded by the layer that
/// bounds the whole request.
pub(super) async fn read(mut body: Body, limit: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(ApiError::PayloadTooLarge);
    }
    // Never grown, so that no copy of a password is left behind in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(if body.size_hint().exact().is_some() {
        announced
    } else {
        limit
    }));
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| ApiError::MalformedBody("The body was cut off.".to_owned()))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(ApiError::PayloadTooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

fn from_json(bytes: &[u8]) -> Result<Credentials, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8."))?;
    match serde_json::from_str::<Fields>(text) {
        Ok(fields) => fields.check(),
        // Only the place: the message of the parser may quote the body.
        Err(error) => Err(ApiError::MalformedBody(format!(
            "The body is no JSON object that can be read (line {}, column {}).",
            error.line(),
            error.column()
        ))),
    }
}

fn from_form(bytes: &[u8]) -> Result<Credentials, ApiError> {
    let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8."))?;
    let mut fields = Fields::default();
    let mut grant_type = None;
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let name = decode(name)?;
        match name.as_str() {
            "username" => fields
                .username
                .set(Value::Text(Zeroizing::new(decode(value)?))),
            "password" => fields
                .password
                .set(Value::Text(Zeroizing::new(decode(value)?))),
            "grant_type" => grant_type = Some(decode(value)?),
            _ => {}
        }
    }
    if grant_type.is_some_and(|grant_type| grant_type != "password") {
        return Err(ApiError::UnsupportedGrantType);
    }
    fields.check()
}

/// Decodes a name or value of a form, strictly: replacing what is no UTF-8 would check another password than was sent.
pub(super) fn decode(text: &str) -> Result<String, ApiError> {
    let spaced = Zeroizing::new(text.replace('+', " "));
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(malformed("The form is not UTF-8.")),
    }
}

pub(super) fn malformed(reason: &str) -> ApiError {
    ApiError::MalformedBody(reason.to_owned())
}

/// The fields of a login, each as it was found: so that all that is wrong can be told at once.
#[derive(Default)]
struct Fields {
    username: Field,
    password: Field,
}

#[derive(Default)]
pub(super) enum Field {
    #[default]
    Missing,
    Once(Value),
    Twice,
}

pub(super) enum Value {
    Text(Zeroizing<String>),
    NoText,
}

impl Field {
    pub(super) fn set(&mut self, value: Value) {
        *self = match self {
            Self::Missing => Self::Once(value),
            // Which of the two counts is a matter of taste, and two programs that differ in it are an attack.
            Self::Once(_) | Self::Twice => Self::Twice,
        };
    }

    pub(super) fn check(
        self,
        field: &'static str,
        errors: &mut Vec<FieldError>,
    ) -> Zeroizing<String> {
        let message = match self {
            Self::Once(Value::Text(text)) => return text,
            Self::Once(Value::NoText) => "must be a string",
            Self::Missing => "is missing",
            Self::Twice => "is there twice",
        };
        errors.push(FieldError {
            field,
            message: message.to_owned(),
        });
        Zeroizing::default()
    }
}

impl Fields {
    fn check(self) -> Result<Credentials, ApiError> {
        let mut errors = Vec::new();
        let username = self.username.check("username", &mut errors);
        let password = self.password.check("password", &mut errors);
        if errors.is_empty() {
            Ok(Credentials {
                username: username.to_string(),
                password: SecretString::from(password.as_str()),
            })
        } else {
            Err(ApiError::InvalidInput(errors))
        }
    }
}

impl<'de> Deserialize<'de> for Fields {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = Fields;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key::<String>()? {
                    match name.as_str() {
                        "username" => fields.username.set(map.next_value_seed(AnyValue)?),
                        "password" => fields.password.set(map.next_value_seed(AnyValue)?),
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Object)
    }
}

/// Takes a string as it is, and any other JSON value for what it is not.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::Text(Zeroizing::new(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::NoText)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value, E> {
        Ok(Value::NoText)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value, E> {
        Ok(Value::NoText)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Value, E> {
        Ok(Value::NoText)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Value, E> {
        Ok(Value::NoText)
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::NoText)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::NoText)
    }
}
