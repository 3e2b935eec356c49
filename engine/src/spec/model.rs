//! A spec that was checked: what a graph is made of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::caching::Caching;
use super::complexity::ModeThresholds;
use super::gates::Gate;
use super::monitoring::Monitoring;
use super::optimization::Optimization;
use super::output::{Format, Output};
pub use super::placed::Places;
use super::resources::{After, Resources};
use super::route::Arms;
use super::schedule::Schedule;
use super::targets::Targets;
use crate::api::limits::Retries;
use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::api::template::Template;
use crate::api::{Budget, Checkpointing, Deadlines, Keeping, Level, OnFull, SharedLimits};
use crate::data::units::{Interval, Percentage};
use crate::diagnostic::Key;
use crate::journal::Durability;

/// A spec of either kind.
#[derive(Clone)]
pub enum Spec {
    /// Sources, stages, sinks.
    Pipeline(Box<Pipeline>),
    /// Steps.
    Chain(Box<Chain>),
}

/// A pipeline. Ids are unique, every edge leads to something that is there, and there is no cycle.
#[derive(Clone)]
pub struct Pipeline {
    /// The name of the job.
    pub name: String,
    /// Where rows come from.
    pub sources: Vec<Endpoint>,
    /// What happens to them, in the order of the spec.
    pub stages: Vec<Stage>,
    /// Where they go.
    pub sinks: Vec<Endpoint>,
    /// Where rows go that failed.
    pub dead_letters: Option<Endpoint>,
    /// What happens to rows that fail, where a stage does not say.
    pub on_error: ErrorPolicy,
    /// The share of rows that may fail, before the job ends.
    pub tolerated: Option<Percentage>,
    /// How often an epoch ends.
    pub epoch_every: Option<Duration>,
    /// Whether progress is made safe, and where.
    pub checkpoints: Checkpointing,
    /// What every sink must give at least.
    pub delivery: Option<Level>,
    /// Bytes for edges and state together.
    pub memory: Option<u64>,
    /// Limits that stages keep together, by name.
    pub rate_limits: BTreeMap<String, SharedLimits>,
    /// What all stages together may spend.
    pub budget: Option<Budget>,
    /// Where its spans and metrics are sent.
    pub monitoring: Option<Monitoring>,
}

/// A source or a sink.
#[derive(Clone)]
pub struct Endpoint {
    /// Its handle.
    pub id: String,
    /// What it is.
    pub connector: BoxConnector,
    /// What a sink reads.
    pub from: Vec<From>,
    /// How many parallel copies.
    pub lanes: Option<usize>,
    /// What happens to rows that fail here.
    pub on_error: Option<ErrorPolicy>,
    /// What happens when an edge into it has no room.
    pub on_full: OnFull,
    /// What takes the rows that a sink does not, in the order in which they are tried.
    pub fallback: Vec<BoxConnector>,
    /// Where its configuration stands.
    pub path: Vec<Key>,
}

/// A stage.
#[derive(Clone)]
pub struct Stage {
    /// Its handle.
    pub id: String,
    /// What it is.
    pub config: BoxStageConfig,
    /// What it reads.
    pub from: Vec<From>,
    /// How many parallel copies.
    pub lanes: Option<usize>,
    /// What happens to rows that fail here.
    pub on_error: Option<ErrorPolicy>,
    /// What happens when an edge into it has no room.
    pub on_full: OnFull,
    /// The rate limit that it keeps with others, by name.
    pub rate_limit: Option<String>,
    /// Where the answers of a call are kept.
    pub journal: Option<Keeping>,
    /// The workflow that each row is a run of, and the column of what it gives; what `config` makes is its input.
    pub workflow: Option<Box<(Nested, String)>>,
    /// Where its configuration stands.
    pub path: Vec<Key>,
}

/// What a stage or a sink reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct From {
    /// The id of a source or stage.
    pub id: String,
    /// One of its ports; the main one if none.
    pub port: Option<String>,
}

/// What happens to a row that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorPolicy {
    /// The job ends.
    #[default]
    Fail,
    /// It is dropped and counted.
    Drop,
    /// It goes to the sink of the dead letters, with its reason.
    DeadLetter,
}

