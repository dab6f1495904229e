//! Which registered client sends a request: HTTP Basic, as OAuth 2 has it (RFC 6749, section 2.3.1).

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use super::body::decode;
use crate::api::AppState;
use crate::api::error::ApiError;

/// A client of section `clients`, which has proved that it knows its secret.
///
/// Read from one `Authorization` header only, never from the body, which RFC 6749 allows but does not recommend.
#[derive(Debug)]
pub struct RegisteredClient {
    /// As it stands in the settings.
    pub name: String,
}

impl FromRequestParts<AppState> for RegisteredClient {
    type Rejection = ApiError;

    async fn from_request_parts(
        parts: &mut Parts,
        state: &AppState,
    ) -> Result<Self, Self::Rejection> {
        let pair = basic(&parts.headers).ok_or(ApiError::InvalidClient)?;
        let (name, secret) = pair.split_once(':').ok_or(ApiError::InvalidClient)?;
        let name = decoded(name);
        let client = state.config().clients.get(name.as_str());
        if knows(client.map(|client| &client.secret), secret) {
            Ok(Self {
                name: name.to_string(),
            })
        } else {
            Err(ApiError::InvalidClient)
        }
    }
}

/// What the one header of the scheme Basic holds (RFC 7617): `name:secret`.
fn basic(headers: &HeaderMap) -> Option<Zeroizing<String>> {
    let mut headers = headers.get_all(AUTHORIZATION).iter();
    let header = headers.next()?;
    if headers.next().is_some() {
        // Which of the two a proxy has looked at can't be known.
        return None;
    }
    let (scheme, encoded) = header.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let bytes = Zeroizing::new(STANDARD.decode(encoded.trim_matches(' ')).ok()?);
    let text = std::str::from_utf8(&bytes).ok()?;
    Some(Zeroizing::new(text.to_owned()))
}

/// Without the encoding of forms, or as it is if it can't be in that.
fn decoded(text: &str) -> Zeroizing<String> {
    Zeroizing::new(decode(text).unwrap_or_else(|_| text.to_owned()))
}

/// Whether `sent` is the secret, in a time that tells neither where they differ nor whether there is such a client.
///
/// Many clients, curl among them, leave the encoding out, so the secret as it was sent will do as well: to know that is to know
/// the secret.
fn knows(secret: Option<&SecretString>, sent: &str) -> bool {
    let expected = Sha256::digest(secret.map_or("", |secret| secret.expose_secret()));
    let is_expected = |text: &str| expected.ct_eq(Sha256::digest(text).as_slice());
    let registered = Choice::from(u8::from(secret.is_some()));
    (registered & (is_expected(&decoded(sent)) | is_expected(sent))).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_knows_the_secret_of_nobody() {
        let secret = SecretString::from("a secret of 20 bytes");
        assert!(knows(Some(&secret), "a secret of 20 bytes"));
        assert!(knows(Some(&secret), "a+secret%20of+20+bytes"));
        for wrong in ["", "a secret of 20 byte", "A secret of 20 bytes", "%ff"] {
            assert!(!knows(Some(&secret), wrong), "{wrong}");
        }
        assert!(!knows(None, ""));
        assert!(!knows(None, "a secret of 20 bytes"));
    }

    #[test]
    fn one_header_of_the_scheme_is_read() {
        let with = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            basic(&headers).map(|pair| pair.to_string())
        };
        assert_eq!(with(&["Basic Z2F0ZTp4"]).as_deref(), Some("gate:x"));
        assert_eq!(with(&["basic  Z2F0ZTp4 "]).as_deref(), Some("gate:x"));
        assert_eq!(with(&[]), None);
        assert_eq!(with(&["Basic Z2F0ZTp4", "Basic Z2F0ZTp4"]), None);
        for value in [
            "Basic",
            "Basic Z2F0ZTp4, Basic Z2F0ZTp4",
            "Bearer Z2F0ZTp4",
            "Basic gate:x",
            "Basic /w==",
            "Z2F0ZTp4",
        ] {
            assert_eq!(with(&[value]), None, "{value}");
        }
    }
}
