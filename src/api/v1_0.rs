//! API version 1.0: a table of contents. One file per resource, read from top to bottom.
//!
//! Each handler names its whole path. Routers that are nested would cut it anew for every request, which costs as much as
//! a look into the in-process token store.

mod user;

use utoipa_axum::router::OpenApiRouter;

use super::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().merge(user::router())
}
