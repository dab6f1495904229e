//! `/v1.0/users`: what administrators do to users.

use axum::Extension;
use axum::Json;
use axum::extract::Path;
use axum::extract::State;
use axum::extract::rejection::PathRejection;
use axum::http::StatusCode;
use axum::http::header::{CACHE_CONTROL, LOCATION};
use axum::response::IntoResponse;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::AppState;
use crate::api::error::{ApiError, Problem};
use crate::api::extract::{Admin, Paging, UserBody};
use crate::api::objects::{Page, UserObject};
use crate::api::observe::UserId;
use crate::auth::administration::AdministrationError;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_users, create_user))
        .routes(routes!(get_user, change_user, delete_user))
}

/// A new user.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the documentation of UserBody, which is read by hand to tell all that is wrong at once"
)]
pub(crate) struct NewUserRequest {
    /// 1 to 254 code points after the profile `UsernameCaseMapped` of RFC 8265.
    #[schema(example = "alice", max_length = 254, min_length = 1)]
    username: String,
    /// At least `password.min_length` code points (15), at most 1024 bytes of UTF-8, and not one of those that are tried first.
    /// Without it nobody can log in as this user.
    #[schema(required = false, example = "correct horse battery staple", format = Password, min_length = 1)]
    password: String,
    /// May manage other users.
    #[schema(required = false, default = false)]
    is_admin: bool,
    /// May not log in.
    #[schema(required = false, default = false)]
    disabled: bool,
}

/// What shall be another than it is.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the documentation of UserBody, which is read by hand to tell all that is wrong at once"
)]
pub(crate) struct UserChangeRequest {
    /// 1 to 254 code points after the profile `UsernameCaseMapped` of RFC 8265.
    #[schema(required = false, example = "alice", max_length = 254, min_length = 1)]
    username: String,
    /// As for a new user. It ends all sessions of the user.
    #[schema(required = false, example = "correct horse battery staple", format = Password, min_length = 1)]
    password: String,
    /// May manage other users.
    #[schema(required = false)]
    is_admin: bool,
    /// May not log in. `true` ends all sessions of the user.
    #[schema(required = false)]
    disabled: bool,
}

