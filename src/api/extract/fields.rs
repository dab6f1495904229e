//! The text fields of a body, each as it was found: so that all that is wrong can be told at once.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use zeroize::Zeroizing;

use super::body::malformed;
use crate::api::error::{ApiError, FieldError};

/// The fields of these names. They may hold passwords, so they are wiped when they are dropped.
pub(super) struct Fields<const N: usize>([(&'static str, Field); N]);

/// What was found of one field.
#[derive(Default)]
pub(super) enum Field {
    #[default]
    Missing,
    Once(Value),
    Twice,
}

/// What a field holds.
pub(super) enum Value {
    Text(Zeroizing<String>),
    NoText,
}

impl<const N: usize> Fields<N> {
    /// Nothing was found yet.
    pub(super) fn named(names: [&'static str; N]) -> Self {
        Self(names.map(|name| (name, Field::default())))
    }

    /// Finds the fields of these names in an object of JSON; others are ignored.
    ///
    /// # Errors
    /// [`ApiError::MalformedBody`]: it is none.
    pub(super) fn from_json(names: [&'static str; N], bytes: &[u8]) -> Result<Self, ApiError> {
        let text = std::str::from_utf8(bytes).map_err(|_| malformed("The body is not UTF-8."))?;
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let read = Self::named(names)
            .deserialize(&mut deserializer)
            .and_then(|fields| deserializer.end().map(|()| fields));
        // Only the place: the message of the parser may quote the body.
        read.map_err(|error| {
            ApiError::MalformedBody(format!(
                "The body is no JSON object that can be read (line {}, column {}).",
                error.line(),
                error.column()
            ))
        })
    }

    /// The field of this name; `None` for a name that is not looked for.
    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut Field> {
        let mut fields = self.0.iter_mut();
        fields.find_map(|(known, field)| (*known == name).then_some(field))
    }

    /// The texts, in the order of the names.
    ///
    /// # Errors
    /// [`ApiError::InvalidInput`] with every field that is missing, no text, or there twice.
    pub(super) fn check(self) -> Result<[Zeroizing<String>; N], ApiError> {
        let mut errors = Vec::new();
        let texts = self.0.map(|(name, field)| field.check(name, &mut errors));
        if errors.is_empty() {
            Ok(texts)
        } else {
            Err(ApiError::InvalidInput(errors))
        }
    }
}

impl Field {
    pub(super) fn set(&mut self, value: Value) {
        *self = match self {
            Self::Missing => Self::Once(value),
            // Which of the two counts is a matter of taste, and two programs that differ in it are an attack.
            Self::Once(_) | Self::Twice => Self::Twice,
        };
    }

    fn check(self, field: &'static str, errors: &mut Vec<FieldError>) -> Zeroizing<String> {
        let message = match self {
            Self::Once(Value::Text(text)) => return text,
            Self::Once(Value::NoText) => "must be a string",
            Self::Missing => "is missing",
            Self::Twice => "is there twice",
        };
        errors.push(FieldError {
            field: field.into(),
            message: message.to_owned(),
        });
        Zeroizing::default()
    }
}

impl<'de, const N: usize> DeserializeSeed<'de> for Fields<N> {
    type Value = Self;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Fields<N> {
    type Value = Self;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<Self, A::Error> {
        while let Some(name) = map.next_key::<String>()? {
            match self.get_mut(&name) {
                Some(field) => field.set(map.next_value_seed(AnyValue)?),
                None => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(self)
    }
}

/// Takes a string as it is, and any other JSON value for what it is not.
struct AnyValue;

impl<'de> DeserializeSeed<'de> for AnyValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
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

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::NoText)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::NoText)
    }
}
