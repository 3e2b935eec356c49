//! Jobs of the command that are killed in the middle, by SIGKILL, and started again.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests look at the command from outside")]
#![expect(clippy::unwrap_used, reason = "what the tests share is no test for clippy")]

#[cfg(feature = "http")]
mod backoffs;
#[cfg(all(feature = "http", feature = "redis"))]
mod cache;
mod http;
#[cfg(all(feature = "http", feature = "redis"))]
mod limits;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "object_store")]
mod object_store;
mod paid;
mod races;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;
#[cfg(all(feature = "object_store", feature = "postgres"))]
mod torture;
#[cfg(feature = "http")]
mod workflows;

#[cfg(any(feature = "nats", feature = "object_store", feature = "postgres", feature = "redis"))]
#[allow(dead_code, reason = "the tests of connectors use more of it")]
#[path = "../../../connectors/tests/servers/support/program.rs"]
mod program;

#[cfg(feature = "object_store")]
#[allow(dead_code, reason = "the tests of connectors use more of it")]
#[path = "../../../connectors/tests/servers/support/weed.rs"]
mod weed;

#[cfg(feature = "postgres")]
#[allow(dead_code, reason = "the tests of connectors use more of it")]
#[path = "../../../connectors/tests/servers/support/postgres.rs"]
mod postgres;

#[cfg(all(feature = "http", feature = "redis"))]
#[path = "../../../connectors/tests/servers/support/valkey.rs"]
mod valkey;

/// What a server's support waits with.
#[cfg(feature = "postgres")]
mod job {
    pub use crate::support::until;
}
