//! Jobs of the command that are killed in the middle, by SIGKILL, and started again.
#![expect(clippy::disallowed_methods, clippy::disallowed_types, reason = "the tests look at the command from outside")]
#![expect(clippy::unwrap_used, reason = "what the tests share is no test for clippy")]

#[cfg(feature = "http")]
mod http;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "sqlite")]
mod sqlite;
mod support;

#[cfg(feature = "nats")]
#[allow(dead_code, reason = "the tests of connectors use more of it")]
#[path = "../../../connectors/tests/servers/support/program.rs"]
mod program;
