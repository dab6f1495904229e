//! API version 1.0: a table of contents. One file per resource, read from top to bottom.

mod user;

use utoipa_axum::router::OpenApiRouter;

use super::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().nest("/user", user::router())
}
