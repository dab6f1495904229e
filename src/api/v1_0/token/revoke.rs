//! `/v1.0/token/revoke`: end a token, for machines (RFC 7009).

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::TokenRequest;
use crate::api::AppState;
use crate::api::error::{ApiError, Problem};
use crate::api::extract::{RegisteredClient, TokenForm};
use crate::api::observe::ClientName;
use crate::auth::CheckError;
use crate::auth::token::Token;

/// Revoke a token: it is dead when the answer is sent, for registered clients (RFC 7009).
///
/// A token that is malformed, unknown, expired or revoked already is answered 200, too.
#[utoipa::path(
    post,
    path = "/v1.0/token/revoke",
    tag = "token",
    security(("client" = [])),
    request_body(content = TokenRequest, content_type = "application/x-www-form-urlencoded"),
    responses(
        (status = 200, description = "The token is dead; no body"),
        (status = 400, description = "`malformed-body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid-client`", body = Problem, content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Basic`"))),
        (status = 408, description = "`request-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`: `token` is missing or there twice", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable`: the token may still be alive", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn revoke(
    State(state): State<AppState>,
    client: Result<RegisteredClient, ApiError>,
    form: Result<TokenForm, ApiError>,
) -> Result<Response, ApiError> {
    let RegisteredClient { name } = client?;
    let answer = match form {
        Ok(form) => end(&state, &form).await.map(|()| StatusCode::OK),
        Err(error) => Err(error),
    };
    Ok((Extension(ClientName(name)), answer).into_response())
}

async fn end(state: &AppState, TokenForm { token }: &TokenForm) -> Result<(), ApiError> {
    let Ok(token) = Token::parse(token) else {
        return Ok(());
    };
    match state.authenticator().log_out(&token).await {
        Ok(..) => {
            state.metrics().count_revoked(1);
            Ok(())
        }
        Err(CheckError::InvalidToken) => Ok(()),
        Err(error) => Err(error.into()),
    }
}
