//! Bourn's engine: a spec becomes a graph, the graph a plan, the plan tasks joined by bounded channels that carry Arrow batches.
#![forbid(unsafe_code)]

pub mod api;
pub mod data;
pub mod diagnostic;
pub mod env;
pub mod error;
pub mod graph;
pub mod plan;
pub mod call;
pub mod checkpoint;
pub mod runtime;
pub mod engine;
pub mod metrics;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;

pub use engine::Engine;
pub use error::{Error, Kind, Result, Retry};
