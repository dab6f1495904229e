//! The id under which a request is found in the log.

use axum::http::{HeaderMap, HeaderName, HeaderValue};

/// `X-Request-Id`.
pub(super) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// Longer than any scheme in use, short enough for a log line.
const MAX_LENGTH: usize = 64;

/// The id that the caller sent, if it is one that may stand in a log and in a header, or else a new one.
pub(super) fn of(headers: &HeaderMap) -> HeaderValue {
    headers
        .get(HEADER)
        .filter(|value| is_acceptable(value.as_bytes()))
        .cloned()
        .unwrap_or_else(new)
}

fn is_acceptable(id: &[u8]) -> bool {
    let plain =
        |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    (1..=MAX_LENGTH).contains(&id.len()) && id.iter().all(plain)
}

/// 128 random bits in hexadecimal. They have to be unique, not secret, so the thread's generator is enough.
fn new() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut bits: u128 = rand::random();
    let mut id = [0; 32];
    for digit in &mut id {
        *digit = DIGITS.get((bits & 15) as usize).copied().unwrap_or(b'0');
        bits >>= 4;
    }
    HeaderValue::from_bytes(&id).unwrap_or(HeaderValue::from_static("unknown"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_id_is_kept_and_any_other_replaced() {
        let of = |id: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(id.as_bytes()).unwrap());
            of(&headers).to_str().unwrap().to_owned()
        };
        let longest = "a".repeat(MAX_LENGTH);
        for id in [
            "1",
            "0af7651916cd43dd8448eb211c80319c",
            "a-b_c.d:e",
            &longest,
        ] {
            assert_eq!(of(id), id);
        }
        let too_long = "a".repeat(MAX_LENGTH + 1);
        for id in ["", " ", "a b", "a\"b", "\u{e4}", "{}", &too_long] {
            let made = of(id);
            assert_ne!(made, id);
            assert_eq!(made.len(), 32);
            assert!(made.bytes().all(|byte| byte.is_ascii_hexdigit()));
        }
    }
}
