//! A workflow of steps to a graph: a node for each step, a gather wherever branches meet, a document at the end.

use std::collections::HashMap;
use std::sync::Arc;

use super::admit::AdmitConfig;
use super::collect::CollectConfig;
use super::gather::GatherConfig;
use super::items::ItemsConfig;
use super::journaled::{Journaled, What};
use super::result::{Part, ResultConfig, StepShape};
use super::start::Start;
use super::step::StepConfig;
use crate::api::OnFull;
use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::diagnostic::Key;
use crate::env::Env;
use crate::graph::{Graph, Input, Node, Role};
use crate::journal::{Asked, Durability, Journal, Wait};
use crate::spec::Chain;
use crate::spec::model::{ForEach, Starts, Step};

/// Runs that may be under way at once when the caller says nothing. Those that wait for the disk together share its time.
const ADMISSION: usize = 4_096;

/// Where the inputs of runs come from.
#[derive(Clone)]
pub struct Runs {
    /// A source of lines, each the input of a run as JSON: the column `text`, and `file` and `number` if it has them.
    pub source: BoxConnector,
    /// Its id in the graph, which is part of what a run's id is made of.
    pub source_id: String,
    /// The id of the run, when there is one, started by hand; see [`run_id`].
    pub id: Option<String>,
    /// The number of the first one: not 0 when it is a later run of a job that goes on.
    pub first: u64,
    /// How many runs may be under way at once.
    pub admission: usize,
    /// Where it is kept what they have done; nowhere if none, and then a crash loses them.
    pub journal: Option<JobJournal>,
}

/// A journal and which of its jobs this one is.
#[derive(Clone)]
pub struct JobJournal {
    /// Where runs are kept.
    pub journal: Arc<dyn Journal>,
    /// Counts the jobs of the journal, from 1; another job with the same lines has other runs.
    pub job: u64,
}

impl Runs {
    /// One run for each line of a source.
    pub fn of(source_id: impl Into<String>, source: BoxConnector) -> Self {
        Self { source, source_id: source_id.into(), id: None, first: 0, admission: ADMISSION, journal: None }
    }

    /// A later run of a job: this one alone.
    #[must_use]
    pub fn beginning_at(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// Runs that are kept in a journal.
    #[must_use]
    pub fn with_journal(self, journal: Arc<dyn Journal>, job: u64) -> Self {
        Self { journal: Some(JobJournal { journal, job }), ..self }
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
        job: runs.journal.as_ref().map_or(1, |j| j.job),
        first: runs.first,
        input: spec.input.clone(),
    };
    let journal = runs.journal.as_ref().map(|j| j.journal.clone()).filter(|_| spec.optimization.state_persistence);
    let asked = journal.as_ref().map(|journal| journal.asked()).unwrap_or_default();
    let mut wiring = Wiring { graph, gathers: HashMap::new(), last: HashMap::new(), kept: Vec::new(), asked };
    wiring.stage("@admit", BoxStageConfig::new(admit), vec![runs.source_id.clone()], vec!["input".into()]);
    let mut first = "@admit".to_owned();
    if let Some(journal) = &journal {
        // A run that somebody has started by hand was promised to them; one of a stream is read again.
        let wait = if runs.id.is_some() { Wait::Durable } else { Wait::No };
        first = wiring.journaled("@begin", journal, What::Start(wait), first, Vec::new());
    }
    let (order, leaves) = (order(&spec.steps), leaves(&spec.steps));
    let mut before = first.clone();
    for at in order {
        let step = &spec.steps[at];
        let ids = |places: &[usize]| places.iter().map(|at| spec.steps[*at].id.clone()).collect::<Vec<_>>();
        let needs = ids(&step.needs);
        let from = match needs.as_slice() {
            _ if !spec.optimization.parallel_where_possible => before.clone(),
            [] => first.clone(),
            needs => wiring.gather(needs, &first),
        };
        let start = Start::of(spec, at);
        let items = step.for_each.as_ref().map(|each| wiring.items(step, each, &start, ids(&step.reads), from.clone()));
        let mut reads = items.unwrap_or_else(|| from.clone());
        for (fallback, (config, work)) in StepConfig::all(spec, at, &start, journal.as_ref()).into_iter().enumerate() {
            let id = if fallback == 0 { step.id.clone() } else { format!("@fallback:{}:{fallback}", step.id) };
            let mut node = node(&id, Role::Stage(BoxStageConfig(Arc::new(config))), vec![reads], step.path.clone());
            node.rate_limit = work.rate_limit;
            wiring.graph.nodes.push(node);
            reads = id;
        }
        let done = reads;
        before.clone_from(&done);
        if let Some(each) = &step.for_each {
            let kept = journal.as_ref().filter(|_| spec.durability != Durability::Exit);
            let wait = if spec.durability == Durability::Sync { Wait::Durable } else { Wait::No };
            before = wiring.collect(step, each, kept.map(|journal| (journal, wait)), from, done);
        }
        // The end of the run is durable only after all that was appended before it, so nobody waits for the last steps alone.
        let wait = match spec.durability {
            Durability::Sync if !leaves.contains(&step.id) => Some(Wait::Durable),
            Durability::Async if !leaves.contains(&step.id) => Some(Wait::No),
            _ => None,
        };
        if let (Some(journal), Some(wait)) = (&journal, wait) {
            let what = What::Step(step.id.as_str().into(), wait);
            before = wiring.journaled(&format!("@kept:{}", step.id), journal, what, before, step.path.clone());
        }
        wiring.last.insert(step.id.clone(), before.clone());
        if wait.is_some() {
            wiring.kept.push(step.id.clone());
        }
    }
    let ends = if spec.optimization.parallel_where_possible { leaves.clone() } else { vec![before] };
    let mut last = wiring.gather(&ends, &first);
    if let Some(journal) = &journal {
        let ids = |steps: Vec<&String>| steps.into_iter().map(|id| Arc::from(id.as_str())).collect();
        let steps: Vec<&String> = spec.steps.iter().map(|s| &s.id).collect();
        let told = steps.iter().copied().filter(|id| !wiring.kept.contains(*id)).collect();
        let what = What::End { steps: ids(steps), told: ids(told) };
        last = wiring.journaled("@end", journal, what, last, Vec::new());
    }
    let config = ResultConfig {
        workflow: spec.name.clone(),
        file: file.to_owned(),
        steps: shapes(spec),
        format: spec.format,
        first: runs.first,
        kept: journal.is_some(),
    };
    wiring.stage("@result", BoxStageConfig::new(config), vec![last], Vec::new());
    wiring.graph
}

struct Wiring {
    graph: Graph,
    /// The node that joins each pair that was joined before.
    gathers: HashMap<(String, String), String>,
    /// The node behind a step whose rows may be read, where it is not the step itself.
    last: HashMap<String, String>,
    /// The steps that the journal is told of behind themselves, not only at the end.
    kept: Vec<String>,
    asked: Asked,
}

impl Wiring {
    fn stage(&mut self, id: &str, config: BoxStageConfig, from: Vec<String>, path: Vec<Key>) {
        self.graph.nodes.push(node(id, Role::Stage(config), from, path));
    }

