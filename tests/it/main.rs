//! The integration tests: one binary, since each would link the whole service again. The modules mirror what they test.

// The attribute tells clippy that functions beside the tests may unwrap like the tests.
#[cfg(test)]
mod common;
#[cfg(test)]
mod config;
#[cfg(test)]
mod store;
