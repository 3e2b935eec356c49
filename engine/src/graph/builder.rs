//! The Rust API: nodes added one by one, each reading the one before it unless it says otherwise.

use super::logical::{Graph, Input, Node, OnError, Options, Role};
use crate::api::registry::{BoxConnector, BoxStageConfig};
use crate::api::{Keeping, OnFull, SharedLimits};

impl Graph {
    /// An empty graph for a job of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), nodes: Vec::new(), options: Options::default() }
    }

    /// Adds a source: the configuration of a connector, or a stream of the program ([`embed`](crate::embed)).
    pub fn source(&mut self, id: impl Into<String>, connector: impl Into<BoxConnector>) -> NodeBuilder<'_> {
        self.add(id, Role::Source(connector.into()))
    }

    /// Adds a stage that reads the node before it.
    pub fn stage(&mut self, id: impl Into<String>, config: impl Into<BoxStageConfig>) -> NodeBuilder<'_> {
        self.add(id, Role::Stage(config.into()))
    }

    /// Adds a sink that reads the node before it: the configuration of a connector, or a stream or sink of the program.
    pub fn sink(&mut self, id: impl Into<String>, connector: impl Into<BoxConnector>) -> NodeBuilder<'_> {
        self.add(id, Role::Sink(connector.into()))
    }

    /// Adds the sink that gets the rows that failed, and sends them there.
    pub fn dead_letters(&mut self, id: impl Into<String>, connector: impl Into<BoxConnector>) -> NodeBuilder<'_> {
        let id = id.into();
        self.options.on_error = OnError::DeadLetter;
        self.options.dead_letters = Some(id.clone());
        self.add(id, Role::Sink(connector.into())).from::<&str>([])
    }

    /// Adds limits that several stages keep together, those that name them: a rate, or tokens of models too.
    pub fn rate_limit(&mut self, name: impl Into<String>, limits: impl Into<SharedLimits>) {
        self.options.rate_limits.insert(name.into(), limits.into());
    }

    /// Adds a node of any role.
    pub fn add(&mut self, id: impl Into<String>, role: Role) -> NodeBuilder<'_> {
        let before = self.nodes.iter().rev().find(|n| !matches!(n.role, Role::Sink(_)));
        let inputs = match role {
            Role::Source(_) => Vec::new(),
            _ => before.map(|n| Input { node: n.id.clone(), port: None }).into_iter().collect(),
        };
        self.nodes.push(Node {
            id: id.into(),
            role,
            inputs,
            on_error: None,
            on_full: OnFull::Block,
            fallback: Vec::new(),
            rate_limit: None,
            journal: None,
            lanes: None,
            admission: None,
            path: Vec::new(),
        });
        let last = self.nodes.len() - 1;
        NodeBuilder(&mut self.nodes[last])
    }
}

/// Says more of the node that was added last.
pub struct NodeBuilder<'a>(&'a mut Node);

impl NodeBuilder<'_> {
    /// Reads these nodes (`stage`) or ports (`stage.port`) instead of the node before it.
    pub fn from<I: Into<Input>>(self, inputs: impl IntoIterator<Item = I>) -> Self {
        self.0.inputs = inputs.into_iter().map(Into::into).collect();
        self
    }

    /// Runs so many parallel copies.
    pub fn lanes(self, lanes: usize) -> Self {
        self.0.lanes = Some(lanes);
        self
    }

    /// Says what happens to rows that fail here.
    pub fn on_error(self, policy: OnError) -> Self {
        self.0.on_error = Some(policy);
        self
    }

    /// For a sink: adds one that takes the rows that this one refuses for good, or fails to take after its attempts.
    pub fn fallback(self, connector: impl Into<BoxConnector>) -> Self {
        self.0.fallback.push(connector.into());
        self
    }

    /// For a call: keeps a rate together with other stages; see [`Graph::rate_limit`]. It takes the place of the rate of
    /// the stage's own limits.
    pub fn rate_limit(self, name: impl Into<String>) -> Self {
        self.0.rate_limit = Some(name.into());
        self
    }

    /// For a call: keeps its answers, so that none is paid for twice.
    pub fn journal(self, at: Keeping) -> Self {
        self.0.journal = Some(at);
        self
    }

    /// Says what happens when an edge into it has no room.
    pub fn on_full(self, policy: OnFull) -> Self {
        self.0.on_full = policy;
        self
    }

    /// For a source: at most so many rows under way at once between here and the end of the graph.
    pub fn admission(self, rows: usize) -> Self {
        self.0.admission = Some(rows);
        self
    }
}