/// A workflow of steps. Ids are unique and there is no cycle.
#[derive(Clone)]
pub struct Chain {
    /// The name of the workflow.
    pub name: String,
    /// A JSON Schema that every input must fit.
    pub input: Option<Value>,
    /// The steps, in the order of the spec.
    pub steps: Vec<Step>,
    /// Rates that steps keep together, by name.
    pub rate_limits: BTreeMap<String, SharedLimits>,
    /// Whether the other steps of a run end at once when one has failed.
    pub fail_fast: bool,
    /// How long a run may take, from its beginning.
    pub timeout: Option<Interval>,
    /// When what a step gave must be durable.
    pub durability: Durability,
    /// From which figures on it counts as another mode.
    pub mode_thresholds: ModeThresholds,
    /// What may be done to make it faster or cheaper.
    pub optimization: Optimization,
    /// What `final_output` is made of.
    pub format: Format,
    /// What becomes of that before it counts.
    pub output: Option<Output>,
    /// What its runs are to reach.
    pub targets: Targets,
    /// What all runs of a job together may spend.
    pub budget: Option<Budget>,
    /// What each run may spend.
    pub run_budget: Option<Budget>,
    /// Where its spans and metrics are sent.
    pub monitoring: Option<Monitoring>,
    /// When runs begin by themselves.
    pub schedule: Option<Schedule>,
}

/// A step.
#[derive(Clone)]
pub struct Step {
    /// Its handle, and the name of its column.
    pub id: String,
    /// What it does.
    pub work: Work,
    /// What is tried in place of that when it failed for good, in order.
    pub fallback: Vec<Work>,
    /// When it starts.
    pub starts: Starts,
    /// All steps that it depends on, said or read, in the order of the spec: places in [`Chain::steps`].
    pub reads: Vec<usize>,
    /// Those that it says it depends on, each with the way from the step to where.
    pub said: Vec<(usize, Vec<Key>)>,
    /// Those that places in it read.
    pub refs: Vec<usize>,
    /// The same, without those that another one of them needs.
    pub needs: Vec<usize>,
    /// What it touches outside.
    pub resources: Resources,
    /// Those that it must not overlap with, and comes behind for no other reason: it starts however they ended.
    pub after: Vec<After>,
    /// What it comes behind in the graph: `needs` and `after`, without those that another one of them comes behind.
    pub follows: Vec<usize>,
    /// The switches that may choose it: places in [`Chain::steps`].
    pub chosen_by: Vec<usize>,
    /// What is known of the ways that it chooses by what they have brought.
    pub route: Option<Arc<Arms>>,
    /// When its place is false, the step is skipped.
    pub condition: Option<Template>,
    /// The list for each of whose elements it is done.
    pub for_each: Option<ForEach>,
    /// How often it is done.
    pub repeat: Option<Repeat>,
    /// What it gives when it fails.
    pub default: Option<Value>,
    /// What becomes of its results before they count.
    pub output: Option<Output>,
    /// What its results must pass.
    pub gates: Vec<Gate>,
    /// How it may be answered from a cache.
    pub cache: Option<Caching>,
    /// Where the step stands.
    pub path: Vec<Key>,
}

/// When a step starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Starts {
    /// When what it needs has completed.
    Completed,
    /// When all other steps have ended, however they did.
    Finally,
    /// When the run has failed, and this step of it completed: a place in [`Chain::steps`].
    Undo(usize),
}

/// What a step does.
#[derive(Clone)]
pub struct Work {
    /// What the spec says: `/query`.
    pub command: String,
    /// The configuration of the stage that does it.
    pub config: BoxStageConfig,
    /// How long one attempt may take.
    pub timeout: Duration,
    /// What else bounds its time.
    pub deadlines: Deadlines,
    /// When to try again.
    pub retry: Retries,
    /// The rate limit that it keeps with others, by name.
    pub rate_limit: Option<String>,
    /// Where the parts of its configuration stand, from the step.
    pub places: Places,
    /// The workflow that the step is; what `config` makes is the input of it.
    pub workflow: Option<Box<Nested>>,
}

/// A workflow within another one. Its steps see its own input and each other, and nothing else.
#[derive(Clone)]
pub struct Nested {
    /// Its steps.
    pub chain: Chain,
    /// The file that it stands in, if it has one of its own: places in it are not places of the outer spec.
    pub file: Option<String>,
}

