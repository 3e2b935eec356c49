//! From a graph to tasks and channels: passes over plain data, each a file with a text form.

pub mod accounts;
pub mod checkpoints;
pub mod distribute;
pub mod explain;
pub mod fuse;
pub mod guarantee;
pub mod notes;
pub mod operators;
pub mod overwrites;
pub mod physical;
pub mod reserve;
pub mod resolve;
pub mod schemas;

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;

use crate::api::Checkpoints;
use crate::api::registry::BoxConnector;
use crate::api::{Accounts, Cardinality, Distribution, Inputs, Keeping, Limits, OnFull, SharedLimits};
use crate::checkpoint::coordinator::Groups;
use crate::diagnostic::{Key, Problem, Problems};
use crate::env::Env;
use crate::error::Node;
use crate::graph::{Graph, OnError, Options, Role};

pub use guarantee::{Guarantee, Level};
pub use physical::{Channel, Outlet, Task, TaskKind};

/// A job that can be started: nodes with their schemas, lanes and exchanges, and the tasks and channels made of them.
#[derive(Clone)]
pub struct Plan {
    /// The name of the job.
    pub name: String,
    /// What holds for the whole job.
    pub options: Options,
    /// The nodes, each behind what it reads.
    pub nodes: Vec<PlannedNode>,
    /// The edges between them.
    pub edges: Vec<PlannedEdge>,
    /// What each pair of source and sink delivers.
    pub guarantees: Vec<Guarantee>,
    /// Where its progress is made safe, if it is.
    pub checkpoints: Option<Checkpoints>,
    /// What its author should know although it can run.
    pub notes: Vec<Problem>,
    /// How often an epoch ends beside the last one.
    pub epoch_every: Option<Duration>,
    /// Runs of nodes that share a task, as indices into `nodes`.
    pub chains: Vec<Vec<usize>>,
    /// One per lane of each source, chain, call and sink.
    pub tasks: Vec<Task>,
    /// Which of the tasks go from epoch to epoch together.
    pub groups: Groups,
}

/// A node with what planning found out about it.
#[derive(Clone)]
pub struct PlannedNode {
    /// Its id.
    pub id: Arc<str>,
    /// What it is.
    pub role: Role,
    /// Whether its columns were left open, since a server would have to be asked that nobody was to ask: its own if it is
    /// a source, else that of a source before it.
    pub open: Option<Open>,
    /// The schema of each input; empty when one of them is open.
    pub inputs: Vec<SchemaRef>,
    /// The schema of each port; the main one first, empty for a sink and for what is open.
    pub outputs: Vec<SchemaRef>,
    /// The names of the ports beside the main one.
    pub ports: Vec<String>,
    /// What runs it.
    pub operator: OperatorKind,
    /// What can be accounted for of a call.
    pub accounts: Accounts,
    /// Whether it keeps something by key.
    pub keeps_keys: bool,
    /// How many parallel copies.
    pub lanes: usize,
    /// What happens to a row that fails.
    pub on_error: OnError,
    /// For a sink: what takes the rows that it does not.
    pub fallback: Vec<BoxConnector>,
    /// For a call: the limits that it keeps with others of the same name.
    pub rate_limit: Option<(String, SharedLimits)>,
    /// For a call: where its answers are kept.
    pub journal: Option<Keeping>,
    /// For a source: how many rows may be under way at once.
    pub admission: Option<usize>,
    /// How many rows leave for one that enters.
    pub cardinality: Cardinality,
    /// Where its configuration stands in the spec; its id when it was made in Rust.
    pub path: Vec<Key>,
}

impl PlannedNode {
    /// Whether rows are spread over its lanes by their keys.
    pub fn is_keyed(&self) -> bool {
        matches!(&self.role, Role::Stage(config) if matches!(config.0.distribution(), Distribution::Keyed(_)))
    }

    /// What errors call it.
    pub fn is(&self) -> Node {
        match self.role {
            Role::Source(_) => Node::Source,
            Role::Stage(_) => Node::Stage,
            Role::Sink(_) => Node::Sink,
        }
    }

    /// The problem, placed below this node's configuration.
    fn place(&self, problem: Problem) -> Problem {
        self.path.iter().rev().fold(problem, |p, key| p.under(key.clone()))
    }
}

/// Why columns are left open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// The id of the source whose columns are not known.
    pub source: Arc<str>,
    /// Whom its connector would ask, as it may be shown: `s3://bucket/key`, `postgres at db:5432`.
    pub asks: Arc<str>,
}

