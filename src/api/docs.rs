//! `/openapi.json`, and `/docs`: the same for people. All assets are embedded, so that it works offline.

use std::sync::Arc;

use axum::Router;
use axum::extract::Path;
use axum::extract::rejection::PathRejection;
use axum::http::header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use utoipa::openapi::OpenApi;
use utoipa_swagger_ui::Config;

use super::AppState;
use super::error::ApiError;

/// The page refers to everything relative to itself, so that it works behind any prefix, and holds no script of its own,
/// so that the policy can forbid such.
const PAGE: &str = r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>Claviger</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"#;

const START: &str = r##"SwaggerUIBundle({ url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true });
"##;

/// Swagger UI writes style attributes, and draws with embedded images.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The paths of [`router`]: they stand in no document.
pub(super) const PATHS: [&str; 4] = ["/openapi.json", "/docs", "/docs/start.js", "/docs/{asset}"];

pub(super) fn router(openapi: &OpenApi, with_page: bool) -> Router<AppState> {
    let [document_path, page_path, start_path, asset_path] = PATHS;
    let document: Arc<str> = openapi.to_json().unwrap_or_default().into();
    let serve_document = async move || ([(CONTENT_TYPE, "application/json")], document.to_string());
    let router = Router::new().route(document_path, get(serve_document));
    if !with_page {
        return router;
    }
    router
        .route(
            page_path,
            get(async || ([(CONTENT_SECURITY_POLICY, POLICY)], Html(PAGE))),
        )
        .route(
            start_path,
            get(async || ([(CONTENT_TYPE, "text/javascript")], START)),
        )
        .route(asset_path, get(asset))
}

async fn asset(name: Result<Path<String>, PathRejection>) -> Result<Response, ApiError> {
    // What is no UTF-8 names no file.
    let Path(name) = name.map_err(|_| ApiError::NotFound)?;
    let file = utoipa_swagger_ui::serve(&name, Arc::new(Config::default()))
        .map_err(|_| ApiError::Internal)?;
    let file = file.ok_or(ApiError::NotFound)?;
    Ok(([(CONTENT_TYPE, file.content_type)], file.bytes.into_owned()).into_response())
}
