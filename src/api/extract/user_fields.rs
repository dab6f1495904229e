//! The body that makes or changes a user: JSON, in which every field has to be known.

use std::fmt;

use axum::extract::{FromRequest, Request};
use secrecy::SecretString;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use zeroize::Zeroize;

use super::body::{Encoding, malformed, read};
use crate::api::AppState;
use crate::api::error::{ApiError, FieldError};
use crate::auth::administration::UserFields;

/// The most characters of an unknown name that are told.
const NAME_LENGTH: usize = 64;

/// What a body says of a user.
#[derive(Debug)]
pub struct UserBody(pub UserFields);

impl FromRequest<AppState> for UserBody {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        if Encoding::of(&parts.headers) != Some(Encoding::Json) {
            return Err(ApiError::UnsupportedMediaType {
                expected: "application/json",
            });
        }
        let bytes = read(body, state.config().server.body_limit).await?;
        Self::from_json(&bytes)
    }
}

impl UserBody {
    fn from_json(bytes: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8."))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = deserializer
            .deserialize_map(Found::default())
            .and_then(|found| deserializer.end().map(|()| found));
        // Only the place: the message of the parser may quote the body.
        let Found { fields, errors, .. } = read.map_err(|error| {
            ApiError::MalformedBody(format!(
                "The body is no JSON object that can be read (line {}, column {}).",
                error.line(),
                error.column()
            ))
        })?;
        if errors.is_empty() {
            Ok(Self(fields))
        } else {
            Err(ApiError::InvalidInput(errors))
        }
    }

    /// The same with a name, which a new user has to have.
    ///
    /// # Errors
    /// There is none.
    pub fn with_username(self) -> Result<UserFields, ApiError> {
        if self.0.username.is_some() {
            return Ok(self.0);
        }
        Err(ApiError::InvalidInput(vec![FieldError {
            field: "username".into(),
            message: "is missing".to_owned(),
        }]))
    }
}

#[derive(Default)]
struct Found {
    seen: Vec<&'static str>,
    fields: UserFields,
    errors: Vec<FieldError>,
}

impl Found {
    fn set(&mut self, name: &str, value: &Value) {
        const KNOWN: [&str; 4] = ["username", "password", "is_admin", "disabled"];
        let Some(field) = KNOWN.into_iter().find(|known| *known == name) else {
            let name: String = name.chars().take(NAME_LENGTH).collect();
            return self.wrong(name, "is not known");
        };
        if self.seen.contains(&field) {
            // Which of the two counts is a matter of taste, and two programs that differ in it are an attack.
            return self.wrong(field.to_owned(), "is there twice");
        }
        self.seen.push(field);
        match (field, value) {
            ("username", Value::String(text)) => self.fields.username = Some(text.clone()),
            ("password", Value::String(text)) => {
                self.fields.password = Some(SecretString::from(text.as_str()));
            }
            ("is_admin", Value::Bool(is)) => self.fields.is_admin = Some(*is),
            ("disabled", Value::Bool(is)) => self.fields.disabled = Some(*is),
            ("username" | "password", _) => self.wrong(field.to_owned(), "must be a string"),
            _ => self.wrong(field.to_owned(), "must be true or false"),
        }
    }

    fn wrong(&mut self, field: String, message: &str) {
        self.errors.push(FieldError {
            field: field.into(),
            message: message.to_owned(),
        });
    }
}

impl<'de> Visitor<'de> for Found {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some((name, mut value)) = map.next_entry::<String, Value>()? {
            self.set(&name, &value);
            if let Value::String(text) = &mut value {
                text.zeroize();
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn wrong(body: &str) -> Vec<(String, String)> {
        match UserBody::from_json(body.as_bytes()) {
            Err(ApiError::InvalidInput(errors)) => errors
                .into_iter()
                .map(|error| (error.field.into_owned(), error.message))
                .collect(),
            other => panic!("{body}: {other:?}"),
        }
    }

    #[test]
    fn every_field_has_to_be_known_and_what_it_should_be() {
        let body = r#"{"username":"a","password":"b","is_admin":true,"disabled":false}"#;
        let UserBody(fields) = UserBody::from_json(body.as_bytes()).unwrap();
        assert_eq!(fields.username.as_deref(), Some("a"));
        assert_eq!(fields.password.unwrap().expose_secret(), "b");
        assert_eq!(
            (fields.is_admin, fields.disabled),
            (Some(true), Some(false))
        );

        let body = r#"{"username":1,"password":null,"is_admin":"true","disabled":0,"id":7,"id":8,"password":"x"}"#;
        let told: Vec<String> = wrong(body)
            .into_iter()
            .map(|(field, message)| format!("{field} {message}"))
            .collect();
        assert_eq!(
            told,
            [
                "username must be a string",
                "password must be a string",
                "is_admin must be true or false",
                "disabled must be true or false",
                "id is not known",
                "id is not known",
                "password is there twice"
            ]
        );
        let long = format!(r#"{{"{}":1}}"#, "\u{e4}".repeat(70));
        assert_eq!(wrong(&long)[0].0, "\u{e4}".repeat(64));
        for body in ["", "[]", "null", "{\"username\":", "{} x"] {
            let read = UserBody::from_json(body.as_bytes());
            assert!(matches!(read, Err(ApiError::MalformedBody(_))), "{body}");
        }
        let empty = UserBody::from_json(b"{}").unwrap();
        assert!(empty.with_username().is_err());
    }
}
