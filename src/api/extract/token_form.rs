//! The body of a question about a token: a form (RFC 7662, section 2.1; RFC 7009, section 2.1).

use axum::extract::{FromRequest, Request};
use zeroize::Zeroizing;

use super::body::{Encoding, decode, malformed, read};
use super::fields::{Fields, Value};
use crate::api::AppState;
use crate::api::error::ApiError;

/// The token that a client asks about, as it was sent. `token_type_hint` and what else there is are ignored: there is one kind of
/// token only.
pub struct TokenForm {
    /// Of whatever form.
    pub token: Zeroizing<String>,
}

impl FromRequest<AppState> for TokenForm {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Self::Rejection> {
        let (parts, body) = request.into_parts();
        // Before anything is refused: a connection on which a body is left unread can't be used again.
        let bytes = read(body, state.config().server.body_limit).await?;
        if Encoding::of(&parts.headers) != Some(Encoding::Form) {
            return Err(ApiError::UnsupportedMediaType {
                expected: "application/x-www-form-urlencoded",
            });
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| malformed("The body is not UTF-8."))?;
        let mut fields = Fields::named(["token"]);
        for pair in text.split('&') {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            if let Some(field) = fields.get_mut(&decode(name)?) {
                field.set(Value::Text(Zeroizing::new(decode(value)?)));
            }
        }
        let [token] = fields.check()?;
        Ok(Self { token })
    }
}
