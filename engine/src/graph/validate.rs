//! What must hold of a graph before it is planned: ids, edges, roles.

use std::collections::{HashMap, HashSet};

use petgraph::algo::{tarjan_scc, toposort};
use petgraph::graph::{DiGraph, NodeIndex};

use super::logical::{Graph, Node, OnError, Role};
use crate::api::{Inputs, OnFull};
use crate::diagnostic::{Problem, Problems, did_you_mean};

/// Checks a graph and returns its nodes in an order in which each stands behind what it reads.
///
/// # Errors
/// Every problem that there is.
pub fn validate(graph: &Graph) -> Result<Vec<usize>, Problems> {
    let mut problems = Vec::new();
    let mut ids = HashMap::new();
    for (i, node) in graph.nodes.iter().enumerate() {
        if ids.insert(node.id.as_str(), i).is_some() {
            problems.push(at(node, Problem::new(format!("the id `{}` is used twice", node.id))));
        }
        check_node(graph, node, &mut problems);
    }
    let mut edges = DiGraph::<usize, ()>::new();
    let indices: Vec<NodeIndex> = (0..graph.nodes.len()).map(|i| edges.add_node(i)).collect();
    for (i, node) in graph.nodes.iter().enumerate() {
        for input in &node.inputs {
            match ids.get(input.node.as_str()) {
                None => problems.push(at(node, unknown_input(&input.node, graph, node))),
                Some(&from) => {
                    check_port(&graph.nodes[from], input.port.as_deref(), node, &mut problems);
                    edges.add_edge(indices[from], indices[i], ());
                }
            }
        }
    }
    check_use(graph, &mut problems);
    // With an id that is used twice, it is anyone's guess which of the two an edge means, and a cycle would only confuse.
    if ids.len() == graph.nodes.len() && toposort(&edges, None).is_err() {
        for cycle in tarjan_scc(&edges).into_iter().filter(|c| c.len() > 1 || edges.contains_edge(c[0], c[0])) {
            let mut names: Vec<_> = cycle.iter().rev().map(|n| graph.nodes[edges[*n]].id.as_str()).collect();
            names.push(names[0]);
            let node = &graph.nodes[edges[cycle[0]]];
            problems.push(at(
                node,
                Problem::new(format!("cycle: {}", names.join(" -> ")))
                    .help("a stream never comes back; loops belong into workflows"),
            ));
        }
    }
    Problems::check(problems)?;
    Ok(declared_order(graph, &ids))
}

/// The nodes as they were declared, each behind what it reads, the dead letters' sink last: plans read like their specs.
fn declared_order(graph: &Graph, ids: &HashMap<&str, usize>) -> Vec<usize> {
    let is_last = |i: usize| graph.options.dead_letters.as_deref() == Some(graph.nodes[i].id.as_str());
    let mut left: Vec<usize> = (0..graph.nodes.len()).collect();
    left.sort_by_key(|i| is_last(*i));
    let mut order = Vec::new();
    while !left.is_empty() {
        let reads_placed =
            |i: &usize| graph.nodes[*i].inputs.iter().all(|input| order.contains(&ids[input.node.as_str()]));
        let next = left.iter().position(reads_placed).expect("a graph without a cycle has a next node");
        order.push(left.remove(next));
    }
    order
}

fn at(node: &Node, problem: Problem) -> Problem {
    Problem { path: node.path.iter().cloned().chain(problem.path.clone()).collect(), ..problem }
}

fn unknown_input(name: &str, graph: &Graph, node: &Node) -> Problem {
    let known =
        graph.nodes.iter().filter(|n| n.id != node.id && !matches!(n.role, Role::Sink(_))).map(|n| n.id.as_str());
    let problem = Problem::new(format!("`{}` reads `{name}`, which does not exist", node.id));
    match did_you_mean(name, known) {
        Some(help) => problem.help(help),
        None => problem,
    }
}

