//! A request of an administrator.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use super::{Bearer, ClientAddress};
use crate::api::AppState;
use crate::api::error::ApiError;
use crate::store::audit::Author;
use crate::telemetry::RequestId;

/// Whoever may manage users. Read from the database for every request, never from the session: who was disabled or demoted is
/// refused at once.
#[derive(Debug)]
pub struct Admin {
    /// `users.id`.
    pub id: i64,
    /// The same, as the audit trail has it.
    pub author: Author,
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        let Bearer(token) = Bearer::from_request_parts(parts, state).await?;
        let user = state.authenticator().administrator(&token).await?;
        let trusted = &state.config().server.trusted_proxies;
        let client = ClientAddress::of(&parts.extensions, &parts.headers, trusted);
        let author = Author::user(
            user.id,
            client.map(|client| client.address),
            RequestId::current().text().map(str::to_owned),
        );
        Ok(Self {
            id: user.id,
            author,
        })
    }
}
