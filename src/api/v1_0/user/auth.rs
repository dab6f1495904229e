//! `/v1.0/user/auth`: log in, check, log out.

use std::time::Duration;

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::api::AppState;
use crate::api::error::{ApiError, Problem};
use crate::api::extract::{Bearer, Client, Credentials};
use crate::api::observe::UserId;
use crate::auth::{CheckError, LoginError};
use crate::metrics::{CheckOutcome, LoginOutcome};
use crate::store::tokens::Holder;
use crate::store::{StoreError, with_sources};

/// Carries the id of the user to gateways and other services.
pub(in crate::api::v1_0) const X_USER_ID: HeaderName = HeaderName::from_static("x-user-id");

/// What a client sends to log in.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the documentation of Credentials, which is read by hand to tell all that is wrong at once"
)]
pub(crate) struct LoginRequest {
    /// 1 to 254 code points after the profile `UsernameCaseMapped` of RFC 8265; `Alice` and `alice` are one user.
    #[schema(example = "alice", max_length = 254, min_length = 1)]
    username: String,
    /// 1 to 1024 bytes of UTF-8.
    #[schema(example = "correct horse battery staple", format = Password, min_length = 1)]
    password: String,
}

/// A new token (RFC 6749, section 5.1).
#[derive(Serialize, ToSchema)]
pub(crate) struct LoginResponse {
    /// The token: `clv_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}`.
    #[schema(example = "clv_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0aBcDe")]
    access_token: String,
    /// Always `Bearer`.
    #[schema(example = "Bearer")]
    token_type: &'static str,
    /// Lifetime in seconds.
    #[schema(example = 86400)]
    expires_in: u64,
    /// `users.id`.
    #[schema(example = 1)]
    user_id: i64,
}

/// Who holds a token.
#[derive(Serialize, ToSchema)]
pub(crate) struct CheckResponse {
    /// `users.id`.
    #[schema(example = 1)]
    user_id: i64,
    /// Remaining lifetime in seconds.
    #[schema(example = 86000)]
    expires_in: u64,
}

