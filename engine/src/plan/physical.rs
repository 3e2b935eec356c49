//! Last pass: one task per lane of each source, chain, call and sink, and the channels between them.

use super::{DEAD_LETTERS, Exchange, OperatorKind, Plan};

/// What one task runs, and what it reads and writes.
#[derive(Clone, Debug, PartialEq)]
pub struct Task {
    /// `flights[0]`, or `delayed+shaped[1]` for a chain.
    pub name: String,
    /// What it runs.
    pub kind: TaskKind,
    /// The nodes, as indices into the plan's; one but for a chain.
    pub nodes: Vec<usize>,
    /// Which lane of them.
    pub lane: usize,
    /// The channels it reads, in the order of the inputs.
    pub inlets: Vec<Channel>,
    /// What it writes, by node and port.
    pub outlets: Vec<Outlet>,
}

/// What a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskKind {
    /// A source.
    Source,
    /// Fused stages.
    Chain,
    /// Requests.
    Call,
    /// A sink.
    Sink,
}

/// A channel, as its reader sees it. Its number is unique in the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Channel {
    /// Its number.
    pub id: usize,
    /// Which input of the reading node.
    pub input: usize,
    /// Rows that fit.
    pub rows: usize,
    /// Bytes that fit.
    pub bytes: usize,
}

/// One reader of one port: an exchange over the channels to its lanes.
#[derive(Clone, Debug, PartialEq)]
pub struct Outlet {
    /// The node that writes, as an index into the task's nodes.
    pub node: usize,
    /// Its port.
    pub port: usize,
    /// How rows are spread over the channels.
    pub exchange: Exchange,
    /// The numbers of the channels.
    pub channels: Vec<usize>,
}

/// Lays out the tasks and their channels.
pub fn lay_out(plan: &mut Plan) {
    let mut tasks = Vec::new();
    for chain in &plan.chains {
        let head = &plan.nodes[chain[0]];
        let kind = match head.operator {
            OperatorKind::Source => TaskKind::Source,
            OperatorKind::Sink => TaskKind::Sink,
            OperatorKind::Call(_) => TaskKind::Call,
            OperatorKind::Stage | OperatorKind::Join => TaskKind::Chain,
        };
        let ids: Vec<&str> = chain.iter().map(|n| &*plan.nodes[*n].id).collect();
        for lane in 0..head.lanes {
            let name = format!("{}[{lane}]", ids.join("+"));
            tasks.push(Task { name, kind, nodes: chain.clone(), lane, inlets: Vec::new(), outlets: Vec::new() });
        }
    }
    let mut next = 0;
    for edge in plan.edges.iter().filter(|e| !e.fused) {
        let (from, to) = (plan.nodes[edge.from].lanes, plan.nodes[edge.to].lanes);
        for writer in 0..from {
            let readers = match edge.exchange {
                Exchange::Forward if to == 1 => 0..1,
                Exchange::Forward => writer..writer + 1,
                _ => 0..to,
            };
            let channels: Vec<usize> = readers.clone().map(|_| post_increment(&mut next)).collect();
            for (reader, id) in readers.zip(&channels) {
                let task = task_of(&mut tasks, edge.to, reader);
                task.inlets.push(Channel { id: *id, input: edge.input, rows: edge.rows, bytes: edge.bytes });
            }
            let task = task_of(&mut tasks, edge.from, writer);
            let node = task.nodes.iter().position(|n| *n == edge.from).expect("the task runs the node");
            task.outlets.push(Outlet { node, port: edge.port, exchange: edge.exchange.clone(), channels });
        }
    }
    debug_assert!(tasks.iter().all(|t| t.outlets.iter().all(|o| o.port != DEAD_LETTERS || o.channels.len() == 1)));
    plan.tasks = tasks;
}

fn post_increment(next: &mut usize) -> usize {
    *next += 1;
    *next - 1
}

fn task_of(tasks: &mut [Task], node: usize, lane: usize) -> &mut Task {
    tasks.iter_mut().find(|t| t.lane == lane && t.nodes.contains(&node)).expect("every lane of every node has a task")
}
