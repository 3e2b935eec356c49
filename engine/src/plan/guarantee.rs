//! The delivery guarantee of each pair of source and sink, and how often epochs must end for it.

use std::time::Duration;

use super::Plan;
pub use crate::api::Level;
use crate::api::{Delivery, OnFull, Replay};
use crate::diagnostic::{Problem, Problems};
use crate::graph::Role;

/// What a pair of source and sink delivers, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarantee {
    /// The id of the source.
    pub source: String,
    /// The id of the sink.
    pub sink: String,
    /// What it delivers.
    pub level: Level,
    /// Why not more.
    pub reason: &'static str,
}

/// How often a checkpoint is taken where neither the job nor its sources say.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(10);

/// Computes the guarantee of each pair that a path joins. The weaker side decides.
pub fn compute(plan: &Plan) -> Vec<Guarantee> {
    let mut found = Vec::new();
    for (s, source) in plan.nodes.iter().enumerate() {
        let Role::Source(connector) = &source.role else { continue };
        let Some(reads) = connector.0.capabilities().source else { continue };
        let reached = reached_from(plan, s);
        let lossy = lossy_from(plan, &reached);
        for (n, sink) in plan.nodes.iter().enumerate().filter(|(n, _)| reached[*n]) {
            let Role::Sink(connector) = &sink.role else { continue };
            let Some(writes) = connector.0.capabilities().sink else { continue };
            // What went to which of several sinks is not kept.
            let writes = if sink.fallback.is_empty() { writes } else { Delivery::Plain };
            let (level, reason) = if lossy[n] {
                (Level::AtMostOnce, "an edge between them drops rows when it is full")
            } else {
                pair(reads.replay, writes, plan.checkpoints.is_some())
            };
            found.push(Guarantee { source: source.id.to_string(), sink: sink.id.to_string(), level, reason });
        }
    }
    found
}

/// Refuses a wish that a pair can't keep. The sink of the dead letters is beside the wish.
///
/// # Errors
/// Every pair that gives less.
pub fn check(plan: &Plan) -> Result<(), Problems> {
    let Some(wish) = plan.options.delivery else { return Ok(()) };
    let less = plan.guarantees.iter().filter(|g| g.level < wish && plan.options.dead_letters.as_ref() != Some(&g.sink));
    let problem = |g: &Guarantee| {
        let sink = plan.nodes.iter().find(|n| *n.id == *g.sink)?;
        let said = format!(
            "`{}` gets the rows of `{}` {}, and `delivery` wants {wish}: {}",
            g.sink, g.source, g.level, g.reason
        );
        let problem = match plan.checkpoints {
            None if wish == Level::ExactlyOnce => Problem::new(said).help("leave out `checkpoint: false`"),
            _ => {
                Problem::new(said).help("`bourn plan` shows what each pair of source and sink gives, without the wish")
            }
        };
        Some(sink.place(problem))
    };
    Problems::check(less.filter_map(problem).collect())
}

/// The guarantee of a source that can read so much again, into a sink that takes rows so, in a job that can or can't take
/// up where it was cut off.
fn pair(replay: Replay, delivery: Delivery, recovers: bool) -> (Level, &'static str) {
    match (replay, delivery) {
        (Replay::FromPosition, _) if !recovers => {
            (Level::AtLeastOnce, "no checkpoint is kept: a run that was cut off starts anew")
        }
        (Replay::Nothing, _) => (Level::AtMostOnce, "the source can't read again what was under way"),
        (Replay::FromPosition, Delivery::Transactional) => {
            (Level::ExactlyOnce, "the source replays, the sink commits by epoch")
        }
        (Replay::FromPosition, Delivery::Revocable) => {
            (Level::ExactlyOnce, "the source replays, the sink takes back what no checkpoint has")
        }
        (Replay::FromPosition, Delivery::Plain) => {
            (Level::AtLeastOnce, "the sink's rows are visible before their epoch ends")
        }
        (Replay::Unacknowledged, _) => (Level::AtLeastOnce, "the source sends again what was not acknowledged"),
    }
}

/// How often an epoch ends beside the last one: as the job says; often enough for sources that wait for acks; every
/// second for inputs without an end, so that their sinks are flushed; never for finite ones.
pub fn epochs(plan: &Plan) -> Option<Duration> {
    let mut sources = plan.nodes.iter().filter_map(|n| match &n.role {
        Role::Source(c) => c.0.capabilities().source,
        _ => None,
    });
    let by_need = || {
        let all: Vec<_> = sources.by_ref().collect();
        if all.iter().any(|s| s.replay == Replay::Unacknowledged) {
            return Some(Duration::from_millis(200));
        }
        all.iter().any(|s| !s.finite).then_some(Duration::from_secs(1))
    };
    let checkpoints = plan.checkpoints.is_some().then_some(CHECKPOINT_EVERY);
    // What sources need is more often than what a checkpoint needs, and an epoch in which nothing has happened is free.
    plan.options.epoch_every.or_else(by_need).or(checkpoints)
}

fn reached_from(plan: &Plan, start: usize) -> Vec<bool> {
    let mut reached = vec![false; plan.nodes.len()];
    reached[start] = true;
    // Edges are listed by their reader, and nodes stand behind what they read: one pass suffices.
    for e in &plan.edges {
        reached[e.to] |= reached[e.from];
    }
    reached
}

/// The nodes to which an edge that drops is on a way.
fn lossy_from(plan: &Plan, reached: &[bool]) -> Vec<bool> {
    let mut lossy = vec![false; plan.nodes.len()];
    for e in plan.edges.iter().filter(|e| reached[e.from]) {
        lossy[e.to] |= lossy[e.from] || e.on_full == OnFull::Drop;
    }
    lossy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_weaker_side_decides() {
        assert_eq!(pair(Replay::FromPosition, Delivery::Transactional, true).0, Level::ExactlyOnce);
        assert_eq!(pair(Replay::FromPosition, Delivery::Plain, true).0, Level::AtLeastOnce);
        assert_eq!(pair(Replay::Unacknowledged, Delivery::Transactional, true).0, Level::AtLeastOnce);
        assert_eq!(pair(Replay::Nothing, Delivery::Transactional, true).0, Level::AtMostOnce);
    }

    #[test]
    fn nothing_is_promised_exactly_once_without_recovery() {
        assert_eq!(pair(Replay::FromPosition, Delivery::Transactional, false).0, Level::AtLeastOnce);
    }
}
