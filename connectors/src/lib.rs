//! Bourn's sources and sinks, one file or folder each, and the formats they share.
#![forbid(unsafe_code)]

pub mod codec;
pub mod file;
#[cfg(test)]
mod testing;

use bourn_engine::api::Registry;

/// Adds every connector of this crate.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry.connector::<file::File>()
}
