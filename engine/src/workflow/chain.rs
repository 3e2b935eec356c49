//! A workflow of steps to a graph: a node for each step, a gather wherever branches meet, a document at the end.

use std::collections::HashMap;
use std::sync::Arc;

use super::admit::AdmitConfig;
use super::gather::GatherConfig;
use super::result::{ResultConfig, StepShape};
use super::step::StepConfig;
use crate::api::OnFull;
use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::diagnostic::Key;
use crate::env::Env;
use crate::graph::{Graph, Input, Node, Role};
use crate::spec::Chain;
use crate::spec::model::Step;

/// Runs that may be under way at once when the caller says nothing.
const ADMISSION: usize = 1_000;

/// Where the inputs of runs come from.
#[derive(Clone)]
pub struct Runs {
    /// A source of lines, each the input of a run as JSON: the column `text`, and `file` and `number` if it has them.
    pub source: BoxConnector,
    /// Its id in the graph, which is part of what a run's id is made of.
    pub source_id: String,
    /// The id of the run, when there is one, started by hand; see [`run_id`].
    pub id: Option<String>,
    /// How many runs may be under way at once.
    pub admission: usize,
}

impl Runs {
    /// One run for each line of a source.
    pub fn of(source_id: impl Into<String>, source: BoxConnector) -> Self {
        Self { source, source_id: source_id.into(), id: None, admission: ADMISSION }
    }

    /// One run with an id of its own.
    #[must_use]
    pub fn with_id(self, id: impl Into<String>) -> Self {
        Self { id: Some(id.into()), ..self }
    }
}

/// An id for a run that is started by hand: a `UUIDv7`, so that ids sort by time.
pub fn run_id(env: &Env) -> String {
    let millis = u64::try_from(env.wall().0 / 1_000).unwrap_or_default();
    let mut random = [0; 10];
    random[..8].copy_from_slice(&env.random().to_le_bytes());
    random[8..].copy_from_slice(&env.random().to_le_bytes()[..2]);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid().to_string()
}

/// The graph of a workflow; `file` is the name of its spec. The last node is `@result`.
pub fn graph(spec: &Chain, file: &str, runs: &Runs) -> Graph {
    let mut graph = Graph::new(&spec.name);
    graph.options.rate_limits = spec.rate_limits.clone();
    let mut source = node(&runs.source_id, Role::Source(runs.source.clone()), Vec::new(), Vec::new());
    source.admission = Some(runs.admission);
    graph.nodes.push(source);
    let admit = AdmitConfig {
        workflow: spec.name.clone(),
        source: runs.source_id.clone(),
        run_id: runs.id.clone(),
        input: spec.input.clone(),
    };
    let mut wiring = Wiring { graph, gathers: HashMap::new() };
    wiring.stage("@admit", BoxStageConfig::new(admit), vec![runs.source_id.clone()], vec!["input".into()]);
    let order = order(&spec.steps);
    let mut before = "@admit".to_owned();
    for step in order.iter().map(|at| &spec.steps[*at]) {
        let needs: Vec<String> = step.needs.iter().map(|at| spec.steps[*at].id.clone()).collect();
        let from = match needs.as_slice() {
            _ if !spec.optimization.parallel_where_possible => before.clone(),
            [] => "@admit".to_owned(),
            needs => wiring.gather(needs),
        };
        let config = StepConfig::new(step, needs, spec.optimization.max_concurrency);
        let mut node = node(&step.id, Role::Stage(BoxStageConfig(Arc::new(config))), vec![from], step.path.clone());
        node.rate_limit.clone_from(&step.rate_limit);
        wiring.graph.nodes.push(node);
        before.clone_from(&step.id);
    }
    let ends = if spec.optimization.parallel_where_possible { leaves(&spec.steps) } else { vec![before] };
    let last = wiring.gather(&ends);
    let config =
        ResultConfig { workflow: spec.name.clone(), file: file.to_owned(), steps: shapes(spec), format: spec.format };
    wiring.stage("@result", BoxStageConfig::new(config), vec![last], Vec::new());
    wiring.graph
}

struct Wiring {
    graph: Graph,
    /// The node that joins each pair that was joined before.
    gathers: HashMap<(String, String), String>,
}

impl Wiring {
    fn stage(&mut self, id: &str, config: BoxStageConfig, from: Vec<String>, path: Vec<Key>) {
        self.graph.nodes.push(node(id, Role::Stage(config), from, path));
    }

    /// The node whose rows have the columns of all of these: itself if it is one, a cascade of joins otherwise.
    fn gather(&mut self, ids: &[String]) -> String {
        let mut left = ids.first().cloned().unwrap_or_else(|| "@admit".to_owned());
        for right in ids.iter().skip(1) {
            let pair = (left.clone(), right.clone());
            if let Some(known) = self.gathers.get(&pair) {
                left.clone_from(known);
                continue;
            }
            // `@` and `+` stand in no id of a step, so it is the only one of this name.
            let id = format!("@{}+{right}", left.trim_start_matches('@'));
            self.stage(&id, BoxStageConfig::new(GatherConfig {}), vec![left, right.clone()], Vec::new());
            self.gathers.insert(pair, id.clone());
            left = id;
        }
        left
    }
}

fn node(id: &str, role: Role, from: Vec<String>, path: Vec<Key>) -> Node {
    let inputs = from.into_iter().map(|node| Input { node, port: None }).collect();
    let (fallback, rate_limit) = (Vec::new(), None);
    let (on_error, on_full, lanes, admission) = (None, OnFull::Block, None, None);
    Node { id: id.to_owned(), role, inputs, on_error, on_full, fallback, rate_limit, lanes, admission, path }
}

/// The steps, each behind those that it needs; otherwise as in the spec.
fn order(steps: &[Step]) -> Vec<usize> {
    let mut placed = vec![false; steps.len()];
    let mut order = Vec::new();
    while order.len() < steps.len() {
        let ready = |at: &usize| !placed[*at] && steps[*at].needs.iter().all(|need| placed[*need]);
        let next = (0..steps.len()).find(ready).expect("steps without a cycle have a next one");
        placed[next] = true;
        order.push(next);
    }
    order
}

/// The steps that no other one needs.
fn leaves(steps: &[Step]) -> Vec<String> {
    let needed = |at: usize| steps.iter().any(|s| s.needs.contains(&at));
    (0..steps.len()).filter(|at| !needed(*at)).map(|at| steps[at].id.clone()).collect()
}

fn shapes(spec: &Chain) -> Vec<StepShape> {
    let id = |at: &usize| spec.steps[*at].id.clone();
    spec.steps.iter().map(|s| StepShape { id: s.id.clone(), needs: s.needs.iter().map(id).collect() }).collect()
}
