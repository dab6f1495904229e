//! What a query says. Parameters that a route does not know are ignored.

use std::str::FromStr;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::api::error::{ApiError, FieldError};

/// The items of a page, unless the client says how many.
const DEFAULT_LIMIT: usize = 50;

/// The most items of a page.
const MOST: usize = 200;

/// Which part of a list is wanted: `?limit=` items, from behind the place of `?after=` on.
#[derive(Debug)]
pub struct Paging<Place> {
    /// From 1 to 200.
    pub limit: usize,
    /// The `next` of an earlier page; `None` for the first one.
    pub after: Option<Place>,
}

impl<Place: FromStr, S: Sync> FromRequestParts<S> for Paging<Place> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        Self::read(parts.uri.query().unwrap_or_default())
    }
}

impl<Place: FromStr> Paging<Place> {
    fn read(query: &str) -> Result<Self, ApiError> {
        let mut errors = Vec::new();
        let limit = parameter(query, "limit", &mut errors);
        let limit = limit.map_or(Some(DEFAULT_LIMIT), |limit| {
            let limit = limit.parse().ok();
            limit.filter(|limit| (1..=MOST).contains(limit))
        });
        if limit.is_none() {
            errors.push(FieldError {
                field: "limit".into(),
                message: format!("must be a number from 1 to {MOST}"),
            });
        }
        let after = parameter(query, "after", &mut errors);
        let after = after.map(|after| after.parse().ok());
        if matches!(after, Some(None)) {
            errors.push(FieldError {
                field: "after".into(),
                message: "must be the next of an earlier answer".to_owned(),
            });
        }
        match limit {
            Some(limit) if errors.is_empty() => Ok(Self {
                limit,
                after: after.flatten(),
            }),
            _ => Err(ApiError::InvalidInput(errors)),
        }
    }
}

/// The value of a parameter; `None` if there is none, or if it is there twice, which is an error.
pub(in crate::api) fn parameter(
    query: &str,
    name: &'static str,
    errors: &mut Vec<FieldError>,
) -> Option<String> {
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter(|(known, _)| known == name)
        .map(|(_, value)| value.into_owned());
    let value = values.next()?;
    if values.next().is_some() {
        errors.push(FieldError {
            field: name.into(),
            message: "is there twice".to_owned(),
        });
        return None;
    }
    Some(value)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    fn read(query: &str) -> Result<(usize, Option<u8>), Vec<Cow<'static, str>>> {
        match Paging::read(query) {
            Ok(Paging { limit, after }) => Ok((limit, after)),
            Err(ApiError::InvalidInput(errors)) => {
                Err(errors.into_iter().map(|error| error.field).collect())
            }
            Err(error) => panic!("{error:?}"),
        }
    }

    #[test]
    fn a_page_has_a_default_and_bounds() {
        assert_eq!(read(""), Ok((50, None)));
        assert_eq!(read("limit=1"), Ok((1, None)));
        assert_eq!(read("limit=200&after=7"), Ok((200, Some(7))));
        assert_eq!(read("%6cimit=2&x=y&x=z&LIMIT=0&"), Ok((2, None)));
        for limit in ["0", "201", "-1", "1.5", "", "x", "99999999999999999999"] {
            let limit = format!("limit={limit}");
            assert_eq!(read(&limit), Err(vec!["limit".into()]), "{limit}");
        }
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once() {
        assert_eq!(
            read("limit=x&after=x"),
            Err(vec!["limit".into(), "after".into()])
        );
        assert_eq!(
            read("after=x&limit=5&limit=5"),
            Err(vec!["limit".into(), "after".into()])
        );
        assert_eq!(read("after="), Err(vec!["after".into()]));
        assert_eq!(read("after=1&after=1"), Err(vec!["after".into()]));
    }
}
