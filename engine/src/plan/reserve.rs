//! The bytes and rows of each channel: reserved here, so that the job as a whole has a bound before it starts.

use std::path::PathBuf;

use super::{Exchange, Plan};
use crate::api::OnFull;
use crate::checkpoint::store::plain;
use crate::data::records::{BYTES_MAX, ROWS_MAX};
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;
use crate::state::Room;

/// A quarter of the memory is for the edges: a batch beside the queued ones is held by each task, and state has its own.
const EDGES_SHARE: u64 = 4;
/// Half of it is for state.
const STATE_SHARE: u64 = 2;
/// The most that a channel gets: four full batches.
const CHANNEL_MAX: u64 = 4 * BYTES_MAX as u64;
/// The least: a batch of several rows is cut to fit, so this bounds how small batches become.
const CHANNEL_MIN: u64 = 64 << 10;
/// Batches' worth of rows in a channel.
const BATCHES: usize = 8;

/// Divides the reservation of the edges evenly among the channels.
///
/// # Errors
/// When `limits.memory` does not even hold the least for each.
pub fn reserve(plan: &mut Plan) -> Result<(), Problems> {
    let channels: u64 = (0..plan.edges.len()).map(|e| channels(plan, e) as u64).sum();
    let budget = plan.options.memory / EDGES_SHARE;
    let each = (budget / channels.max(1)).min(CHANNEL_MAX);
    if each < CHANNEL_MIN && channels > 0 {
        let needed = channels * CHANNEL_MIN * EDGES_SHARE;
        let problem = Problem::new(format!(
            "`limits.memory` is too small: {channels} channels of at least {} KiB need {} MiB",
            CHANNEL_MIN >> 10,
            needed.div_ceil(1 << 20)
        ));
        return Err(problem.help("raise `limits.memory`, or use fewer lanes").into());
    }
    for edge in plan.edges.iter_mut().filter(|e| !e.fused) {
        edge.bytes = usize::try_from(each).unwrap_or(usize::MAX);
        edge.rows = plan.options.edge_rows.unwrap_or(BATCHES * ROWS_MAX);
    }
    Ok(())
}

impl Plan {
    /// What the state of one lane of a stage may hold in memory, a share of half of `limits.memory`, and where the rest goes.
    pub fn state_room(&self, env: &Env, node: usize, lane: usize) -> Option<Room> {
        let lanes: usize = self.nodes.iter().filter(|n| n.keeps_keys).map(|n| n.lanes).sum();
        let each = self.options.memory / STATE_SHARE / lanes.max(1) as u64;
        let memory = self.options.state_bytes.unwrap_or(usize::try_from(each).unwrap_or(usize::MAX));
        let name = format!("{node}-{lane}-{}", plain(&self.nodes[node].id));
        Some(Room { memory, env: env.clone(), folder: self.state_folder()?, name, file: Room::FILE })
    }

    /// Where state goes that memory can't hold, in a job that keeps checkpoints. The others have no folder of their own.
    pub fn state_folder(&self) -> Option<PathBuf> {
        self.checkpoints.as_ref().map(|at| at.state(&self.name))
    }
}

/// How many channels an edge is made of.
pub fn channels(plan: &Plan, edge: usize) -> usize {
    let e = &plan.edges[edge];
    let (from, to) = (plan.nodes[e.from].lanes, plan.nodes[e.to].lanes);
    // Behind a spool there is a channel to each lane of the reader.
    let behind = if matches!(e.on_full, OnFull::Isolate(_)) { to } else { 0 };
    match e.exchange {
        _ if e.fused => 0,
        Exchange::Forward => from.max(to) + behind,
        _ => from * to + behind,
    }
}
