//! The body of a change of one's own password: JSON.

use axum::extract::{FromRequest, Request};
use secrecy::SecretString;

use super::body::{Encoding, read};
use super::fields::Fields;
use crate::api::AppState;
use crate::api::error::ApiError;

/// The password that a user has, and the one that it shall be, as they were sent.
#[derive(Debug)]
pub struct PasswordChange {
    /// Not yet normalised.
    pub current: SecretString,
    /// Not yet normalised.
    pub new: SecretString,
}

impl FromRequest<AppState> for PasswordChange {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        if Encoding::of(&parts.headers) != Some(Encoding::Json) {
            return Err(ApiError::UnsupportedMediaType {
                expected: "application/json",
            });
        }
        let bytes = read(body, state.config().server.body_limit).await?;
        let fields = Fields::from_json(["current_password", "new_password"], &bytes)?;
        let [current, new] = fields.check()?;
        Ok(Self {
            current: SecretString::from(current.as_str()),
            new: SecretString::from(new.as_str()),
        })
    }
}
