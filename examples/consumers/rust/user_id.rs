//! Who holds a token of Claviger? By GET on Redis, with redis-rs and
//!
//!     cargo add redis --features connection-manager,tokio-rustls-comp
//!     cargo add sha2

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{AsyncCommands, Client, RedisResult};
use sha2::{Digest, Sha256};

/// `clv_[A-Za-z0-9_-]{43}[0-9A-Za-z]{6}`
fn is_token(text: &str) -> bool {
    let random = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let rest = text.strip_prefix("clv_").map(str::as_bytes);
    rest.and_then(|rest| rest.split_at_checked(43))
        .is_some_and(|(token, checksum)| {
            checksum.len() == 6
                && token.iter().copied().all(random)
                && checksum.iter().all(u8::is_ascii_alphanumeric)
        })
}

/// The user's id; `None` is "not logged in". An error is "can't tell": answer 503 then, and never 401.
pub async fn user_id(
    connection: &mut ConnectionManager,
    token: &str,
    key_prefix: &str,
    sha256: bool,
) -> RedisResult<Option<i64>> {
    if !is_token(token) {
        return Ok(None);
    }
    let mut key = token.to_owned();
    if sha256 {
        let hash = Sha256::digest(token);
        key = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    }
    connection.get(format!("{key_prefix}{key}")).await
}

/// A connection for all tasks, to be cloned. It connects anew by itself.
pub async fn connect(url: &str) -> RedisResult<ConnectionManager> {
    let config = ConnectionManagerConfig::new()
        .set_connection_timeout(Some(Duration::from_secs(1)))
        .set_response_timeout(Some(Duration::from_secs(1)))
        .set_number_of_retries(1);
    ConnectionManager::new_with_config(Client::open(url)?, config).await
}
