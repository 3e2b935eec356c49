//! Which step comes after which, and why; which could run side by side; and what the author says twice.

use petgraph::unionfind::UnionFind;
use serde::Serialize;

use crate::diagnostic::Problem;
use crate::spec::Chain;
use crate::spec::model::{Starts, Step};
use crate::spec::references::reaches;

/// The steps of a workflow as a graph: what `bourn plan` tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dependencies {
    /// The steps, in the order of the spec.
    pub nodes: Vec<Node>,
    /// Which comes after which.
    pub edges: Vec<Edge>,
    /// Steps with as many on the longest way before them: none of a cluster needs another one of it. It is for people to read: each
    /// step starts the moment that what it needs has ended.
    pub clusters: Vec<Vec<String>>,
    /// Parts of the workflow that have nothing to do with each other.
    pub components: Vec<Vec<String>>,
}

/// A step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Node {
    /// Its id.
    pub id: String,
    /// What it does: `/query`.
    pub command: String,
}

/// That a step comes after another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// The one before.
    pub from: String,
    /// The one behind.
    pub to: String,
    /// Why so.
    pub why: Why,
    /// Whether the plan is the same without it: another edge, or several, say it too.
    pub redundant: bool,
    /// What they would both touch, of a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Why a step comes after another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Why {
    /// The spec says so: `depends_on`, or the `then` of a switch.
    Explicit,
    /// A place such as `${plan.results}` reads it.
    Ref,
    /// They must not overlap, and the spec names the one before first.
    Conflict,
}

impl Dependencies {
    /// The clusters on one line: `{a}, {b, c}, {d}`.
    pub fn shown(&self) -> String {
        let all: Vec<_> = self.clusters.iter().map(|ids| format!("{{{}}}", ids.join(", "))).collect();
        all.join(", ")
    }
}

/// The graph of the steps; what undoes them, and those at the end, come after all others and are left out.
pub fn dependencies(spec: &Chain) -> Dependencies {
    let id = |at: usize| spec.steps[at].id.clone();
    let steps: Vec<usize> = (0..spec.steps.len()).filter(|at| spec.steps[*at].starts == Starts::Completed).collect();
    let mut edges = Vec::new();
    for at in steps.iter().copied() {
        let step = &spec.steps[at];
        for from in step.reads.iter().copied() {
            let edge = |why, redundant| Edge { from: id(from), to: id(at), why, redundant, reason: None };
            let is_read = step.refs.contains(&from);
            let is_said = step.said.iter().any(|(need, _)| *need == from);
            let is_needed = step.needs.contains(&from);
            if is_said || !is_read {
                edges.push(edge(Why::Explicit, is_said && (is_read || !is_needed)));
            }
            if is_read {
                edges.push(edge(Why::Ref, !is_needed));
            }
        }
        edges.extend(step.after.iter().map(|after| {
            let (from, reason) = (id(after.step), Some(after.reason.clone()));
            Edge { from, to: id(at), why: Why::Conflict, redundant: !step.follows.contains(&after.step), reason }
        }));
    }
    let depths = depths(spec);
    let longest = steps.iter().map(|at| depths[*at]).max().unwrap_or(0);
    let cluster = |depth| steps.iter().copied().filter(|at| depths[*at] == depth).map(id).collect();
    let nodes = steps.iter().map(|at| Node { id: id(*at), command: spec.steps[*at].work.command.clone() });
    Dependencies {
        nodes: nodes.collect(),
        edges,
        clusters: (1..=longest).map(cluster).collect(),
        components: components(spec, &steps),
    }
}

/// How many steps stand on the longest way to each, itself included.
fn depths(spec: &Chain) -> Vec<usize> {
    crate::spec::complexity::depths(&spec.steps.iter().map(|s| s.follows.clone()).collect::<Vec<_>>())
}

/// The parts that no edge joins, each in the order of the spec.
fn components(spec: &Chain, steps: &[usize]) -> Vec<Vec<String>> {
    let mut joined = UnionFind::<usize>::new(spec.steps.len());
    for at in steps {
        for other in &spec.steps[*at].follows {
            joined.union(*at, *other);
        }
    }
    let mut parts: Vec<(usize, Vec<String>)> = Vec::new();
    for at in steps {
        let part = joined.find(*at);
        match parts.iter_mut().find(|(of, _)| *of == part) {
            Some((_, ids)) => ids.push(spec.steps[*at].id.clone()),
            None => parts.push((part, vec![spec.steps[*at].id.clone()])),
        }
    }
    parts.into_iter().map(|(_, ids)| ids).collect()
}

/// What the author says of dependencies although the plan is the same without it, each with its place; those of workflows within too.
pub fn redundant(spec: &Chain) -> Vec<Problem> {
    let needs: Vec<Vec<usize>> = spec.steps.iter().map(|s| s.reads.clone()).collect();
    let id = |at: usize| &spec.steps[at].id;
    let mut all = Vec::new();
    for step in &spec.steps {
        for (need, way) in &step.said {
            let between = || step.reads.iter().copied().find(|other| other != need && reaches(&needs, *other, *need));
            let why = match () {
                () if step.refs.contains(need) => format!("a place in it reads `{}` already", id(*need)),
                () => match between() {
                    Some(other) => format!("`{}` needs it already", id(other)),
                    None => continue,
                },
            };
            let problem = Problem::new(format!("that `{}` needs `{}` need not be said: {why}", step.id, id(*need)));
            all.push(Problem { path: [step.path.as_slice(), way].concat(), ..problem });
        }
        all.extend(within(step));
    }
    all
}

/// Those of workflows within a step that stand in the same text.
fn within(step: &Step) -> Vec<Problem> {
    step.nested().filter(|nested| nested.file.is_none()).flat_map(|nested| redundant(&nested.chain)).collect()
}
