//! Nodes and how they are joined: plain data, in the order they were declared.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::api::{Budget, Checkpointing, Keeping, Level, OnFull, Purses, SharedLimits, Usage};
use crate::data::secret::Secrets;
use crate::data::units::Percentage;
use crate::diagnostic::Key;

/// A pipeline or a workflow as nodes and edges. Made by [`Graph::new`] and the builder, or compiled from a spec.
#[derive(Clone)]
pub struct Graph {
    /// The name of the job: the label `pipeline` of its metrics.
    pub name: String,
    /// The nodes; ids are unique.
    pub nodes: Vec<Node>,
    /// What holds for the whole job.
    pub options: Options,
}

/// A source, stage or sink.
#[derive(Clone)]
pub struct Node {
    /// Its handle in metrics, logs, dead letters and checkpoints. Stable: state is found by it.
    pub id: String,
    /// What it is.
    pub role: Role,
    /// What it reads; none for a source.
    pub inputs: Vec<Input>,
    /// What happens to a row that fails here, if not what the job says.
    pub on_error: Option<OnError>,
    /// What happens when an edge into it has no room.
    pub on_full: OnFull,
    /// For a sink: what takes the rows that it does not, in the order in which they are tried.
    pub fallback: Vec<BoxConnector>,
    /// For a call: the shared rate limit that it keeps, by its name in [`Options::rate_limits`].
    pub rate_limit: Option<String>,
    /// For a call: where its answers are kept, so that none is paid for twice.
    pub journal: Option<Keeping>,
    /// How many parallel copies; one if it does not say.
    pub lanes: Option<usize>,
    /// For a source: how many rows may be under way at once between here and the end of the graph.
    pub admission: Option<usize>,
    /// Where its configuration stands in the spec, for diagnostics; empty for the Rust API.
    pub path: Vec<Key>,
}

/// What a node is.
#[derive(Clone)]
pub enum Role {
    /// It reads.
    Source(BoxConnector),
    /// It transforms.
    Stage(BoxStageConfig),
    /// It writes.
    Sink(BoxConnector),
}

/// One edge into a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The id of the node that is read.
    pub node: String,
    /// The port, or none for the main one.
    pub port: Option<String>,
}

impl From<&str> for Input {
    /// `stage` or `stage.port`.
    fn from(text: &str) -> Self {
        match text.split_once('.') {
            Some((node, port)) => Self { node: node.into(), port: Some(port.into()) },
            None => Self { node: text.into(), port: None },
        }
    }
}

/// What happens to a row that fails.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The job ends.
    #[default]
    Fail,
    /// It is dropped and counted.
    Drop,
    /// It goes to the sink of the dead letters, with its reason.
    DeadLetter,
}

/// What holds for the whole job.
#[derive(Clone, Debug)]
pub struct Options {
    /// For nodes that do not say.
    pub on_error: OnError,
    /// The share of the rows that may fail, before the job ends; `None`: all of them may.
    pub tolerated: Option<Percentage>,
    /// The id of the sink that gets the dead letters; it has no inputs of its own.
    pub dead_letters: Option<String>,
    /// How often an epoch ends. `None` leaves it to the planner: by what the sources need.
    pub epoch_every: Option<Duration>,
    /// Where and how progress is made safe.
    pub checkpoints: Checkpointing,
    /// What every sink must give at least; a plan that can't is refused.
    pub delivery: Option<Level>,
    /// Limits that stages keep together, by name.
    pub rate_limits: BTreeMap<String, SharedLimits>,
    /// What all stages together may spend.
    pub budget: Option<Budget>,
    /// What each run of a workflow may spend.
    pub purses: Option<Purses>,
    /// Of a workflow whose runs a journal keeps, what they have spent in earlier processes: with it a job goes on that has paused.
    pub kept: Option<Usage>,
    /// Values that no message, dead letter or record of a run may show.
    pub secrets: Secrets,
    /// Bytes for edges and state together.
    pub memory: u64,
    /// Rows that an edge holds; `None` leaves it to the planner. Tests of the runtime set 1.
    pub edge_rows: Option<usize>,
    /// Bytes that the state of a lane of a stage holds in memory; `None` leaves it to the planner. Tests set little.
    pub state_bytes: Option<usize>,
    /// Whether model calls go to the mock model in the process.
    pub mock: bool,
    /// Whether neighbouring stages may share a task.
    pub fuse: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            on_error: OnError::Fail,
            tolerated: None,
            dead_letters: None,
            epoch_every: None,
            checkpoints: Checkpointing::Off,
            delivery: None,
            rate_limits: BTreeMap::new(),
            budget: None,
            purses: None,
            kept: None,
            secrets: Secrets::default(),
            memory: 512 << 20,
            edge_rows: None,
            state_bytes: None,
            mock: false,
            fuse: true,
        }
    }
}

impl Graph {
    /// The node with this id.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.iter().find(|n| n.id == id)
    }

    /// What a node's failing rows meet.
    pub fn on_error(&self, node: &Node) -> OnError {
        node.on_error.unwrap_or(self.options.on_error)
    }
}
