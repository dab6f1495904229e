//! API version 1.0: a table of contents. One file per resource, read from top to bottom.
//!
//! Each handler names its whole path: routers that are nested cut it anew for every request.

pub(super) mod forward_auth;
mod token;
mod user;
mod users;

use utoipa_axum::router::OpenApiRouter;

use super::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .merge(user::router())
        .merge(users::router())
        .merge(token::router())
        .merge(forward_auth::router())
}
