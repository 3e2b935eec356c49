//! Specs of workflows and pipelines to graphs: a run is a row, a step adds a column.

pub mod attempts;
pub mod chain;
pub mod context;
pub mod dependencies;
pub mod mode;
pub mod pipeline;
pub mod record;
pub mod result;

mod admit;
mod cached;
mod checked;
mod collect;
mod columns;
mod course;
mod document;
mod documents;
mod fail_fast;
mod gather;
mod items;
mod journaled;
mod nested;
mod rest;
mod rows;
mod staged;
mod start;
mod step;
mod step_call;
mod step_stage;
mod wait;
mod wiring;

pub use admit::check_input;
pub use chain::{Runs, run_id};
pub use dependencies::{Dependencies, dependencies, redundant};
pub use mode::{Analysis, analyze};

use crate::graph::Graph;
use crate::spec::{Loaded, Spec};

/// The graph of a spec. `runs` says where the inputs of a workflow come from; a pipeline has its own sources. The last
/// node of a workflow's graph is `@result`, with one document for each run; the caller adds the sink that reads it.
pub fn compile(loaded: &Loaded, runs: &Runs) -> Graph {
    let mut graph = match &loaded.spec {
        Spec::Pipeline(spec) => pipeline::graph(spec, runs.cache.as_ref()),
        Spec::Chain(spec) => chain::graph(spec, loaded.document.name(), runs),
    };
    graph.options.secrets = loaded.document.secrets().clone();
    graph
}