/// Whom planning may ask over a network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Asking {
    /// Nobody: columns that a server would have to be asked for stay open, and what reads them is left unchecked. A plan
    /// with open columns can be shown, and not be started.
    Nobody,
    /// The servers of sources whose columns are not known otherwise, for a job that is to run.
    #[default]
    Sources,
    /// Every server that the job reads from or writes to, each for a short time.
    Everyone,
}

/// What runs a node.
#[derive(Clone, Debug, PartialEq)]
pub enum OperatorKind {
    /// A source task.
    Source,
    /// A synchronous stage.
    Stage,
    /// A stage with two inputs.
    Join,
    /// Requests within limits.
    Call(Limits),
    /// A sink task.
    Sink,
}

/// An edge between two nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct PlannedEdge {
    /// The node that writes, as an index into the nodes.
    pub from: usize,
    /// Its port: 0 is the main one; [`DEAD_LETTERS`] that of the rejected rows.
    pub port: usize,
    /// The node that reads.
    pub to: usize,
    /// Which of its inputs.
    pub input: usize,
    /// How rows are spread over its lanes.
    pub exchange: Exchange,
    /// What happens to rows for which it has no room.
    pub on_full: OnFull,
    /// Bytes of each channel of this edge.
    pub bytes: usize,
    /// Rows of each channel of this edge.
    pub rows: usize,
    /// Whether both ends share a task, so that there is no channel.
    pub fused: bool,
}

/// The port of rejected rows.
pub const DEAD_LETTERS: usize = usize::MAX;

/// How rows are spread over the lanes of a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exchange {
    /// Lane to lane, or all to the only one.
    Forward,
    /// By the hash of these columns.
    Hash(Vec<String>),
    /// Batch by batch in turn.
    RoundRobin,
    /// Every batch to every lane.
    Broadcast,
}

/// Plans a graph: nothing is changed outside, inputs may be looked at, servers be asked as `asking` says.
///
/// # Errors
/// Every problem that the passes find; a later pass runs only when the earlier ones found none.
pub async fn plan(graph: Graph, env: &Env, asking: Asking) -> Result<Plan, Problems> {
    let mut plan = resolve::resolve(graph)?;
    schemas::infer(&mut plan, env, asking).await?;
    overwrites::refuse(&plan, env)?;
    operators::learn(&mut plan, env)?;
    plan.checkpoints = checkpoints::decide(&plan, env)?;
    accounts::check(&plan)?;
    if asking == Asking::Everyone {
        checkpoints::reach(&plan, env).await?;
    }
    plan.guarantees = guarantee::compute(&plan);
    guarantee::check(&plan)?;
    plan.epoch_every = guarantee::epochs(&plan);
    plan.notes = notes::find(&plan);
    distribute::spread(&mut plan);
    if plan.open().next().is_some() {
        // What runs a stage is known when it is built for its columns, and which stages share a task with it.
        return Ok(plan);
    }
    fuse::fuse(&mut plan);
    reserve::reserve(&mut plan)?;
    physical::lay_out(&mut plan);
    Ok(plan)
}

impl Plan {
    /// The sources whose columns are open. While there is one, the plan has no tasks and can't be started.
    pub fn open(&self) -> impl Iterator<Item = &Open> {
        self.nodes.iter().filter(|n| matches!(n.role, Role::Source(_))).filter_map(|n| n.open.as_ref())
    }

    /// The indices of the edges that leave a node.
    pub fn edges_from(&self, node: usize) -> impl Iterator<Item = &PlannedEdge> {
        self.edges.iter().filter(move |e| e.from == node)
    }

    /// The indices of the edges that enter a node, by input.
    pub fn edges_to(&self, node: usize) -> impl Iterator<Item = &PlannedEdge> {
        self.edges.iter().filter(move |e| e.to == node)
    }

    /// What the batches of a node's inputs must be relabeled to, when inputs that are merged differ in what may be null.
    pub fn relabels(&self, node: usize) -> Option<&SchemaRef> {
        let together = match &self.nodes[node].role {
            Role::Stage(config) if config.0.inputs() == Inputs::Two => return None,
            _ => self.nodes[node].inputs.first()?,
        };
        let written = |e: &PlannedEdge| self.nodes[e.from].outputs.get(e.port);
        self.edges_to(node).any(|e| written(e).is_some_and(|schema| schema != together)).then_some(together)
    }
}
