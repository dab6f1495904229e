//! `GET /`: something answers.

use axum::Json;
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct Hello {
    #[schema(example = "world")]
    hello: &'static str,
}

/// Greets, so that a person with a browser sees that the service is there.
#[utoipa::path(get, path = "/", tag = "service", responses((status = 200, description = "A greeting", body = Hello)))]
pub(super) async fn hello() -> Json<Hello> {
    Json(Hello { hello: "world" })
}
