//! What handlers ask for in their signature: asking is the check.

mod admin;
mod body;
mod client;
mod client_credentials;
mod credentials;
mod fields;
mod password_change;
mod query;
mod token_form;
mod user_fields;

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;

pub use self::admin::Admin;
pub(super) use self::body::Encoding;
pub use self::client::{Client, ClientAddress};
pub use self::client_credentials::RegisteredClient;
pub use self::credentials::Credentials;
pub use self::password_change::PasswordChange;
pub use self::query::Paging;
pub(super) use self::query::parameter;
pub use self::token_form::TokenForm;
pub use self::user_fields::UserBody;
use super::error::ApiError;
use crate::auth::token::Token;

/// The bearer token of a request, well-formed but not yet looked up.
///
/// Read from one `Authorization` header only (RFC 6750, section 2.1), never from the query string, where it would end in
/// logs and histories.
#[derive(Debug)]
pub struct Bearer(pub Token);

impl<S: Sync> FromRequestParts<S> for Bearer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Self::Rejection> {
        let mut headers = parts.headers.get_all(AUTHORIZATION).iter();
        let header = headers.next().ok_or(ApiError::MissingToken)?;
        if headers.next().is_some() {
            // Which of the two a proxy has looked at can't be known.
            return Err(ApiError::InvalidToken);
        }
        // RFC 9110, section 11.1: the scheme is case-insensitive, and spaces divide it from what follows.
        let (scheme, token) = match header.to_str() {
            Ok(value) => value.split_once(' ').unwrap_or((value, "")),
            Err(_) => return Err(ApiError::InvalidToken),
        };
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(ApiError::MissingToken);
        }
        let token = token.trim_matches(' ');
        if token.is_empty() {
            return Err(ApiError::MissingToken);
        }
        Token::parse(token)
            .map(Self)
            .map_err(|_| ApiError::InvalidToken)
    }
}