/// Log in: exchange a username and a password for a token.
///
/// As JSON, or as a form for OAuth 2 password clients: then `grant_type`, if sent, must be `password`, and a problem also
/// carries `error` and `error_description`. Unknown user, wrong password, disabled user and user without a password get
/// the same answer.
#[utoipa::path(
    post,
    path = "/v1.0/user/auth",
    tag = "auth",
    request_body(content(
        (LoginRequest = "application/json"),
        (LoginRequest = "application/x-www-form-urlencoded"),
    )),
    responses(
        (status = 200, description = "A token", body = LoginResponse,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 400, description = "`malformed-body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`invalid-credentials`", body = Problem, content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`"))),
        (status = 403, description = "`forbidden`: a form from another site", body = Problem,
            content_type = "application/problem+json"),
        (status = 408, description = "`request-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`", body = Problem, content_type = "application/problem+json"),
        (status = 429, description = "`too-many-attempts` for this name, or from this address", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
        (status = 503, description = "`overloaded` or `dependency-unavailable`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn log_in(
    State(state): State<AppState>,
    Client(device): Client,
    credentials: Result<Credentials, ApiError>,
) -> Result<Response, ApiError> {
    let Credentials { username, password } = credentials.inspect_err(|_| {
        state.metrics().count_login(LoginOutcome::Invalid);
    })?;
    let under_way = state.metrics().begin_login();
    let result = state
        .authenticator()
        .log_in(&username, password, &device)
        .await;
    under_way.end(outcome(&result));
    if let Err(LoginError::Unavailable(StoreError::Unavailable { dependency, .. })) = &result {
        state.metrics().count_unavailable_login(dependency.name());
    }

    let login = match result {
        Ok(login) => login,
        Err(error) => return Err(refusal(error)),
    };
    let user_id = Extension(UserId(login.user_id));
    let answer = Json(LoginResponse {
        access_token: login.token.expose().to_owned(),
        token_type: "Bearer",
        expires_in: login.expires_in.as_secs(),
        user_id: login.user_id,
    });
    Ok(([(CACHE_CONTROL, "no-store")], user_id, answer).into_response())
}

/// Check a token: who holds it, and for how long.
#[utoipa::path(
    get,
    path = "/v1.0/user/auth",
    tag = "auth",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The token is alive", body = CheckResponse,
            headers(("X-User-Id" = i64, description = "`users.id`"))),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 503, description = "`dependency-unavailable`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn check(
    State(state): State<AppState>,
    bearer: Result<Bearer, ApiError>,
) -> Result<Response, ApiError> {
    let holder = holder(&state, bearer).await?;
    let answer = CheckResponse {
        user_id: holder.user_id,
        expires_in: whole_seconds(holder.expires_in),
    };
    let mut response = Json(answer).into_response();
    response.extensions_mut().insert(UserId(holder.user_id));
    let headers = response.headers_mut();
    headers.insert(X_USER_ID, HeaderValue::from(holder.user_id));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(response)
}

/// Who holds the token of a request, where that is what is asked: these checks are counted.
pub(in crate::api::v1_0) async fn holder(
    state: &AppState,
    bearer: Result<Bearer, ApiError>,
) -> Result<Holder, ApiError> {
    let Bearer(token) =
        bearer.inspect_err(|_| state.metrics().count_check(CheckOutcome::Invalid))?;
    let result = state.authenticator().check(&token).await;
    state.metrics().count_check(match &result {
        Ok(_) => CheckOutcome::Valid,
        Err(CheckError::InvalidToken) => CheckOutcome::Invalid,
        Err(CheckError::Unavailable(_)) => CheckOutcome::Unavailable,
        Err(CheckError::Internal(_)) => CheckOutcome::Error,
    });
    Ok(result?)
}

/// Log out: the token is dead when the answer is sent.
#[utoipa::path(
    delete,
    path = "/v1.0/user/auth",
    tag = "auth",
    security(("bearer" = [])),
    responses(
        (status = 204, description = "The token is dead"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable`: the token may still be alive", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn log_out(
    State(state): State<AppState>,
    Bearer(token): Bearer,
) -> Result<(Extension<UserId>, StatusCode), ApiError> {
    let user_id = state.authenticator().log_out(&token).await?;
    state.metrics().count_revoked(1);
    Ok((Extension(UserId(user_id)), StatusCode::NO_CONTENT))
}

fn outcome<T>(result: &Result<T, LoginError>) -> LoginOutcome {
    match result {
        Ok(_) => LoginOutcome::Success,
        Err(LoginError::InvalidInput(_)) => LoginOutcome::Invalid,
        Err(LoginError::InvalidCredentials) => LoginOutcome::Refused,
        Err(LoginError::TooManyAttempts { .. }) => LoginOutcome::Throttled,
        Err(LoginError::Overloaded { .. }) => LoginOutcome::Overloaded,
        Err(LoginError::Unavailable(_)) => LoginOutcome::Unavailable,
        Err(LoginError::Internal(_)) => LoginOutcome::Error,
    }
}

/// What the client is told of a failed login. The cause stays here, in the log.
fn refusal(error: LoginError) -> ApiError {
    match error {
        LoginError::InvalidInput(fields) => ApiError::invalid_input(fields),
        LoginError::InvalidCredentials => ApiError::InvalidCredentials,
        LoginError::TooManyAttempts { retry_after } => ApiError::TooManyAttempts { retry_after },
        LoginError::Overloaded { retry_after } => ApiError::Overloaded { retry_after },
        LoginError::Unavailable(cause) => {
            tracing::warn!(cause = %with_sources(&cause), "a login could not be answered");
            ApiError::DependencyUnavailable
        }
        LoginError::Internal(cause) => {
            tracing::error!(%cause, "a login failed");
            ApiError::Internal
        }
    }
}

/// Rounded up: a token that is alive has not expired in 0 seconds.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The router puts a handler's future into a box. glibc keeps such pieces at hand up to 1,032 bytes; every larger one costs
    /// a search, which is a twentieth of a check.
    #[test]
    fn the_future_of_a_check_is_small_enough_to_be_allocated_fast() {
        fn size<A, B, F>(_: impl Fn(A, B) -> F) -> usize {
            size_of::<F>()
        }
        let size = size(check);
        assert!(size <= 1000, "{size} bytes");
    }
}
