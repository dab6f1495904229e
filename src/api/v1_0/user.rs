//! What a user does for himself.

mod account;
mod auth;
mod password;
mod sessions;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::AppState;

pub(super) use self::auth::{X_USER_ID, holder};

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(auth::log_in, auth::check, auth::log_out))
        .routes(routes!(account::get_user))
        .routes(routes!(password::change_password))
        .routes(routes!(sessions::list_sessions, sessions::end_sessions))
        .routes(routes!(sessions::end_session))
}
