//! A workflow to a graph: where its runs come from, its steps, and a document at the end.

use std::sync::Arc;

use super::admit::AdmitConfig;
use super::decisions::Decides;
use super::documents::ResultConfig;
use super::finish::{FileConfig, OUTPUT};
use super::journaled::What;
use super::lines::may_overlap;
use super::recorded::Recorded;
use super::rest::{self, AtRest, RestConfig};
use super::result::{DocumentConfig, Flags, Part, StepShape};
use super::returning::Returning;
use super::wiring::{Wired, Wiring, Within, node};
use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::api::{Cache, Purses, Usage};
use crate::env::Env;
use crate::graph::{Graph, Input, Role};
use crate::journal::{Durability, Journal, Until, Wait};
use crate::spec::Chain;
use crate::spec::model::{Starts, Step};

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
    /// What the idempotency keys of that run begin with, when it is not the first one of its id; otherwise that is its id.
    pub key: Option<String>,
    /// The number of the first one: not 0 when it is a later run of a job that goes on.
    pub first: u64,
    /// How many runs may be under way at once.
    pub admission: usize,
    /// Whether the job goes on until all its runs have ended, those too that wait for a time or for somebody. Otherwise they come back
    /// for as long as there are inputs, and are left in the journal then.
    pub stays: bool,
    /// When their job began, in microseconds since 1970, where they have ids of their own.
    pub began: Option<i64>,
    /// Where it is kept what they have done; nowhere if none, and then a crash loses them.
    pub journal: Option<JobJournal>,
    /// What runs of the job have spent in earlier processes.
    pub spent: Usage,
    /// The history of the one run, if it is only to be decided again.
    pub recorded: Option<Recorded>,
    /// Where steps look for what was asked before that say `cache`; in the process, if it is not said.
    pub cache: Option<Arc<dyn Cache>>,
    /// What commands that recover them need beside.
    pub flags: Flags,
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
        Self {
            source,
            source_id: source_id.into(),
            id: None,
            key: None,
            first: 0,
            admission: ADMISSION,
            stays: false,
            began: None,
            journal: None,
            spent: Usage::default(),
            recorded: None,
            cache: None,
            flags: Flags::default(),
        }
    }

    /// A later run of a job: this one alone.
    #[must_use]
    pub fn beginning_at(self, first: u64) -> Self {
        Self { first, ..self }
    }

    /// Runs of a job that began then, in microseconds since 1970: those of another job have other ids, wherever it is kept.
    #[must_use]
    pub fn since(self, began: i64) -> Self {
        Self { began: Some(began), ..self }
    }

    /// Runs that are kept in a journal.
    #[must_use]
    pub fn with_journal(self, journal: Arc<dyn Journal>, job: u64) -> Self {
        Self { journal: Some(JobJournal { journal, job }), ..self }
    }

    /// Runs of a job that has spent so much before.
    #[must_use]
    pub fn having_spent(self, spent: Usage) -> Self {
        Self { spent, ..self }
    }

    /// One run that is decided again: what its steps asked is answered by its history, and nobody is asked anything.
    #[must_use]
    pub fn replaying(self, recorded: Recorded) -> Self {
        Self { recorded: Some(recorded), ..self }
    }

    /// Runs of a job that goes on until all of them have ended.
    #[must_use]
    pub fn staying(self, stays: bool) -> Self {
        Self { stays, ..self }
    }

    /// Runs whose steps look there for what was asked before.
    #[must_use]
    pub fn with_cache(self, cache: Arc<dyn Cache>) -> Self {
        Self { cache: Some(cache), ..self }
    }

    /// The same run with idempotency keys of its own.
    #[must_use]
    pub fn with_key(self, key: Option<String>) -> Self {
        Self { key, ..self }
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
    // What was answered was paid for.
    graph.options.budget = spec.budget.filter(|_| runs.recorded.is_none());
    let purses = spec.run_budget.filter(|_| runs.recorded.is_none()).map(Purses::new);
    graph.options.purses.clone_from(&purses);
    let journal = runs.journal.as_ref().map(|j| j.journal.clone()).filter(|_| spec.optimization.state_persistence);
    let rest = journal.as_ref().map(|journal| journal.asked().rest().clone());
    let overlap = journal.is_some() && runs.recorded.is_none() && may_overlap(spec);
    let inputs = match &journal {
        None => runs.source.clone(),
        Some(journal) => {
            let (inputs, journal) = (runs.source.clone(), journal.clone());
            let comes_back = spec.can_wait() || overlap;
            let until = if runs.stays { Some(Until::Ended) } else { comes_back.then_some(Until::Resting) };
            BoxConnector(Arc::new(Returning { inputs, journal, overlap, until }))
        }
    };
    let mut source = node(&runs.source_id, Role::Source(inputs), Vec::new(), Vec::new());
    source.admission = Some(runs.admission);
    graph.nodes.push(source);
    let admit = AdmitConfig {
        workflow: spec.name.clone(),
        source: runs.source_id.clone(),
        run_id: runs.id.clone(),
        job: runs.journal.as_ref().map_or(1, |j| j.job),
        began: runs.began,
        first: runs.first,
        input: spec.input.clone(),
        overlap,
        is_timed: spec.is_timed(),
        timeout: spec.timeout,
        rest: rest.clone(),
    };
    graph.options.kept = journal.is_some().then_some(runs.spent);
    let durability = match spec.durability {
        // Whoever passes a run beside others must find what those have done. A replay is told the same as its journal was.
        Durability::Exit if may_overlap(spec) => Durability::Async,
        durability => durability,
    };
    let mut wiring = Wiring::new(graph, journal.clone(), durability, runs.cache.clone());
    wiring.overlap = overlap;
    wiring.key = runs.key.as_deref().map(Into::into);
    wiring.recorded.clone_from(&runs.recorded);
    wiring.stage("@admit", BoxStageConfig::new(admit), vec![runs.source_id.clone()], vec!["input".into()]);
    let documents = DocumentConfig {
        workflow: spec.name.clone(),
        file: file.to_owned(),
        steps: shapes(spec),
        format: spec.format.clone(),
        output: spec.output.clone(),
        timeout: spec.timeout,
        kept: journal.is_some(),
        flags: runs.flags.clone(),
    };
    let mut first = "@admit".to_owned();
    let mut ends = Vec::new();
    if let Some(journal) = &journal {
        // A run that somebody has started by hand must be known before it asks anybody; one of a stream is read again.
        let wait = if runs.id.is_some() && asks_before_it_is_kept(spec) { Wait::Durable } else { Wait::No };
        let rest = AtRest { documents: documents.clone(), asked: journal.asked(), purses: purses.clone() };
        let begun = wiring.journaled("@begin", What::Start(wait, rest), first.clone(), Vec::new());
        wiring.stage("@rest", BoxStageConfig::new(RestConfig {}), vec![begun], Vec::new());
        "@rest".clone_into(&mut first);
        ends.push(Input { node: first.clone(), port: Some(rest::PORT.to_owned()) });
    }
    let Wired { mut last, kept } = wiring.steps(spec, &Within::outermost(first));
    let ids = |steps: Vec<&String>| steps.into_iter().map(|id| Arc::from(id.as_str())).collect::<Vec<Arc<str>>>();
    let steps: Vec<&String> = spec.steps.iter().map(|s| &s.id).collect();
    let told = ids(steps.iter().copied().filter(|id| !kept.contains(*id)).collect());
    if overlap {
        last = wiring.journaled("@passed", What::Passed(told.clone()), last, Vec::new());
    }
    // What is decided again writes nothing.
    if spec.format.file().is_some() && runs.recorded.is_none() {
        let config = BoxStageConfig(Arc::new(FileConfig(documents.clone())));
        let before = std::mem::replace(&mut last, OUTPUT.to_owned());
        wiring.stage(OUTPUT, config, vec![before], vec!["output_format".into()]);
    }
    if journal.is_some() {
        let ends = spec.can_fail_at_its_end().then(|| documents.clone());
        let what = What::End { steps: ids(steps), told, ends };
        last = wiring.journaled("@end", what, last, Vec::new());
    }
    wiring.stage("@document", BoxStageConfig::new(documents), vec![last], Vec::new());
    wiring.stage(
        "@result",
        BoxStageConfig::new(ResultConfig { first: runs.first, rest, purses }),
        vec!["@document".into()],
        Vec::new(),
    );
    let mut graph = wiring.graph;
    graph.nodes.last_mut().into_iter().for_each(|result| result.inputs.append(&mut ends));
    graph
}

/// Whether a run may ask somebody before anything of it is durable.
fn asks_before_it_is_kept(spec: &Chain) -> bool {
    // What a step gave is durable before the next one starts, and the beginning of the run with it.
    let first = |step: &&Step| spec.durability != Durability::Sync || step.follows.is_empty();
    !spec.steps.iter().filter(first).all(Step::is_pure)
}

pub(super) fn shapes(spec: &Chain) -> Vec<StepShape> {
    let id = |at: &usize| spec.steps[*at].id.clone();
    let part = |starts| match starts {
        Starts::Completed => Part::Step,
        Starts::Finally => Part::Finally,
        Starts::Undo(of) => Part::Undo(id(&of)),
    };
    let shape = |s: &Step| StepShape {
        id: s.id.clone(),
        needs: s.needs.iter().map(id).collect(),
        after: s.after.iter().map(|after| id(&after.step)).collect(),
        part: part(s.starts),
        decides: Decides::of(s),
        chosen_by: s.chosen_by.iter().map(id).collect(),
    };
    spec.steps.iter().map(shape).collect()
}
