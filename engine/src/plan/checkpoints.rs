//! Fourth pass: whether the progress of the job is made safe, and where.

use super::{Plan, PlannedEdge};
use crate::api::{Checkpointing, Checkpoints, Delivery, Level, OnFull, Replay};
use crate::diagnostic::{Problem, Problems};
use crate::graph::Role;

/// Where checkpoints are kept, if the job keeps any.
///
/// # Errors
/// When it must keep them, and they can't cover an edge.
pub fn decide(plan: &Plan) -> Result<Option<Checkpoints>, Problems> {
    let mut spooled = plan.edges.iter().filter(|e| matches!(e.on_full, OnFull::Isolate(_))).peekable();
    match &plan.options.checkpoints {
        Checkpointing::Off => Ok(None),
        Checkpointing::WhereNeeded(at) => Ok((spooled.peek().is_none() && is_needed(plan)).then(|| at.clone())),
        Checkpointing::On(at) => {
            Problems::check(spooled.map(|e| not_covered(plan, e)).collect())?;
            Ok(Some(at.clone()))
        }
    }
}

fn not_covered(plan: &Plan, edge: &PlannedEdge) -> Problem {
    let node = &plan.nodes[edge.to];
    let problem = Problem::new(format!("`{}` reads through a spool, which checkpoints do not cover", node.id));
    let problem = problem.help("leave out `on_full: isolate`, or say `checkpoint: false`");
    // `on_full` stands in the block around the configuration.
    let around = node.path[..node.path.len().saturating_sub(1)].to_vec();
    Problem { path: around, ..problem }
}

/// Whether an input without an end goes where a crash would be seen for ever, or each row is to be seen once.
fn is_needed(plan: &Plan) -> bool {
    let endless = |of: fn(Replay) -> bool| {
        plan.nodes.iter().any(|n| match &n.role {
            Role::Source(c) => c.0.capabilities().source.is_some_and(|s| !s.finite && of(s.replay)),
            _ => false,
        })
    };
    let commits = plan.nodes.iter().any(|n| match &n.role {
        Role::Sink(c) => n.fallback.is_empty() && c.0.capabilities().sink.is_some_and(|d| d != Delivery::Plain),
        _ => false,
    });
    let is_wished = plan.options.delivery == Some(Level::ExactlyOnce);
    let keeps_keys = plan.nodes.iter().any(|n| n.keeps_keys);
    is_wished || endless(|r| r == Replay::FromPosition) && commits || endless(|r| r != Replay::Nothing) && keeps_keys
}
