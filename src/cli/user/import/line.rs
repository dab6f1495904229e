//! One line of a file to import: what it may say, and what is wrong with it.

use std::borrow::Cow;
use std::fmt;

use secrecy::SecretString;
use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::error::Category;

use crate::auth::password::stored::{Bounds, StoredHash, Unusable};
use crate::auth::username::{Username, UsernameError};
use crate::store::users::ImportedUser;

/// The longest line, in bytes. The longest name and hash have less, also where each character is escaped.
pub(super) const MAX_LENGTH: u64 = 16 * 1024;

/// What of the name of an unknown field is repeated, in characters.
const MAX_REPEATED: usize = 40;

/// Why a line can't be imported. Its text never holds a value of the line: people get columns wrong, and one of them is secret.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("has more than {MAX_LENGTH} bytes")]
    TooLong,
    #[error("is not JSON, from column {0} on")]
    NotJson(usize),
    #[error("is not one JSON object")]
    NotAnObject,
    #[error("the field {0} is unknown; there are username, password_hash, is_admin and disabled")]
    UnknownField(String),
    #[error("the field {0} is there twice")]
    Twice(&'static str),
    #[error("the field username is missing")]
    NoUsername,
    #[error("the field {0} must be {1}")]
    WrongType(&'static str, &'static str),
    #[error("the username {0}")]
    Username(#[from] UsernameError),
    #[error("the username stands in a line before")]
    Duplicate,
    #[error("the password hash is {0}")]
    Hash(#[from] Unusable),
}

/// Reads a line.
pub(super) fn parse(line: &[u8], bounds: &Bounds) -> Result<ImportedUser, Problem> {
    let fields: Result<Fields, Problem> = match serde_json::from_slice(line) {
        Ok(Object(fields)) => fields,
        Err(error) if error.classify() == Category::Data => Err(Problem::NotAnObject),
        Err(error) => Err(Problem::NotJson(error.column().max(1))),
    };
    let fields = fields?;
    let username = match fields.username.ok_or(Problem::NoUsername)? {
        Value::String(name) => Username::parse(&name)?,
        _ => return Err(Problem::WrongType("username", "a string")),
    };
    let password_hash = match fields.password_hash {
        None => None,
        Some(Value::Null) => Some(None),
        Some(Value::String(hash)) => {
            StoredHash::parse(&hash, bounds)?;
            Some(Some(SecretString::from(hash)))
        }
        Some(_) => return Err(Problem::WrongType("password_hash", "a string or null")),
    };
    Ok(ImportedUser {
        username: username.as_str().to_owned(),
        password_hash,
        is_admin: switch(fields.is_admin.as_ref(), "is_admin")?,
        disabled: switch(fields.disabled.as_ref(), "disabled")?,
    })
}

fn switch(value: Option<&Value>, name: &'static str) -> Result<Option<bool>, Problem> {
    match value {
        None => Ok(None),
        Some(Value::Bool(on)) => Ok(Some(*on)),
        Some(_) => Err(Problem::WrongType(name, "true or false")),
    }
}

#[derive(Default)]
struct Fields {
    username: Option<Value>,
    password_hash: Option<Value>,
    is_admin: Option<Value>,
    disabled: Option<Value>,
}

/// An object, and what is wrong with its fields. Read by hand, since the errors of serde repeat values.
struct Object(Result<Fields, Problem>);

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor)
    }
}

struct ObjectVisitor;

