//! What machines ask about a token, and end it by: registered clients only.

mod introspect;
mod revoke;

use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::api::AppState;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(introspect::introspect))
        .routes(routes!(revoke::revoke))
}

/// The token in question.
#[derive(ToSchema)]
#[expect(
    dead_code,
    reason = "the documentation of TokenForm, which is read by hand to tell a token that is there twice"
)]
pub(crate) struct TokenRequest {
    /// The `access_token` of a login.
    #[schema(example = "clv_3q2-7wAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA0aBcDe")]
    token: String,
    /// Ignored: there is one kind of token only.
    #[schema(example = "access_token", nullable = false)]
    token_type_hint: Option<String>,
}