impl Chain {
    /// Whether the time of its runs, or of workflows within, is bounded.
    pub(crate) fn is_timed(&self) -> bool {
        self.timeout.is_some() || self.steps.iter().flat_map(Step::nested).any(|nested| nested.chain.is_timed())
    }

    /// Whether a run may fail although all of its steps have completed.
    pub(crate) fn can_fail_at_its_end(&self) -> bool {
        self.output.is_some() || !matches!(self.format, Format::Of(_))
    }

    /// The names of all steps, those of workflows within behind their own: `each/review`.
    pub fn names(&self) -> Vec<String> {
        let of = |step: &Step| {
            let within = step.nested().flat_map(|nested| nested.chain.names());
            let within: Vec<String> = within.map(|name| format!("{}/{name}", step.id)).collect();
            [vec![step.id.clone()], within].concat()
        };
        self.steps.iter().flat_map(of).collect()
    }

    /// What is known of the ways of its routes, by the name of the route: `who`, or `each/who` of a workflow within.
    pub fn routes(&self) -> Vec<(String, Arc<Arms>)> {
        let of = |step: &Step| {
            let within = step.nested().flat_map(|nested| nested.chain.routes());
            let within = within.map(|(name, arms)| (format!("{}/{name}", step.id), arms));
            step.route
                .iter()
                .map(|arms| (step.id.clone(), arms.clone()))
                .chain(within.collect::<Vec<_>>())
                .collect::<Vec<_>>()
        };
        self.steps.iter().flat_map(of).collect()
    }

    /// The step of this name: `review`, or `each/review` of a workflow within another one. Rounds and elements may be named:
    /// `each[3]/review`.
    pub fn step(&self, name: &str) -> Option<&Step> {
        let (first, rest) = name.split_once('/').map_or((name, None), |(first, rest)| (first, Some(rest)));
        let id = first.split(['[', '#']).next();
        let step = self.steps.iter().find(|step| Some(step.id.as_str()) == id)?;
        match rest {
            None => Some(step),
            Some(rest) => step.nested().find_map(|nested| nested.chain.step(rest)),
        }
    }
}

impl Step {
    /// One that reads these others, and says nothing else.
    pub(crate) fn new(id: &str, work: Work, reads: Vec<usize>, path: Vec<Key>) -> Self {
        Self {
            id: id.to_owned(),
            work,
            fallback: Vec::new(),
            starts: Starts::Completed,
            said: Vec::new(),
            refs: reads.clone(),
            reads,
            needs: Vec::new(),
            resources: Resources::default(),
            after: Vec::new(),
            follows: Vec::new(),
            chosen_by: Vec::new(),
            route: None,
            condition: None,
            for_each: None,
            repeat: None,
            default: None,
            output: None,
            gates: Vec::new(),
            cache: None,
            path,
        }
    }

    /// Whether it asks nobody, no cache that is said either, and is soon done.
    pub fn is_pure(&self) -> bool {
        let is_plain =
            self.for_each.is_none() && self.repeat.is_none() && self.fallback.is_empty() && self.gates.is_empty();
        let is_cached = self.cache.as_ref().is_some_and(|cache| cache.is_said);
        is_plain && !is_cached && self.work.workflow.is_none() && self.work.config.0.is_pure()
    }

    /// Whether it may stand in a line with others that need the same steps as it, rather than beside them.
    pub fn stands_in_line(&self) -> bool {
        self.is_pure() && self.starts == Starts::Completed
    }

    /// The workflows that it is, or may be when others failed.
    pub fn nested(&self) -> impl Iterator<Item = &Nested> {
        [&self.work].into_iter().chain(&self.fallback).filter_map(|work| work.workflow.as_deref())
    }
}

/// A step that is done in rounds.
#[derive(Clone)]
pub struct Repeat {
    /// When its place is true, the round was the last.
    pub until: Template,
    /// The most rounds.
    pub max: u32,
    /// How long to wait between two.
    pub every: Duration,
}

/// A step that is done for each element of a list.
#[derive(Clone)]
pub struct ForEach {
    /// What gives the list.
    pub list: Template,
    /// The name of the element.
    pub name: String,
    /// The most elements at once, of all runs together; that of the workflow if none.
    pub max_concurrency: Option<usize>,
    /// The share of elements that may fail.
    pub tolerated: Percentage,
    /// Whether the other elements end at once when more have failed.
    pub fail_fast: bool,
}
