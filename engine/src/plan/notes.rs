//! What a spec should be told although it can run: stages that work batch by batch where a reader may think of all rows.

use super::Plan;
use crate::diagnostic::Problem;
use crate::graph::Role;

/// One for each such stage, with its place in the spec. A stage that reads batches made on purpose is meant so.
pub fn find(plan: &Plan) -> Vec<Problem> {
    let stages = plan.nodes.iter().enumerate().filter(|(_, node)| node.open.is_none());
    let notes = stages.filter_map(|(n, node)| {
        let Role::Stage(config) = &node.role else { return None };
        let note = config.0.by_batch(&node.inputs)?;
        let mut before = plan.edges_to(n).map(|edge| &plan.nodes[edge.from].role);
        let is_meant = before.all(|role| matches!(role, Role::Stage(config) if config.0.makes_batches()));
        let note = Problem { message: format!("`{}` {}", node.id, note.message), ..note };
        (!is_meant).then(|| node.place(note))
    });
    notes.collect()
}
