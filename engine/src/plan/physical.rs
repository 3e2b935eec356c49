//! Last pass: one task per lane of each source, chain, call and sink, and the channels between them.

use petgraph::unionfind::UnionFind;

use super::{DEAD_LETTERS, Exchange, OperatorKind, Plan, PlannedEdge};
use crate::api::OnFull;
use crate::checkpoint::coordinator::Groups;

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
    /// What waits on the disk before a lane of an isolated node: the edge, as an index into the plan's.
    Spool(usize),
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
    /// Whether rows are dropped where a channel is full.
    pub drops: bool,
}

/// Lays out the tasks and their channels. An isolated edge has a task of its own before each lane of its reader.
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
    for (e, edge) in plan.edges.iter().enumerate().filter(|(_, e)| !e.fused) {
        let (from, to) = (plan.nodes[edge.from].lanes, plan.nodes[edge.to].lanes);
        let channel = |id: usize, input: usize| Channel { id, input, rows: edge.rows, bytes: edge.bytes };
        let isolated = matches!(edge.on_full, OnFull::Isolate(_));
        for lane in (0..to).filter(|_| isolated) {
            let (reader, id) = (&plan.nodes[edge.to].id, post_increment(&mut next));
            let name = format!("spool {}>{reader}[{lane}]", plan.nodes[edge.from].id);
            let out = Outlet { node: 0, port: 0, exchange: Exchange::Forward, channels: vec![id], drops: false };
            let (kind, nodes) = (TaskKind::Spool(e), vec![edge.to]);
            tasks.push(Task { name, kind, nodes, lane, inlets: Vec::new(), outlets: vec![out] });
            task_of(&mut tasks, edge.to, lane).inlets.push(channel(id, edge.input));
        }
        for writer in 0..from {
            let readers = match edge.exchange {
                Exchange::Forward if to == 1 => 0..1,
                Exchange::Forward => writer..writer + 1,
                _ => 0..to,
            };
            let channels: Vec<usize> = readers.clone().map(|_| post_increment(&mut next)).collect();
            for (reader, id) in readers.zip(&channels) {
                let spool = tasks.iter_mut().find(|t| t.kind == TaskKind::Spool(e) && t.lane == reader);
                match spool {
                    Some(spool) => spool.inlets.push(channel(*id, 0)),
                    None => task_of(&mut tasks, edge.to, reader).inlets.push(channel(*id, edge.input)),
                }
            }
            let task = task_of(&mut tasks, edge.from, writer);
            let node = task.nodes.iter().position(|n| *n == edge.from).expect("the task runs the node");
            let (exchange, drops) = (edge.exchange.clone(), edge.on_full == OnFull::Drop);
            task.outlets.push(Outlet { node, port: edge.port, exchange, channels, drops });
        }
    }
    debug_assert!(tasks.iter().all(|t| t.outlets.iter().all(|o| o.port != DEAD_LETTERS || o.channels.len() == 1)));
    plan.groups = groups(&tasks);
    plan.tasks = tasks;
}

/// Which tasks go from epoch to epoch together: those that channels join, with the spools as the borders between them. All
/// that have a source are one group, since epochs begin at the sources.
fn groups(tasks: &[Task]) -> Groups {
    let mut joined = UnionFind::<usize>::new(tasks.len());
    let reader_of = |id: &usize| tasks.iter().position(|t| t.inlets.iter().any(|c| c.id == *id));
    let mut borders = Vec::new();
    for (task, writes) in tasks.iter().enumerate() {
        let readers = writes.outlets.iter().flat_map(|o| &o.channels).filter_map(reader_of);
        if let TaskKind::Spool(_) = writes.kind {
            borders.extend(readers.map(|reader| (task, reader)));
        } else {
            readers.for_each(|reader| _ = joined.union(task, reader));
        }
    }
    // A sink of dead letters that nothing sends to goes with the sources too.
    let is_first = |t: &usize| tasks[*t].kind == TaskKind::Source || tasks[*t].inlets.is_empty();
    let sources: Vec<usize> = (0..tasks.len()).filter(is_first).collect();
    sources.windows(2).for_each(|pair| _ = joined.union(pair[0], pair[1]));
    let mut roots: Vec<usize> = sources.first().map(|s| joined.find(*s)).into_iter().collect();
    let mut number = |task: usize| {
        let root = joined.find(task);
        roots.iter().position(|r| *r == root).unwrap_or_else(|| {
            roots.push(root);
            roots.len() - 1
        })
    };
    let of = (0..tasks.len()).map(&mut number).collect();
    Groups { of, spools: borders.into_iter().map(|(spool, reader)| (spool, number(reader))).collect() }
}

impl Plan {
    /// Whether what an isolated edge feeds goes from epoch to epoch on its own, because it meets the others no more.
    pub fn lags(&self, edge: &PlannedEdge) -> bool {
        let feeds = |(spool, fed): &(usize, usize)| {
            let is_its = matches!(self.tasks[*spool].kind, TaskKind::Spool(e) if self.edges[e] == *edge);
            is_its && self.groups.of[*spool] != *fed
        };
        self.groups.spools.iter().any(feeds)
    }
}

fn post_increment(next: &mut usize) -> usize {
    *next += 1;
    *next - 1
}

fn task_of(tasks: &mut [Task], node: usize, lane: usize) -> &mut Task {
    let runs = |t: &&mut Task| !matches!(t.kind, TaskKind::Spool(_)) && t.lane == lane && t.nodes.contains(&node);
    tasks.iter_mut().find(runs).expect("every lane of every node has a task")
}
