//! Refuses a sink that would empty a file which a source of the same job reads, or write where another sink does.

use std::path::{Component, Path, PathBuf};

use super::{Plan, PlannedNode};
use crate::api::ConnectContext;
use crate::api::registry::BoxConnector;
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::graph::Role;

/// Compares the files of every sink and fallback with those of every source, and with those of the other sinks.
///
/// # Errors
/// Every sink that would empty an input, or write where another does.
pub fn refuse(plan: &Plan, env: &Env) -> Result<(), Problems> {
    let context =
        |node: &PlannedNode| ConnectContext { env: env.clone(), id: node.id.to_string(), lanes: node.lanes.max(1) };
    let mut inputs = Vec::new();
    for node in &plan.nodes {
        if let Role::Source(connector) = &node.role {
            inputs.extend(connector.0.files(&context(node)).read.into_iter().map(|path| (&node.id, path)));
        }
    }
    let mut problems = Vec::new();
    let mut outputs: Vec<(&PlannedNode, PathBuf)> = Vec::new();
    for node in &plan.nodes {
        for connector in sinks(node) {
            let files = connector.0.files(&context(node));
            let both = |path: &PathBuf| inputs.iter().find(|(_, input)| env.files().is_same(path, input));
            if let Some((source, path)) = files.emptied.iter().find_map(both) {
                let message = format!("`{}` would empty `{}`, which `{source}` reads", node.id, path.display());
                problems.push(node.place(Problem::new(message).help("write to another file").under("path")));
            }
            let Some(written) = files.written else { continue };
            let is_one = |path: &Path| plain(path) == plain(&written) || env.files().is_same(path, &written);
            match outputs.iter().find(|(_, path)| is_one(path)) {
                Some((other, path)) => problems.push(node.place(twice(other, path, node))),
                None => outputs.push((node, written)),
            }
        }
    }
    Problems::check(problems)
}

/// What a node writes with: the sink, and what stands in for it.
fn sinks(node: &PlannedNode) -> impl Iterator<Item = &BoxConnector> {
    let own = if let Role::Sink(connector) = &node.role { Some(connector) } else { None };
    own.into_iter().flat_map(|own| [own].into_iter().chain(&node.fallback))
}

fn twice(one: &PlannedNode, path: &Path, other: &PlannedNode) -> Problem {
    let path = path.display();
    if one.id == other.id {
        let message = format!("`{}` and its fallback would write to `{path}`, each over the other", one.id);
        return Problem::new(message).help("give each a path of its own");
    }
    let message = format!("`{}` and `{}` would write to `{path}`, each over the other", one.id, other.id);
    Problem::new(message).help("give each a path of its own, or let one sink read what both read")
}

/// The path without `.` in it.
fn plain(path: &Path) -> PathBuf {
    path.components().filter(|part| *part != Component::CurDir).collect()
}
