//! `/v1.0/token/introspect`: whose a token is, for machines (RFC 7662).

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use super::TokenRequest;
use crate::api::AppState;
use crate::api::error::{ApiError, Problem};
use crate::api::extract::{RegisteredClient, TokenForm};
use crate::api::observe::{ClientName, UserId};
use crate::auth::CheckError;
use crate::auth::token::Token;
use crate::metrics::CheckOutcome;
use crate::store::tokens::Session;

/// What is known of a token (RFC 7662, section 2.2). Of one that is not active nothing more is said.
#[derive(Default, Serialize, ToSchema)]
pub(crate) struct IntrospectResponse {
    /// Whether the token is alive.
    #[schema(example = true)]
    active: bool,
    /// `users.id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "1", nullable = false)]
    sub: Option<String>,
    /// The name at log-in.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "alice", nullable = false)]
    username: Option<String>,
    /// When it ends, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_795_000_000, nullable = false)]
    exp: Option<u64>,
    /// When it was issued, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = 1_794_913_600, nullable = false)]
    iat: Option<u64>,
    /// Always `Bearer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "Bearer", nullable = false)]
    token_type: Option<&'static str>,
}

/// Introspect a token: whose it is, for registered clients (RFC 7662).
///
/// A token that is malformed, unknown, expired or revoked is answered `{"active":false}`. Two round trips to the token store, none
/// to the database. `username` and `iat` are missing until the instance has read the database once.
#[utoipa::path(
    post,
    path = "/v1.0/token/introspect",
    tag = "token",
    security(("client" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "What is known of the token", body = IntrospectResponse,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 400, description = "`malformed-body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid-client`", body = Problem, content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Basic`"))),
        (status = 408, description = "`request-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`: `token` is missing or there twice", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable`: this says nothing of the token", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn introspect(
    State(state): State<AppState>,
    client: Result<RegisteredClient, ApiError>,
    form: Result<TokenForm, ApiError>,
) -> Result<Response, ApiError> {
    let RegisteredClient { name } = client?;
    let answer = match form {
        Ok(form) => look_up(&state, &form).await,
        Err(error) => Err(error),
    };
    Ok((Extension(ClientName(name)), answer).into_response())
}

async fn look_up(state: &AppState, TokenForm { token }: &TokenForm) -> Result<Response, ApiError> {
    let result = match Token::parse(token) {
        Ok(token) => state.authenticator().introspect(&token).await,
        Err(_) => Err(CheckError::InvalidToken),
    };
    let count = |outcome| state.metrics().count_check(outcome);
    let (holder, session) = match result {
        Ok(known) => known,
        Err(CheckError::InvalidToken) => {
            count(CheckOutcome::Invalid);
            return Ok(answer(IntrospectResponse::default()));
        }
        Err(error @ CheckError::Unavailable(_)) => {
            count(CheckOutcome::Unavailable);
            return Err(error.into());
        }
        Err(error @ CheckError::Internal(_)) => {
            count(CheckOutcome::Error);
            return Err(error.into());
        }
    };
    count(CheckOutcome::Valid);
    let known = answer(IntrospectResponse {
        active: true,
        sub: Some(holder.user_id.to_string()),
        exp: Some(expiry(holder.expires_in, session.as_ref())),
        iat: session.as_ref().map(|session| seconds(session.created_at)),
        username: session.map(|session| session.username),
        token_type: Some("Bearer"),
    });
    Ok((Extension(UserId(holder.user_id)), known).into_response())
}

fn answer(body: IntrospectResponse) -> Response {
    ([(CACHE_CONTROL, "no-store")], Json(body)).into_response()
}

/// When the token ends: what the session says, unless it ends before for want of use. Rounded down: whoever remembers the answer
/// for so long doesn't do so for too long.
fn expiry(left: Duration, session: Option<&Session>) -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let end = (now.unwrap_or_default() + left).as_secs();
    let absolute = session.map(|session| seconds(session.expires_at));
    // The clocks of the store and of this machine may differ a little, and the same token should be told the same.
    absolute
        .filter(|absolute| absolute.abs_diff(end) <= CLOCKS_DIFFER)
        .unwrap_or(end)
}

/// So many seconds are no sign of another end.
const CLOCKS_DIFFER: u64 = 5;

fn seconds(time: DateTime<Utc>) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or_default()
}
