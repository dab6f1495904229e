//! `/v1.0/user/sessions`: the own sessions. List them, end one, end all.

use std::fmt;
use std::str::FromStr;

use axum::extract::rejection::PathRejection;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::StatusCode;
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::AppState;
use crate::api::error::{ApiError, FieldError, Problem};
use crate::api::extract::{Bearer, Paging, parameter};
use crate::api::objects::{Page, SessionObject};
use crate::api::observe::UserId;
use crate::store::tokens::{Session, SessionId};

/// One of the own sessions.
#[derive(Serialize, ToSchema)]
pub(crate) struct OwnSession {
    #[serde(flatten)]
    session: SessionObject,
    /// It is that of the token that asks.
    current: bool,
}

/// List the own sessions that are alive, the newest first.
#[utoipa::path(
    get,
    path = "/v1.0/user/sessions",
    tag = "sessions",
    security(("bearer" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "The most items of this page, 50 if it is not said", minimum = 1, maximum = 200),
        ("after" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = Page<OwnSession>,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 422, description = "`invalid-input`: `limit` or `after`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn list_sessions(
    State(state): State<AppState>,
    Bearer(token): Bearer,
    paging: Result<Paging<Place>, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let user_id = state.authenticator().check(&token).await?.user_id;
    let paging = paging?;
    let sessions = state.authenticator().sessions(user_id).await?;
    let current = SessionId::of(user_id, token.expose());
    let page = page(sessions, &paging, &current);
    Ok((
        [(CACHE_CONTROL, "no-store")],
        Extension(UserId(user_id)),
        Json(page),
    ))
}

/// End all own sessions, this one too.
#[utoipa::path(
    delete,
    path = "/v1.0/user/sessions",
    tag = "sessions",
    security(("bearer" = [])),
    params(
        ("keep" = Option<String>, Query, description = "`current`: this session lives on", pattern = "^current$"),
    ),
    responses(
        (status = 204, description = "Their tokens are dead, and so is what a login gets that ran beside this"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 422, description = "`invalid-input`: `keep`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`: some of them may still be alive", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn end_sessions(
    State(state): State<AppState>,
    Bearer(token): Bearer,
    keep: Result<Keep, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let user_id = state.authenticator().check(&token).await?.user_id;
    let kept = match keep? {
        Keep::Nothing => None,
        Keep::Current => Some(SessionId::of(user_id, token.expose())),
    };
    let ended = state
        .authenticator()
        .end_sessions(user_id, kept.as_ref())
        .await?;
    state.metrics().count_revoked(ended);
    Ok((Extension(UserId(user_id)), StatusCode::NO_CONTENT))
}

/// End one of the own sessions.
#[utoipa::path(
    delete,
    path = "/v1.0/user/sessions/{id}",
    tag = "sessions",
    security(("bearer" = [])),
    params(("id" = String, Path, description = "As the list has it")),
    responses(
        (status = 204, description = "Its token is dead"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 404, description = "`not-found`: none of the own living sessions has this id", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`: it may still be alive", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn end_session(
    State(state): State<AppState>,
    Bearer(token): Bearer,
    id: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let user_id = state.authenticator().check(&token).await?.user_id;
    // What is no UTF-8 names nothing.
    let ended = match id {
        Ok(Path(id)) => state.authenticator().end_session(user_id, &id).await?,
        Err(_) => false,
    };
    let answer = if ended {
        state.metrics().count_revoked(1);
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(ApiError::NotFound)
    };
    Ok((Extension(UserId(user_id)), answer))
}

/// The part of `sessions`, of which the newest stands first, that is wanted.
fn page(
    mut sessions: Vec<Session>,
    paging: &Paging<Place>,
    current: &SessionId,
) -> Page<OwnSession> {
    if let Some(after) = &paging.after {
        sessions.retain(|session| Place::of(session) < *after);
    }
    let is_last = sessions.len() <= paging.limit;
    sessions.truncate(paging.limit);
    let last = sessions.last().filter(|_| !is_last);
    Page {
        next: last.map(|last| Place::of(last).to_string()),
        items: sessions
            .iter()
            .map(|session| OwnSession {
                current: session.id == *current,
                session: session.into(),
            })
            .collect(),
    }
}

/// Where a session stands in the list, whether it is still alive or not: the newer, the greater.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    /// Milliseconds since 1970.
    created_at: i64,
    name: String,
}

/// The text names no place.
#[derive(Debug)]
pub(super) struct InvalidPlace;

impl Place {
    fn of(session: &Session) -> Self {
        Self {
            created_at: session.created_at.timestamp_millis(),
            name: session.id.name().to_owned(),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = format!("{}.{}", self.created_at, self.name);
        formatter.write_str(&URL_SAFE_NO_PAD.encode(text))
    }
}

impl FromStr for Place {
    type Err = InvalidPlace;

    fn from_str(text: &str) -> Result<Self, InvalidPlace> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| InvalidPlace)?;
        let text = String::from_utf8(bytes).map_err(|_| InvalidPlace)?;
        let (created_at, name) = text.split_once('.').ok_or(InvalidPlace)?;
        Ok(Self {
            created_at: created_at.parse().map_err(|_| InvalidPlace)?,
            name: name.to_owned(),
        })
    }
}

/// What `?keep=` says.
#[derive(Clone, Copy, Debug)]
pub(super) enum Keep {
    Nothing,
    Current,
}

impl<S: Sync> FromRequestParts<S> for Keep {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let query = parts.uri.query().unwrap_or_default();
        let mut errors = Vec::new();
        let keep = match parameter(query, "keep", &mut errors).as_deref() {
            None => Self::Nothing,
            Some("current") => Self::Current,
            Some(_) => {
                errors.push(FieldError {
                    field: "keep".into(),
                    message: "must be 'current'".to_owned(),
                });
                Self::Nothing
            }
        };
        if errors.is_empty() {
            Ok(keep)
        } else {
            Err(ApiError::InvalidInput(errors))
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::store::tokens::Device;

    fn session(created_at: i64, token: &str) -> Session {
        let created_at = DateTime::from_timestamp_millis(created_at).unwrap();
        Session {
            id: SessionId::of(7, token),
            username: "alice".to_owned(),
            created_at,
            expires_at: created_at,
            last_seen_at: created_at,
            device: Device::default(),
        }
    }

    fn ids(page: &Page<OwnSession>) -> Vec<String> {
        let items = page.items.iter();
        items
            .map(|item| serde_json::to_value(item).unwrap()["id"].to_string())
            .collect()
    }

    /// Some of the sessions began in the same millisecond, and the one that a page ended with is gone when the next is asked for.
    #[test]
    fn pages_meet_at_a_place_and_not_at_a_session() {
        let mut sessions: Vec<Session> = (0..30)
            .map(|number| session(number / 7, &number.to_string()))
            .collect();
        sessions.sort_by_key(|session| std::cmp::Reverse(Place::of(session)));
        let current = SessionId::of(7, "29");
        let whole = Paging {
            limit: 200,
            after: None,
        };
        let all = ids(&page(sessions.clone(), &whole, &current));
        assert_eq!(all.len(), 30);

        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let paging = Paging { limit: 4, after };
            let part = page(sessions.clone(), &paging, &current);
            seen.extend(ids(&part));
            let Some(next) = part.next else { break };
            let place: Place = next.parse().unwrap();
            sessions.retain(|session| Place::of(session) != place);
            after = Some(place);
        }
        assert_eq!(seen, all);
    }

    #[test]
    fn a_page_that_is_just_full_is_the_last() {
        let sessions = vec![session(2, "b"), session(1, "a")];
        let current = SessionId::of(7, "a");
        for (limit, is_last) in [(1, false), (2, true), (3, true)] {
            let paging = Paging { limit, after: None };
            let page = page(sessions.clone(), &paging, &current);
            assert_eq!(page.next.is_none(), is_last, "{limit}");
        }
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for text in ["", "x", "eA", "MS54!", "1.x", "\u{e4}"] {
            assert!(text.parse::<Place>().is_err(), "{text}");
        }
    }
}