    /// A node where the journal is asked or told.
    fn journaled(&mut self, id: &str, journal: &Arc<dyn Journal>, what: What, from: String, path: Vec<Key>) -> String {
        let config = Journaled { journal: journal.clone(), what };
        self.stage(id, BoxStageConfig(Arc::new(config)), vec![from], path);
        id.to_owned()
    }

    /// The rows of the elements that a step goes through.
    fn items(&mut self, step: &Step, each: &ForEach, start: &Start, carried: Vec<String>, from: String) -> String {
        let config = ItemsConfig {
            id: step.id.as_str().into(),
            carried,
            start: start.clone(),
            list: each.list.clone(),
            name: each.name.clone(),
            asked: self.asked.clone(),
        };
        let id = format!("@items:{}", step.id);
        self.stage(&id, BoxStageConfig(Arc::new(config)), vec![from], step.path.clone());
        id
    }

    /// The run again, when all elements have ended.
    fn collect(
        &mut self,
        step: &Step,
        each: &ForEach,
        kept: Option<(&Arc<dyn Journal>, Wait)>,
        from: String,
        mut items: String,
    ) -> String {
        if let Some((journal, wait)) = kept {
            let what = What::Step(step.id.as_str().into(), wait);
            items = self.journaled(&format!("@kept:{}[]", step.id), journal, what, items, step.path.clone());
        }
        let (all, with) = (format!("@all:{}", step.id), format!("@with:{}", step.id));
        let config = CollectConfig { step: step.id.clone(), tolerated: each.tolerated.0 };
        self.stage(&all, BoxStageConfig::new(config), vec![items], step.path.clone());
        self.stage(&with, BoxStageConfig::new(GatherConfig {}), vec![from, all], step.path.clone());
        with
    }

    /// The node whose rows have the columns of all of these: itself if it is one, a cascade of joins otherwise.
    fn gather(&mut self, ids: &[String], first: &str) -> String {
        let ids: Vec<String> = ids.iter().map(|id| self.last.get(id).unwrap_or(id).clone()).collect();
        let mut left = ids.first().cloned().unwrap_or_else(|| first.to_owned());
        for right in ids.iter().skip(1) {
            let pair = (left.clone(), right.clone());
            if let Some(known) = self.gathers.get(&pair) {
                left.clone_from(known);
                continue;
            }
            // `@` and `+` stand in no id of a step, so it is the only one of this name.
            let name = |id: &str| {
                let bare = ["@kept:", "@with:", "@fallback:"].iter().find_map(|prefix| id.strip_prefix(prefix));
                bare.unwrap_or_else(|| id.trim_start_matches('@')).to_owned()
            };
            let id = format!("@{}+{}", name(&left), name(right));
            self.stage(&id, BoxStageConfig::new(GatherConfig {}), vec![left, right.clone()], Vec::new());
            self.gathers.insert(pair, id.clone());
            left = id;
        }
        left
    }
}

fn node(id: &str, role: Role, from: Vec<String>, path: Vec<Key>) -> Node {
    let inputs = from.into_iter().map(|node| Input { node, port: None }).collect();
    let (fallback, rate_limit, journal) = (Vec::new(), None, None);
    let (on_error, on_full, lanes, admission) = (None, OnFull::Block, None, None);
    Node { id: id.to_owned(), role, inputs, on_error, on_full, fallback, rate_limit, journal, lanes, admission, path }
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

pub(super) fn shapes(spec: &Chain) -> Vec<StepShape> {
    let id = |at: &usize| spec.steps[*at].id.clone();
    let part = |starts| match starts {
        Starts::Completed => Part::Step,
        Starts::Finally => Part::Finally,
        Starts::Undo(of) => Part::Undo(id(&of)),
    };
    let shape =
        |s: &Step| StepShape { id: s.id.clone(), needs: s.needs.iter().map(id).collect(), part: part(s.starts) };
    spec.steps.iter().map(shape).collect()
}
