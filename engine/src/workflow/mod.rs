//! Specs of workflows and pipelines to graphs: a run is a row, a step adds a column.

pub mod analysis;
pub mod anew;
pub mod attempts;
pub mod chain;
pub mod context;
pub mod decisions;
pub mod dependencies;
pub mod mode;
pub mod pipeline;
pub mod record;
pub mod result;

mod admit;
mod artifacts;
mod aside;
mod cached;
mod checked;
mod collect;
mod columns;
mod course;
mod document;
mod documents;
mod elements;
mod fail_fast;
mod finish;
mod gate;
mod gather;
mod items;
mod journaled;
mod lines;
mod nested;
mod paid;
mod passages;
mod recorded;
mod rest;
mod returning;
mod rounds;
mod rows;
mod staged;
mod start;
mod step;
mod step_call;
mod step_stage;
mod verdict;
mod wait;
mod wiring;

pub use admit::check_input;
pub use artifacts::Artifact;
pub use chain::{Runs, run_id};
pub use dependencies::{Dependencies, dependencies, redundant};
pub use mode::{Analysis, analyze};
pub use recorded::Recorded;
pub use verdict::{Difference, Verdict, judge};
pub use wait::is_taken;

use std::sync::Arc;

use crate::api::Cache;
use crate::graph::Graph;
use crate::spec::{Loaded, Pipeline, Spec};

/// The graph of a spec. `runs` says where the inputs of a workflow come from; a pipeline has its own sources. The last
/// node of a workflow's graph is `@result`, with one document for each run; the caller adds the sink that reads it.
pub fn compile(loaded: &Loaded, runs: &Runs) -> Graph {
    match &loaded.spec {
        Spec::Pipeline(spec) => compile_pipeline(loaded, spec, runs.cache.as_ref()),
        Spec::Chain(spec) => hiding(loaded, chain::graph(spec, loaded.document.name(), runs)),
    }
}

/// The graph of a pipeline's spec.
pub fn compile_pipeline(loaded: &Loaded, spec: &Pipeline, cache: Option<&Arc<dyn Cache>>) -> Graph {
    hiding(loaded, pipeline::graph(spec, cache))
}

fn hiding(loaded: &Loaded, mut graph: Graph) -> Graph {
    graph.options.secrets = loaded.document.secrets().clone();
    graph
}
