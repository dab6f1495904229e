//! How a body is written, and what it holds.

use axum::body::{Body, HttpBody};
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use http_body_util::BodyExt;
use percent_encoding::percent_decode_str;
use zeroize::Zeroizing;

use crate::api::error::ApiError;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Json,
    Form,
}

impl Encoding {
    /// What `Content-Type` says, whatever its parameters. `None` for anything else.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(CONTENT_TYPE)?.to_str().ok()?;
        let essence = value.split(';').next().unwrap_or_default().trim();
        if essence.eq_ignore_ascii_case("application/json") {
            Some(Self::Json)
        } else if essence.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
            Some(Self::Form)
        } else {
            None
        }
    }
}

/// Reads a body, of which at most `limit` bytes are taken. The time that this may take is bounded by the layer that bounds
/// the whole request.
pub(super) async fn read(mut body: Body, limit: usize) -> Result<Zeroizing<Vec<u8>>, ApiError> {
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > limit {
        return Err(ApiError::PayloadTooLarge);
    }
    // Never grown, so that no copy of a password is left behind in freed memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(if body.size_hint().exact().is_some() {
        announced
    } else {
        limit
    }));
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| malformed("The body was cut off."))?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if bytes.len() + data.len() > limit {
            return Err(ApiError::PayloadTooLarge);
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes)
}

/// Decodes a name or value of a form, strictly: replacing what is no UTF-8 would check another password than was sent.
pub(super) fn decode(text: &str) -> Result<String, ApiError> {
    let spaced = Zeroizing::new(text.replace('+', " "));
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(decoded) => Ok(decoded.into_owned()),
        Err(_) => Err(malformed("The form is not UTF-8.")),
    }
}

pub(super) fn malformed(reason: &str) -> ApiError {
    ApiError::MalformedBody(reason.to_owned())
}
