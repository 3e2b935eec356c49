//! Bourn's sources and sinks, one file or folder each, and the formats they share.
#![forbid(unsafe_code)]

pub mod codec;

pub mod blackhole;
pub mod console;
pub mod file;
pub mod generate;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
pub mod http_server;
pub mod memory;
#[cfg(feature = "nats")]
pub mod nats;
pub mod nexmark;
#[cfg(feature = "object_store")]
pub mod object_store;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "sqlite")]
pub mod sqlite;
#[cfg(feature = "http")]
pub mod sse;
pub mod stdin;
pub mod stdout;
#[cfg(feature = "http")]
pub mod websocket;

pub mod features;
pub mod output;
mod pace;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod sql;
mod staging;
#[cfg(test)]
mod testing;

use bourn_engine::api::Registry;

#[cfg(feature = "object_store")]
pub use crate::object_store::ObjectStore;
pub use blackhole::Blackhole;
pub use console::Console;
pub use file::File;
pub use generate::Generate;
#[cfg(feature = "http")]
pub use http::Http;
#[cfg(feature = "http")]
pub use http_server::HttpServer;
pub use memory::Memory;
#[cfg(feature = "nats")]
pub use nats::Nats;
pub use nexmark::Nexmark;
#[cfg(feature = "postgres")]
pub use postgres::Postgres;
#[cfg(feature = "sqlite")]
pub use sqlite::Sqlite;
#[cfg(feature = "http")]
pub use sse::Sse;
pub use stdin::Stdin;
pub use stdout::Stdout;
#[cfg(feature = "http")]
pub use websocket::Websocket;

/// Adds every connector of this crate.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    let registry = registry
        .connector::<File>()
        .connector::<Stdin>()
        .connector::<Stdout>()
        .connector::<Generate>()
        .connector::<Nexmark>()
        .connector::<Memory>()
        .connector::<Console>()
        .connector::<Blackhole>();
    #[cfg(feature = "object_store")]
    let registry =
        registry.connector::<ObjectStore>().store(object_store::checkpoints::SCHEMES, object_store::checkpoints::read);
    #[cfg(feature = "sqlite")]
    let registry = registry.connector::<Sqlite>();
    #[cfg(feature = "nats")]
    let registry = registry.connector::<Nats>();
    #[cfg(feature = "postgres")]
    let registry = registry.connector::<Postgres>();
    #[cfg(feature = "http")]
    let registry = registry.connector::<Http>().connector::<HttpServer>().connector::<Sse>().connector::<Websocket>();
    registry
}