fn check_port(from: &Node, port: Option<&str>, reader: &Node, problems: &mut Vec<Problem>) {
    let (ports, is_sink) = match &from.role {
        Role::Stage(config) => (config.0.ports(), false),
        Role::Source(_) => (Vec::new(), false),
        Role::Sink(_) => (Vec::new(), true),
    };
    if is_sink {
        problems.push(at(reader, Problem::new(format!("`{}` reads `{}`, which is a sink", reader.id, from.id))));
    }
    if let Some(port) = port.filter(|p| !ports.iter().any(|known| known == p)) {
        let problem = Problem::new(format!("`{}` has no port `{port}`", from.id));
        let help = did_you_mean(port, ports.iter().map(String::as_str)).unwrap_or_else(|| match ports.as_slice() {
            [] => format!("`{}` has no ports beside the main one: read `{}`", from.id, from.id),
            ports => format!("its ports are: {}", ports.join(", ")),
        });
        problems.push(at(reader, problem.help(help)));
    }
}

fn check_node(graph: &Graph, node: &Node, problems: &mut Vec<Problem>) {
    let is_dead_letters = graph.options.dead_letters.as_deref() == Some(&node.id);
    let wrong = match &node.role {
        Role::Source(c) if c.0.capabilities().source.is_none() => Some(format!("`{}` can't be a source", c.0.kind())),
        Role::Sink(c) if c.0.capabilities().sink.is_none() => Some(format!("`{}` can't be a sink", c.0.kind())),
        Role::Source(_) if !node.inputs.is_empty() => Some(format!("the source `{}` can't read a stage", node.id)),
        Role::Sink(_) if is_dead_letters => None,
        Role::Stage(_) | Role::Sink(_) if node.inputs.is_empty() => {
            Some(format!("`{}` reads nothing: add a source before it, or `from:`", node.id))
        }
        Role::Stage(c) if c.0.inputs() == Inputs::Two && node.inputs.len() != 2 => {
            Some(format!("`{}` joins two inputs, and has {}", node.id, node.inputs.len()))
        }
        _ => None,
    };
    problems.extend(wrong.map(|w| at(node, Problem::new(w))));
    check_extras(graph, node, problems);
    if node.lanes == Some(0) {
        problems.push(at(node, Problem::new(format!("`{}` has no lanes; one is the least", node.id))));
    }
    if graph.on_error(node) == OnError::DeadLetter && graph.options.dead_letters.is_none() && !is_dead_letters {
        let problem = Problem::new(format!("`{}` sends failed rows to the dead letters, and there are none", node.id));
        problems.push(at(node, problem.help("add `dead_letters: { file: { path: rejected.jsonl } }`")));
    }
}

/// What only some roles can say.
fn check_extras(graph: &Graph, node: &Node, problems: &mut Vec<Problem>) {
    let mut fault = |problem: Problem| problems.push(at(node, problem));
    if matches!(node.role, Role::Source(_)) && node.on_full != OnFull::Block {
        let problem = Problem::new(format!("no edge leads into the source `{}`", node.id));
        fault(problem.help("say `on_full` where it is read"));
    }
    if !matches!(node.role, Role::Sink(_)) && !node.fallback.is_empty() {
        fault(Problem::new(format!("`{}` is no sink, and only sinks have a fallback", node.id)));
    }
    for other in node.fallback.iter().filter(|c| c.0.capabilities().sink.is_none()) {
        fault(Problem::new(format!("the fallback `{}` can't be a sink", other.0.kind())));
    }
    if let Some(name) = node.rate_limit.as_ref().filter(|name| !graph.options.rate_limits.contains_key(*name)) {
        let problem = Problem::new(format!("there is no rate limit `{name}`"));
        let help = did_you_mean(name, graph.options.rate_limits.keys().map(String::as_str));
        fault(help.into_iter().fold(problem, Problem::help));
    }
}

/// Every source and stage must be read by someone, and there must be a sink.
fn check_use(graph: &Graph, problems: &mut Vec<Problem>) {
    let read: HashSet<&str> = graph.nodes.iter().flat_map(|n| n.inputs.iter().map(|i| i.node.as_str())).collect();
    for node in graph.nodes.iter().filter(|n| !matches!(n.role, Role::Sink(_)) && !read.contains(n.id.as_str())) {
        problems.push(at(node, Problem::new(format!("nothing reads `{}`", node.id)).help("add a sink, or remove it")));
    }
    if graph.nodes.is_empty() {
        problems.push(Problem::new("there is nothing to run: no source and no sink"));
    }
    if let Some(id) = graph.options.dead_letters.as_deref().filter(|id| graph.node(id).is_none()) {
        problems.push(Problem::new(format!("the sink of the dead letters, `{id}`, does not exist")));
    }
}
