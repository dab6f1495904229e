//! `/v1.0/user`: the own user.

use axum::extract::State;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::{Extension, Json};

use crate::api::AppState;
use crate::api::error::{ApiError, Problem};
use crate::api::extract::Bearer;
use crate::api::objects::UserObject;
use crate::api::observe::UserId;

/// The own user.
///
/// Read from the database. A token of a user who was disabled or deleted is invalid here.
#[utoipa::path(
    get,
    path = "/v1.0/user",
    tag = "user",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The user who holds the token", body = UserObject,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 503, description = "`dependency-unavailable` or `overloaded`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
pub(super) async fn get_user(
    State(state): State<AppState>,
    Bearer(token): Bearer,
) -> Result<impl IntoResponse, ApiError> {
    let user = state.authenticator().user(&token).await?;
    let answer = Json(UserObject::from(&user));
    Ok((
        [(CACHE_CONTROL, "no-store")],
        Extension(UserId(user.id)),
        answer,
    ))
}
