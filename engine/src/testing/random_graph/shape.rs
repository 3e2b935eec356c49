//! A graph as plain data, from which both the engine's graph and the oracle are made.

use std::collections::BTreeSet;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::api::OnFull;

/// Nodes, each behind those that it reads.
#[derive(Clone, Debug)]
pub struct Shape {
    /// The nodes.
    pub nodes: Vec<Node>,
    /// Whether there are dead letters; a rejected row is dropped else.
    pub dead_letters: bool,
    /// Whether neighbours may share a task.
    pub fuse: bool,
    /// Milliseconds between two epochs.
    pub epoch_ms: u64,
}

/// A node.
#[derive(Clone, Debug)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// What it does.
    pub does: Does,
    /// What it reads: the index of a node and its port.
    pub inputs: Vec<(usize, usize)>,
    /// What happens when an edge into it has no room.
    pub on_full: OnFull,
    /// How many lanes.
    pub lanes: usize,
    /// Whether its rejected rows go to the dead letters; they are dropped else.
    pub to_dead_letters: bool,
}

/// What a node does with a row, by the number that is its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub enum Does {
    /// Reads numbers from `first` on, so many in each split.
    Read {
        /// The first number.
        first: i64,
        /// Rows by split; some have none and end at once.
        splits: Vec<usize>,
        /// Rows of a chunk.
        chunk: usize,
        /// The most milliseconds before a chunk.
        slow_ms: u64,
    },
    /// Hands every row on, by key if it says so.
    Pass {
        /// Whether equal rows go to one lane.
        keyed: bool,
    },
    /// Drops every `of`th row on purpose.
    Keep {
        /// Which.
        of: i64,
    },
    /// Says every row so often, asking to go on in between.
    Repeat {
        /// How often.
        times: u64,
    },
    /// Lets every `of`th row leave by its port `rest`.
    Part {
        /// Which.
        of: i64,
    },
    /// Rejects every `of`th row itself.
    Reject {
        /// Which.
        of: i64,
    },
    /// Fails on every `of`th row, which bisection must find.
    Fail {
        /// Which.
        of: i64,
    },
    /// Holds rows back until it has so many.
    Hold {
        /// How many.
        rows: usize,
    },
    /// Hands on the first of equal rows, by key.
    Unique,
    /// Takes two inputs, by key, and hands the rows of both on.
    Join,
    /// Asks something outside.
    Call {
        /// The most milliseconds of an answer.
        slow_ms: u64,
        /// Whether answers leave in the order of the requests.
        ordered: bool,
        /// Rows of a request.
        rows: usize,
        /// Requests under way.
        in_flight: usize,
        /// Which rows are refused: every `refused_of`th.
        refused_of: i64,
        /// Whether the first attempt fails for every fifth row.
        flaky: bool,
    },
    /// Writes rows.
    Write {
        /// The most milliseconds of a write.
        slow_ms: u64,
        /// Whether rows become visible with the commit.
        transactional: bool,
        /// Which rows are refused: every `refused_of`th.
        refused_of: i64,
    },
}

/// Whether a row is one of every `of`.
pub(super) fn hit(id: i64, of: i64) -> bool {
    id % of == 0
}

impl Does {
    /// Whether it is a source.
    pub fn is_source(&self) -> bool {
        matches!(self, Self::Read { .. })
    }

    /// Whether it is a sink.
    pub fn is_sink(&self) -> bool {
        matches!(self, Self::Write { .. })
    }
}

impl Shape {
    /// How many stages there are.
    pub fn stages(&self) -> usize {
        self.nodes.iter().filter(|n| !n.does.is_source() && !n.does.is_sink()).count()
    }

    /// Whether a branch is isolated from the others.
    pub fn isolates(&self) -> bool {
        self.nodes.iter().any(|n| matches!(n.on_full, OnFull::Isolate(_)))
    }

    /// For each node, whether rows may be dropped on the way to it.
    pub fn lossy(&self) -> Vec<bool> {
        let mut lossy: Vec<bool> = Vec::new();
        for node in &self.nodes {
            lossy.push(node.on_full == OnFull::Drop || node.inputs.iter().any(|(from, _)| lossy[*from]));
        }
        lossy
    }

    /// Whether two ways that part at a node meet again at another.
    pub fn has_diamond(&self) -> bool {
        let mut above: Vec<BTreeSet<usize>> = Vec::new();
        let mut found = false;
        for node in &self.nodes {
            let mut all = BTreeSet::new();
            for (from, _) in &node.inputs {
                let way: BTreeSet<usize> = above[*from].iter().copied().chain([*from]).collect();
                found |= way.iter().any(|n| all.contains(n));
                all.extend(way);
            }
            above.push(all);
        }
        found
    }
}

/// One line a node: `s3 (2 lanes) <- s1, s2.rest: Keep { of: 3 }`.
impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dead_letters, fuse, epoch_ms, .. } = self;
        writeln!(f, "dead letters: {dead_letters}, fuse: {fuse}, an epoch every {epoch_ms} ms")?;
        for node in &self.nodes {
            let name = |(from, port): &(usize, usize)| {
                format!("{}{}", self.nodes[*from].id, if *port == 1 { ".rest" } else { "" })
            };
            let inputs: Vec<_> = node.inputs.iter().map(name).collect();
            let (from, full) = (inputs.join(", "), &node.on_full);
            writeln!(f, "{} ({} lanes, when full {full}) <- {from}: {:?}", node.id, node.lanes, node.does)?;
        }
        Ok(())
    }
}
