//! `/v1.0/user/password`: change the own password.

use axum::Extension;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use utoipa::ToSchema;

use crate::api::AppState;
use crate::api::error::{ApiError, Problem};
use crate::api::extract::{Bearer, Client, PasswordChange};
use crate::api::observe::UserId;
use crate::auth::ChangeError;
use crate::auth::token::Token;
use crate::store::tokens::Device;

/// What a client sends to change its user's password.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the documentation of PasswordChange, which is read by hand to tell all that is wrong at once"
)]
pub(crate) struct PasswordRequest {
    /// The password that the user has: 1 to 1024 bytes of UTF-8.
    #[schema(example = "correct horse battery staple", format = Password, min_length = 1)]
    current_password: String,
    /// The one that it shall be: at least `password.min_length` code points (15), at most 1024 bytes of UTF-8, and not one of those
    /// that are tried first.
    #[schema(example = "staple battery horse correct", format = Password, min_length = 1)]
    new_password: String,
}

/// Change the own password: every other session of the user ends, this one lives on.
///
/// When 204 is sent, they are dead. After a 503 the password may be changed: then they end as soon as they can.
#[utoipa::path(
    put,
    path = "/v1.0/user/password",
    tag = "user",
    security(("bearer" = [])),
    request_body = PasswordRequest,
    responses(
        (status = 204, description = "The password is changed"),
        (status = 400, description = "`malformed-body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 403, description = "`invalid-credentials`: the current password is wrong", body = Problem,
            content_type = "application/problem+json"),
        (status = 408, description = "`request-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`: no JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`: fields are missing or wrong, or the new password is not acceptable",
            body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-attempts`: too many wrong passwords of this user, or from this address", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`overloaded` or `dependency-unavailable`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn change_password(
    State(state): State<AppState>,
    Bearer(token): Bearer,
    Client(device): Client,
    body: Result<PasswordChange, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    // Whoever holds no living token is told so, whatever else is wrong. And from here on it is known whom a refusal concerns.
    let holder = state.authenticator().check(&token).await?;
    let answer = set(&state, &token, &device, body).await;
    Ok((Extension(UserId(holder.user_id)), answer))
}

async fn set(
    state: &AppState,
    token: &Token,
    device: &Device,
    body: Result<PasswordChange, ApiError>,
) -> Result<StatusCode, ApiError> {
    let PasswordChange { current, new } = body?;
    let authenticator = state.authenticator();
    let ended = authenticator
        .change_password(token, current, new, device.address())
        .await?;
    state.metrics().count_revoked(ended);
    Ok(StatusCode::NO_CONTENT)
}

impl From<ChangeError> for ApiError {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::InvalidInput(fields) => Self::invalid_input(fields),
            ChangeError::WrongPassword => Self::WrongPassword,
            ChangeError::TooManyAttempts { retry_after } => Self::TooManyAttempts { retry_after },
            ChangeError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            ChangeError::Check(error) => error.into(),
        }
    }
}
