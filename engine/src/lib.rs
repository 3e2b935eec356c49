//! Bourn's engine: a spec becomes a graph, the graph a plan, the plan tasks joined by bounded channels that carry Arrow batches.
#![forbid(unsafe_code)]

pub mod api;
pub mod call;
pub mod checkpoint;
pub mod data;
pub mod diagnostic;
pub mod embed;
pub mod engine;
pub mod env;
pub mod error;
pub mod graph;
pub mod journal;
pub mod metrics;
pub mod plan;
pub mod runtime;
pub mod spec;
pub mod state;
#[cfg(feature = "testing")]
pub mod testing;
pub mod time;
pub mod workflow;

pub use engine::Engine;
pub use error::{Error, Kind, Result, Retry};
