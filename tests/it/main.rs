//! The integration tests: one binary, since each would link the whole service again. The modules mirror what they test.

// The attribute tells clippy that functions beside the tests may unwrap like the tests.
#[cfg(test)]
mod architecture;
#[cfg(test)]
mod cli;
#[cfg(test)]
mod common;
#[cfg(test)]
mod config;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod consumers;
#[cfg(test)]
mod docker;
#[cfg(test)]
mod eviction;
#[cfg(test)]
mod gateways;
#[cfg(test)]
mod hash_gate;
#[cfg(test)]
mod history;
#[cfg(test)]
mod inherited;
#[cfg(test)]
mod logs;
#[cfg(test)]
mod metrics;
#[cfg(test)]
mod nginx;
#[cfg(test)]
mod oauth;
#[cfg(test)]
mod ops;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod redis_contract;
#[cfg(test)]
mod routing;
#[cfg(test)]
mod shutdown;
#[cfg(test)]
mod startup;
#[cfg(test)]
mod store;
#[cfg(test)]
mod topologies;
#[cfg(test)]
mod traces;
#[cfg(test)]
mod upgrade;
#[cfg(test)]
mod v1_0;