impl<'de> Visitor<'de> for ObjectVisitor {
    type Value = Object;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Object, M::Error> {
        let mut fields = Fields::default();
        let mut problem = None;
        while let Some((name, value)) = map.next_entry::<Cow<'_, str>, Value>()? {
            let (field, name) = match name.as_ref() {
                "username" => (&mut fields.username, "username"),
                "password_hash" => (&mut fields.password_hash, "password_hash"),
                "is_admin" => (&mut fields.is_admin, "is_admin"),
                "disabled" => (&mut fields.disabled, "disabled"),
                // Escaped: it goes to a terminal.
                unknown => {
                    let name: String = unknown.chars().take(MAX_REPEATED).collect();
                    problem.get_or_insert(Problem::UnknownField(format!("{name:?}")));
                    continue;
                }
            };
            if field.replace(value).is_some() {
                problem.get_or_insert(Problem::Twice(name));
            }
        }
        Ok(Object(problem.map_or(Ok(fields), Err)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;
    use secrecy::ExposeSecret as _;

    use super::*;
    use crate::auth::password::phc::Cost;

    const HASH: &str = "$2b$10$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    fn read(line: &[u8]) -> Result<ImportedUser, Problem> {
        let current = Cost::new(19_456, 2, 1).unwrap();
        parse(line, &Bounds::new(current, 128 * 1024))
    }

    #[test]
    fn what_a_line_does_not_say_is_left_open() {
        let user = read(br#"{"username":"Alice"}"#).unwrap();
        assert_eq!(user.username, "alice");
        assert!(user.password_hash.is_none() && user.is_admin.is_none() && user.disabled.is_none());

        let line = format!(
            r#" {{ "disabled" : true, "is_admin":false, "password_hash":"{HASH}","username":"bob"}} "#
        );
        let user = read(line.as_bytes()).unwrap();
        assert_eq!(user.password_hash.unwrap().unwrap().expose_secret(), HASH);
        assert_eq!((user.is_admin, user.disabled), (Some(false), Some(true)));

        let user = read(br#"{"username":"carol","password_hash":null}"#).unwrap();
        assert!(user.password_hash.unwrap().is_none());
    }

    #[rstest]
    #[case::text("alice", "is not JSON, from column 1 on")]
    #[case::cut(r#"{"username":"alice""#, "is not JSON, from column 19 on")]
    #[case::two_objects(
        r#"{"username":"a"}{"username":"b"}"#,
        "is not JSON, from column 17 on"
    )]
    #[case::lone_surrogate(r#"{"username":"\ud800"}"#, "is not JSON, from column 20 on")]
    #[case::array(r#"["alice","Sesame"]"#, "is not one JSON object")]
    #[case::string(r#""Sesame""#, "is not one JSON object")]
    #[case::null("null", "is not one JSON object")]
    #[case::empty_object("{}", "the field username is missing")]
    #[case::unknown_field(
        r#"{"username":"alice","Password\u001b":"Sesame"}"#,
        r#"the field "Password\u{1b}" is unknown; there are username, password_hash, is_admin and disabled"#
    )]
    #[case::twice(
        r#"{"username":"alice","disabled":true,"disabled":true}"#,
        "the field disabled is there twice"
    )]
    #[case::username_of_another_type(r#"{"username":5}"#, "the field username must be a string")]
    #[case::hash_of_another_type(
        r#"{"username":"alice","password_hash":["Sesame"]}"#,
        "the field password_hash must be a string or null"
    )]
    #[case::switch_of_another_type(
        r#"{"username":"alice","is_admin":"Sesame"}"#,
        "the field is_admin must be true or false"
    )]
    #[case::null_is_no_switch(
        r#"{"username":"alice","disabled":null}"#,
        "the field disabled must be true or false"
    )]
    #[case::username(
        r#"{"username":"Sesame open"}"#,
        "the username contains characters that are not allowed in a username"
    )]
    #[case::password_in_place_of_a_hash(
        r#"{"username":"alice","password_hash":"Sesame"}"#,
        "the password hash is of an unknown kind"
    )]
    #[case::malformed_hash(
        r#"{"username":"alice","password_hash":"$2b$10$Sesame"}"#,
        "the password hash is malformed"
    )]
    #[case::costly_hash(
        r#"{"username":"alice","password_hash":"$2b$31$0123456789012345678901aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
        "the password hash is beyond the bounds"
    )]
    fn wrong(#[case] line: &str, #[case] problem: &str) {
        let found = read(line.as_bytes()).unwrap_err();
        assert_eq!(found.to_string(), problem);
        assert!(!format!("{found:?}").contains("Sesame"));
    }

    proptest! {
        #[test]
        fn any_line_is_survived(line: Vec<u8>, text in "[\\[\\]{}\",:a-z\\\\ 0-9]{0,60}") {
            let _judged = read(&line);
            let _judged = read(text.as_bytes());
        }
    }
}
