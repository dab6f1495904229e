//! `/v1.0/forward-auth`: a gateway asks who sends the request that it holds back.
//!
//! It asks with the client's headers, and some gateways with its method and path too. So every method and every path
//! below is the same question, and nothing but `Authorization` counts: a header that says what is asked for elsewhere, or
//! who asks, could be the client's own.
//!
//! Whatever happens, the answer is 200, 401 or 503, and has no body: `Dialect::Bare` sees to that.

use axum::Extension;
use axum::extract::State;
use axum::http::HeaderValue;
use axum::http::header::CACHE_CONTROL;
use axum::response::IntoResponse;
use axum::routing::any;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use super::user::{X_USER_ID, holder};
use crate::api::AppState;
use crate::api::error::ApiError;
use crate::api::extract::Bearer;
use crate::api::observe::UserId;

const ROUTE: &str = "/v1.0/forward-auth";
/// What is asked for by gateways that append a path, when that is `/`.
const ROOT: &str = "/v1.0/forward-auth/";
const BELOW: &str = "/v1.0/forward-auth/{*rest}";
/// [`BELOW`] as it stands in the OpenAPI document, which has no form for the whole rest of a path.
const DOCUMENTED_BELOW: &str = "/v1.0/forward-auth/{rest}";

#[derive(OpenApi)]
#[openapi(paths(forward_auth, document_below))]
struct Document;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .route(ROUTE, any(forward_auth))
        .route(ROOT, any(forward_auth))
        .route(BELOW, any(forward_auth))
}

/// The templates of the routes that stand in the OpenAPI document as `path`.
pub(in crate::api) fn templates(path: &str) -> Vec<&str> {
    match path {
        DOCUMENTED_BELOW => vec![ROOT, BELOW],
        _ => vec![path],
    }
}

/// Ask for a gateway: who sends this request?
///
/// Any method, not only `GET`, and any path below. The body is not read. The check is that of `GET /v1.0/user/auth`, and
/// nothing but `Authorization` counts.
#[utoipa::path(
    get,
    path = "/v1.0/forward-auth",
    tag = "gateways",
    security(("bearer" = [])),
    responses(
        (status = 200, description = "The token is alive. No body", headers(
            ("X-User-Id" = i64, description = "`users.id`"),
            ("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 401, description = "No token, or one that is malformed, unknown, expired or revoked. No body", headers(
            ("WWW-Authenticate" = String, description = "`Bearer`, with `error=\"invalid_token\"` if one was sent"),
            ("Cache-Control" = String, description = "Always `no-store`"))),
        (status = 503, description = "The service can't tell. No body", headers(
            ("Retry-After" = u64, description = "Seconds"),
            ("Cache-Control" = String, description = "Always `no-store`"))),
    )
)]
async fn forward_auth(
    State(state): State<AppState>,
    bearer: Result<Bearer, ApiError>,
) -> Result<impl IntoResponse, ApiError> {
    let user_id = holder(&state, bearer).await?.user_id;
    Ok((
        [(X_USER_ID, HeaderValue::from(user_id))],
        [(CACHE_CONTROL, "no-store")],
        Extension(UserId(user_id)),
    ))
}

/// The same, for gateways that append the path that the client asks for.
///
/// Any method, not only `GET`. `rest` may be empty and may hold slashes, and is not looked at.
#[utoipa::path(
    get,
    path = "/v1.0/forward-auth/{rest}",
    operation_id = "forward_auth_below",
    tag = "gateways",
    security(("bearer" = [])),
    params(("rest" = String, Path, description = "Anything")),
    responses(
        (status = 200, description = "As for `/v1.0/forward-auth`", headers(
            ("X-User-Id" = i64, description = "`users.id`"))),
        (status = 401, description = "As for `/v1.0/forward-auth`"),
        (status = 503, description = "As for `/v1.0/forward-auth`"),
    )
)]
#[expect(dead_code, reason = "the documentation of a route of `forward_auth`")]
fn document_below() {}
