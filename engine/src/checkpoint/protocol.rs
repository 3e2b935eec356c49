//! What tasks and the coordinator say to each other.

use crate::api::Receipt;
use crate::data::message::Epoch;

/// The number of a task in the plan.
pub type TaskId = usize;

/// What a task does in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It puts barriers into its stream, and acknowledges.
    Source,
    /// It aligns and forwards barriers.
    Stage,
    /// It prepares and commits.
    Sink,
}

/// What a task says to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The barrier has passed, or a finished task was asked; a sink adds the receipt of what it prepared.
    Aligned(TaskId, Epoch, Option<Receipt>),
    /// The receipt of this epoch is committed.
    Committed(TaskId, Epoch),
    /// The acks of this epoch have fired.
    Acknowledged(TaskId, Epoch),
    /// All inputs have ended, and what was left to say has left.
    Finished(TaskId),
}

/// What the coordinator says to a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To a source: put the barrier into your stream between two chunks, or report at once if you have finished.
    Barrier(Epoch),
    /// To a sink that has finished: prepare what you hold.
    Prepare(Epoch),
    /// To a sink: make this visible.
    Commit(Epoch, Receipt),
    /// To a spool: what it feeds has come to this epoch, so its barrier may pass.
    Release(Epoch),
    /// To a source: every sink has committed the rows of this epoch.
    Acknowledge(Epoch),
    /// To a source: read no more; what was read drains.
    Drain,
    /// To a source: read no more, and wait: another run goes on from here.
    Hold,
    /// To a source or sink: the last epoch is over.
    Exit,
}
