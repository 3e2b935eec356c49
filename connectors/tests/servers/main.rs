//! Connectors against their real servers, which each test starts for itself on loopback.
//!
//! `./test` installs the servers below `target/servers`; without them these tests fail and say so.
#![expect(clippy::unwrap_used, reason = "the support of tests is outside of their functions")]

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "object_store")]
mod object_store;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;
