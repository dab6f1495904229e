//! The domain: who may have a token. No HTTP, no SQL, no Redis commands.

pub mod hash_pool;
pub mod password;
pub mod token;
pub mod username;
