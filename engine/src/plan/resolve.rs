//! First pass: names become indices, in an order in which each node stands behind what it reads.

use std::collections::HashMap;

use super::{DEAD_LETTERS, Exchange, OperatorKind, Plan, PlannedEdge, PlannedNode};
use crate::api::{Accounts, Cardinality, OnFull};
use crate::checkpoint::coordinator::Groups;
use crate::diagnostic::{Key, Problems};
use crate::graph::validate::validate;
use crate::graph::{Graph, OnError, Role};

/// Checks the graph and lays out its nodes and edges.
///
/// # Errors
/// Every problem of its structure.
pub fn resolve(graph: Graph) -> Result<Plan, Problems> {
    let order = validate(&graph)?;
    let index: HashMap<&str, usize> =
        order.iter().enumerate().map(|(new, old)| (graph.nodes[*old].id.as_str(), new)).collect();
    let dead_letters = graph.options.dead_letters.as_deref().map(|id| index[id]);
    let (mut nodes, mut edges) = (Vec::new(), Vec::new());
    for (to, old) in order.iter().enumerate() {
        let node = &graph.nodes[*old];
        for (input, from) in node.inputs.iter().enumerate() {
            let writer = index[from.node.as_str()];
            edges.push(edge(writer, port_index(&graph, from), to, input, &node.on_full));
        }
        let (operator, ports, cardinality) = match &node.role {
            Role::Source(_) => (OperatorKind::Source, Vec::new(), Cardinality::Many),
            Role::Stage(c) => (OperatorKind::Stage, c.0.ports(), c.0.cardinality()),
            Role::Sink(_) => (OperatorKind::Sink, Vec::new(), Cardinality::One),
        };
        // What the dead letters' own sink can't take must not come back to it.
        let on_error = if Some(to) == dead_letters { OnError::Fail } else { graph.on_error(node) };
        nodes.push(PlannedNode {
            id: node.id.as_str().into(),
            role: node.role.clone(),
            open: None,
            inputs: Vec::new(),
            outputs: Vec::new(),
            ports,
            operator,
            accounts: Accounts::default(),
            keeps_keys: false,
            lanes: node.lanes.unwrap_or(0),
            on_error,
            fallback: node.fallback.clone(),
            rate_limit: node.rate_limit.as_ref().and_then(|n| Some((n.clone(), *graph.options.rate_limits.get(n)?))),
            journal: node.journal.clone(),
            admission: node.admission,
            cardinality,
            path: if node.path.is_empty() { vec![Key::Name(node.id.clone())] } else { node.path.clone() },
        });
    }
    if let Some(to) = dead_letters {
        let writers: Vec<usize> = (0..nodes.len()).filter(|n| nodes[*n].on_error == OnError::DeadLetter).collect();
        let on_full = dead_letter_policy(&graph, &nodes[to].id);
        let first = nodes[to].inputs.len() + edges.iter().filter(|e| e.to == to).count();
        edges
            .extend(writers.into_iter().enumerate().map(|(i, from)| edge(from, DEAD_LETTERS, to, first + i, &on_full)));
    }
    Ok(Plan {
        name: graph.name,
        options: graph.options,
        nodes,
        edges,
        guarantees: Vec::new(),
        checkpoints: None,
        notes: Vec::new(),
        epoch_every: None,
        chains: Vec::new(),
        tasks: Vec::new(),
        groups: Groups::default(),
    })
}

fn edge(from: usize, port: usize, to: usize, input: usize, on_full: &OnFull) -> PlannedEdge {
    let on_full = on_full.clone();
    PlannedEdge { from, port, to, input, exchange: Exchange::Forward, on_full, bytes: 0, rows: 0, fused: false }
}

/// What the edges of the dead letters do. They would join an isolated branch with the others again, and so undo the
/// isolation: with one in the graph they are isolated too, unless the sink of the dead letters says something itself.
fn dead_letter_policy(graph: &Graph, id: &str) -> OnFull {
    let own = graph.node(id).map(|n| n.on_full.clone()).unwrap_or_default();
    let isolated = graph.nodes.iter().find(|n| matches!(n.on_full, OnFull::Isolate(_)));
    match (own, isolated) {
        (OnFull::Block, Some(node)) => node.on_full.clone(),
        (own, _) => own,
    }
}

fn port_index(graph: &Graph, input: &crate::graph::Input) -> usize {
    let Some(port) = &input.port else { return 0 };
    let ports = match graph.node(&input.node).map(|n| &n.role) {
        Some(Role::Stage(config)) => config.0.ports(),
        _ => Vec::new(),
    };
    1 + ports.iter().position(|p| p == port).expect("validate has checked the ports")
}
