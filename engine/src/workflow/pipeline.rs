//! A pipeline's spec to a graph.

use std::sync::Arc;

use super::course::Begin;
use super::rows::{RowConfig, RunConfig};
use super::wiring::{Place, Wiring, Within};
use crate::api::registry::BoxStageConfig;
use crate::api::{Cache, OnFull};
use crate::data::columns::RESERVED_PREFIX;
use crate::graph::behind::RUNS;
use crate::graph::{Graph, Input, Node, OnError, Role};
use crate::journal::Durability;
use crate::spec::Pipeline;
use crate::spec::model::{Endpoint, ErrorPolicy, From, Nested, Stage};

/// The graph of a pipeline. Steps of workflows in it look into `cache`, or into one in the process.
pub fn graph(spec: &Pipeline, cache: Option<&Arc<dyn Cache>>) -> Graph {
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
    for stage in &spec.stages {
        match &stage.workflow {
            Some(workflow) => graph = workflow_of(graph, stage, workflow, cache),
            None => graph.nodes.push(node(stage)),
        }
    }
    let sinks = spec.sinks.iter().chain(&spec.dead_letters);
    graph.nodes.extend(sinks.map(|s| endpoint(s, Role::Sink(s.connector.clone()))));
    graph
}

fn node(s: &Stage) -> Node {
    Node {
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
    }
}

/// A stage whose rows are runs of a workflow: they get what a run has, pass the steps, and lose it again.
fn workflow_of(
    graph: Graph,
    stage: &Stage,
    (nested, output): &(Nested, String),
    cache: Option<&Arc<dyn Cache>>,
) -> Graph {
    // No column of the engine's begins so, whatever the id is.
    let record = format!("{RESERVED_PREFIX}of_{}", stage.id);
    let mut wiring = Wiring::new(graph, None, Durability::Exit, cache.cloned());
    let first = format!("{RUNS}{}", stage.id);
    let config = BoxStageConfig::new(RunConfig { stage: stage.id.clone() });
    wiring.graph.nodes.push(Node { id: first.clone(), role: Role::Stage(config), ..node(stage) });
    let place = Place {
        id: &record,
        node: stage.id.clone(),
        repeat: None,
        input: &stage.config,
        at_once: None,
        path: stage.path.clone(),
    };
    let own = wiring.graph.nodes.len() - 1;
    let back = wiring.nested(&place, nested, &Begin::at_once(), first, &Within::pipeline());
    // What fails is told by the last node of them: of the others an error is one of the engine.
    for node in &mut wiring.graph.nodes[own..] {
        node.on_error = Some(OnError::Fail);
    }
    let config = BoxStageConfig::new(RowConfig { record, output: output.clone() });
    let inputs = vec![Input { node: back, port: None }];
    let on_full = OnFull::Block;
    wiring.graph.nodes.push(Node { role: Role::Stage(config), inputs, on_full, ..node(stage) });
    wiring.graph
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
