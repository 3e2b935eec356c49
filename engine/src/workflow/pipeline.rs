//! A pipeline's spec to a graph.

use crate::graph::{Graph, Input, Node, OnError, Role};
use crate::spec::Pipeline;
use crate::spec::model::{Endpoint, ErrorPolicy, From};

/// The graph of a pipeline.
pub fn graph(spec: &Pipeline) -> Graph {
    let mut graph = Graph::new(&spec.name);
    graph.options.on_error = policy(spec.on_error);
    graph.options.tolerated = spec.tolerated;
    graph.options.rate_limits = spec.rate_limits.clone();
    graph.options.budget = spec.budget;
    graph.options.epoch_every = spec.epoch_every;
    graph.options.checkpoints = spec.checkpoints.clone();
    graph.options.delivery = spec.delivery;
    graph.options.memory = spec.memory.unwrap_or(graph.options.memory);
    graph.options.dead_letters = spec.dead_letters.as_ref().map(|d| d.id.clone());
    graph.nodes.extend(spec.sources.iter().map(|s| endpoint(s, Role::Source(s.connector.clone()))));
    graph.nodes.extend(spec.stages.iter().map(|s| Node {
        id: s.id.clone(),
        role: Role::Stage(s.config.clone()),
        inputs: inputs(&s.from),
        on_error: s.on_error.map(policy),
        on_full: s.on_full.clone(),
        fallback: Vec::new(),
        rate_limit: s.rate_limit.clone(),
        journal: s.journal.clone(),
        lanes: s.lanes,
        admission: None,
        path: s.path.clone(),
    }));
    let sinks = spec.sinks.iter().chain(&spec.dead_letters);
    graph.nodes.extend(sinks.map(|s| endpoint(s, Role::Sink(s.connector.clone()))));
    graph
}

fn endpoint(spec: &Endpoint, role: Role) -> Node {
    Node {
        id: spec.id.clone(),
        role,
        inputs: inputs(&spec.from),
        on_error: spec.on_error.map(policy),
        on_full: spec.on_full.clone(),
        fallback: spec.fallback.clone(),
        rate_limit: None,
        journal: None,
        lanes: spec.lanes,
        admission: None,
        path: spec.path.clone(),
    }
}

fn inputs(from: &[From]) -> Vec<Input> {
    from.iter().map(|f| Input { node: f.id.clone(), port: f.port.clone() }).collect()
}

fn policy(spec: ErrorPolicy) -> OnError {
    match spec {
        ErrorPolicy::Fail => OnError::Fail,
        ErrorPolicy::Drop => OnError::Drop,
        ErrorPolicy::DeadLetter => OnError::DeadLetter,
    }
}
