//! The integration tests.

// The attribute tells clippy that functions beside the tests may unwrap like the tests.
#[cfg(test)]
mod config;