/// List the users, in the order of their ids.
#[utoipa::path(
    get,
    path = "/v1.0/users",
    tag = "users",
    security(("bearer" = [])),
    params(
        ("limit" = Option<u32>, Query, description = "The most items of this page, 50 if it is not said", minimum = 1, maximum = 200),
        ("after" = Option<String>, Query, description = "The `next` of the page before"),
    ),
    responses(
        (status = 200, description = "A page", body = Page<UserObject>,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 403, description = "`forbidden`: no administrator", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`: `limit` or `after`", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
async fn list_users(
    State(state): State<AppState>,
    admin: Admin,
    paging: Result<Paging<i64>, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let Paging { limit, after } = paging?;
    // One more tells whether there is another page.
    let wanted = u64::try_from(limit).unwrap_or(u64::MAX);
    let after = after.unwrap_or_default();
    let authenticator = state.authenticator();
    let mut users = authenticator.list_users(after, wanted + 1).await?;
    let is_last = users.len() <= limit;
    users.truncate(limit);
    let last = users.last().filter(|_| !is_last);
    let page = Page {
        next: last.map(|user| user.id.to_string()),
        items: users.iter().map(UserObject::from).collect(),
    };
    Ok((
        [(CACHE_CONTROL, "no-store")],
        Extension(UserId(admin.id)),
        Json(page),
    ))
}

/// Make a user.
#[utoipa::path(
    post,
    path = "/v1.0/users",
    tag = "users",
    security(("bearer" = [])),
    request_body = NewUserRequest,
    responses(
        (status = 201, description = "The new user", body = UserObject, headers(
            ("Location" = String, description = "Relative to the address of the request"),
            ("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 400, description = "`malformed-body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 403, description = "`forbidden`: no administrator", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`request-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: the name is taken", body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`: no JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`: fields are missing, wrong or unknown", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
async fn create_user(
    State(state): State<AppState>,
    admin: Admin,
    body: Result<UserBody, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let fields = body?.with_username()?;
    let user = state
        .authenticator()
        .create_user(fields, &admin.author)
        .await?;
    let location = format!("users/{}", user.id);
    Ok((
        StatusCode::CREATED,
        [(CACHE_CONTROL, "no-store".to_owned()), (LOCATION, location)],
        Extension(UserId(admin.id)),
        Json(UserObject::from(&user)),
    ))
}

/// A user.
#[utoipa::path(
    get,
    path = "/v1.0/users/{id}",
    tag = "users",
    security(("bearer" = [])),
    params(("id" = i64, Path, description = "`users.id`")),
    responses(
        (status = 200, description = "The user", body = UserObject,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 403, description = "`forbidden`: no administrator", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`", body = Problem, content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
async fn get_user(
    State(state): State<AppState>,
    admin: Admin,
    id: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let user = state.authenticator().find_user(read(id)?).await?;
    Ok((
        [(CACHE_CONTROL, "no-store")],
        Extension(UserId(admin.id)),
        Json(UserObject::from(&user)),
    ))
}

/// Change a user: all that the body says, or nothing.
///
/// A password, and `disabled` that is `true`, end all sessions of the user: when 200 is sent, they are dead. After a 503 the
/// change may be made: then they end as soon as they can.
#[utoipa::path(
    patch,
    path = "/v1.0/users/{id}",
    tag = "users",
    security(("bearer" = [])),
    params(("id" = i64, Path, description = "`users.id`")),
    request_body = UserChangeRequest,
    responses(
        (status = 200, description = "The user as it is now", body = UserObject,
            headers(("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 400, description = "`malformed-body`", body = Problem, content_type = "application/problem+json"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 403, description = "`forbidden`: no administrator", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`", body = Problem, content_type = "application/problem+json"),
        (status = 408, description = "`request-timeout`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: the name is taken, or nobody would be left who may manage users",
            body = Problem, content_type = "application/problem+json"),
        (status = 413, description = "`payload-too-large`", body = Problem, content_type = "application/problem+json"),
        (status = 415, description = "`unsupported-media-type`: no JSON", body = Problem,
            content_type = "application/problem+json"),
        (status = 422, description = "`invalid-input`: fields are wrong or unknown", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
async fn change_user(
    State(state): State<AppState>,
    admin: Admin,
    id: Result<Path<String>, PathRejection>,
    body: Result<UserBody, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let id = read(id)?;
    let UserBody(fields) = body?;
    let authenticator = state.authenticator();
    let (user, ended) = authenticator.change_user(id, fields, &admin.author).await?;
    state.metrics().count_revoked(ended);
    Ok((
        [(CACHE_CONTROL, "no-store")],
        Extension(UserId(admin.id)),
        Json(UserObject::from(&user)),
    ))
}

/// Remove a user and end all sessions. The id is never given again.
#[utoipa::path(
    delete,
    path = "/v1.0/users/{id}",
    tag = "users",
    security(("bearer" = [])),
    params(("id" = i64, Path, description = "`users.id`")),
    responses(
        (status = 204, description = "The user is gone, and all tokens are dead"),
        (status = 401, description = "`missing-token` or `invalid-token`", body = Problem,
            content_type = "application/problem+json",
            headers(("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"))),
        (status = 403, description = "`forbidden`: no administrator", body = Problem, content_type = "application/problem+json"),
        (status = 404, description = "`not-found`", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "`conflict`: nobody would be left who may manage users", body = Problem,
            content_type = "application/problem+json"),
        (status = 503, description = "`dependency-unavailable` or `overloaded`: the user may be gone, and then the sessions end as \
            soon as they can", body = Problem,
            content_type = "application/problem+json", headers(("Retry-After" = u64, description = "Seconds"))),
    )
)]
async fn delete_user(
    State(state): State<AppState>,
    admin: Admin,
    id: Result<Path<String>, PathRejection>,
) -> Result<impl IntoResponse, ApiError> {
    let authenticator = state.authenticator();
    let ended = authenticator.delete_user(read(id)?, &admin.author).await?;
    state.metrics().count_revoked(ended);
    Ok((Extension(UserId(admin.id)), StatusCode::NO_CONTENT))
}

/// The id in the path: what is no number names nobody.
fn read(id: Result<Path<String>, PathRejection>) -> Result<i64, ApiError> {
    let id = id.ok().and_then(|Path(id)| id.parse().ok());
    id.ok_or(ApiError::NotFound)
}

impl From<AdministrationError> for ApiError {
    fn from(error: AdministrationError) -> Self {
        match error {
            AdministrationError::InvalidInput(fields) => Self::invalid_input(fields),
            AdministrationError::Forbidden => Self::Forbidden,
            AdministrationError::NotFound => Self::NotFound,
            AdministrationError::NameTaken => Self::Conflict("The username is taken."),
            AdministrationError::LastAdmin => Self::Conflict(
                "This is the last administrator who is enabled; make another one first.",
            ),
            AdministrationError::Overloaded { retry_after } => Self::Overloaded { retry_after },
            AdministrationError::Check(error) => error.into(),
        }
    }
}
