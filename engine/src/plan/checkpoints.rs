//! Fourth pass: whether the progress of the job is made safe, and where.

use std::pin::pin;
use std::time::Duration;

use futures::future::{Either, select};

use super::{Plan, PlannedEdge};
use crate::api::{Checkpointing, Checkpoints, Delivery, Level, OnFull, Place, Replay};
use crate::checkpoint::store;
use crate::data::units::Interval;
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::graph::Role;

/// Where checkpoints are kept, if the job keeps any.
///
/// # Errors
/// When it must keep them, and they can't cover an edge, or what is said of their place is at fault.
pub fn decide(plan: &Plan, env: &Env) -> Result<Option<Checkpoints>, Problems> {
    let mut spooled = plan.edges.iter().filter(|e| matches!(e.on_full, OnFull::Isolate(_))).peekable();
    match &plan.options.checkpoints {
        Checkpointing::Off => Ok(None),
        Checkpointing::WhereNeeded(at) => Ok((spooled.peek().is_none() && is_needed(plan)).then(|| at.clone())),
        Checkpointing::On(at) => {
            Problems::check(spooled.map(|e| not_covered(plan, e)).collect())?;
            if let Place::Store(store) = &at.at {
                store.check(env).map_err(|problems| problems.under("checkpoint"))?;
            }
            Ok(Some(at.clone()))
        }
    }
}

/// How long a store may take to say what it has.
const PATIENCE: Duration = Duration::from_secs(15);

/// Looks whether the store of the checkpoints is there and lets us in; changes nothing.
///
/// # Errors
/// When it can't be reached.
pub async fn reach(plan: &Plan, env: &Env) -> Result<(), Problems> {
    let Some(Checkpoints { at: at @ Place::Store(_), .. }) = &plan.checkpoints else { return Ok(()) };
    let (at, job, world) = (at.clone(), plan.name.clone(), env.clone());
    let names = env.blocking(move || store::open(&at, &job, &world)?.names());
    let said = match select(pin!(names), env.sleep(PATIENCE)).await {
        Either::Left((names, _)) => names.flatten().err().map(|e| e.to_string()),
        Either::Right(_) => Some(format!("no answer within {}", Interval(PATIENCE))),
    };
    let problem = |said| Problem::new(format!("checkpoints: {said}")).under("path").under("checkpoint");
    Problems::check(said.map(problem).into_iter().collect())
}

fn not_covered(plan: &Plan, edge: &PlannedEdge) -> Problem {
    let node = &plan.nodes[edge.to];
    let problem = Problem::new(format!("`{}` reads through a spool, which checkpoints do not cover", node.id));
    let way_out = "leave out `on_full: isolate`, or say `checkpoint: false`; to have both, let this branch end in a table or a stream \
                   of NATS, and a job of its own read from there";
    let problem = problem.help(way_out);
    // `on_full` stands in the block around the configuration.
    let around = node.path[..node.path.len().saturating_sub(1)].to_vec();
    Problem { path: around, ..problem }
}

/// Whether an input without an end goes where beginning anew would be seen for ever, or each row is to be seen once. What was
/// acknowledged does not come again: files that are begun anew would lose it. And a job that pauses goes on later.
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
    is_wished || plan.pauses() || endless(|r| r != Replay::Nothing) && (commits || keeps_keys)
}
