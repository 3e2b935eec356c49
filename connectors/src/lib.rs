//! Bourn's sources and sinks, one file or folder each, and the formats they share.
#![forbid(unsafe_code)]

pub mod codec;

pub mod blackhole;
pub mod console;
pub mod file;
pub mod generate;
pub mod memory;
pub mod nexmark;
pub mod stdin;
pub mod stdout;

pub mod output;
mod pace;
#[cfg(test)]
mod testing;

use bourn_engine::api::Registry;

/// Adds every connector of this crate.
#[must_use]
pub fn register(registry: Registry) -> Registry {
    registry
        .connector::<file::File>()
        .connector::<stdin::Stdin>()
        .connector::<stdout::Stdout>()
        .connector::<generate::Generate>()
        .connector::<nexmark::Nexmark>()
        .connector::<memory::Memory>()
        .connector::<console::Console>()
        .connector::<blackhole::Blackhole>()
}
