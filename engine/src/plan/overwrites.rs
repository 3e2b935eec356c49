//! Refuses a sink that would empty a file which a source of the same job reads.

use std::path::PathBuf;

use super::Plan;
use crate::api::ConnectContext;
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::graph::Role;

/// Compares the files of every sink and fallback with those of every source.
///
/// # Errors
/// Every sink that would empty an input.
pub fn refuse(plan: &Plan, env: &Env) -> Result<(), Problems> {
    let context = |id: &str| ConnectContext { env: env.clone(), id: id.to_owned() };
    let mut inputs = Vec::new();
    for node in &plan.nodes {
        if let Role::Source(connector) = &node.role {
            inputs.extend(connector.0.files(&context(&node.id)).read.into_iter().map(|path| (&node.id, path)));
        }
    }
    let mut problems = Vec::new();
    for node in &plan.nodes {
        let Role::Sink(connector) = &node.role else { continue };
        for connector in [connector].into_iter().chain(&node.fallback) {
            let emptied = connector.0.files(&context(&node.id)).emptied;
            let both = |path: &PathBuf| inputs.iter().find(|(_, input)| env.files().is_same(path, input));
            if let Some((source, path)) = emptied.iter().find_map(both) {
                let message = format!("`{}` would empty `{}`, which `{source}` reads", node.id, path.display());
                problems.push(node.place(Problem::new(message).help("write to another file").under("path")));
            }
        }
    }
    Problems::check(problems)
}
