//! The synchronous stage: batches in, batches out.

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::output::Output;
use crate::error::Result;
use crate::state::StateVisitor;
use crate::time::Timestamp;

/// Whether a stage has said everything that its input gave it to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Everything is in the output.
    Done,
    /// There is more: the engine sends on what is in the output and calls [`Stage::resume`]. No other method is called
    /// before a call returned `Done`, and barriers wait.
    More,
}

/// A synchronous transformation of batches, one instance per lane.
///
/// The engine calls the methods of one instance one after the other, never two at once. A method has no clock, channel,
/// file or lock of its own: time comes as [`Output::now`], and what waits is a [`Call`](super::Call). Neighbouring
/// stages are fused: they run in one task and hand each other batches without a channel.
///
/// What a call puts into `out` is released only when it returns `Ok`; after an `Err` it is dropped, and:
/// - a stage without state sees the batch again in halves, until the rows at fault are alone; these get the error and
///   go where `on_error` says, the others go on;
/// - a stage with state ends the job, because half of the state may have changed.
///
/// A panic is such an `Err`.
pub trait Stage: Send + 'static {
    /// One batch: 1 to 8,192 rows in the schema that was planned for the input.
    ///
    /// # Errors
    /// When a row can't be worked. [`Output::reject`] is the better way when the stage knows which one.
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress>;

    /// Goes on after [`Progress::More`]; what was said so far has left.
    ///
    /// # Errors
    /// As for [`Stage::process`]; the job ends, since there is no batch to narrow.
    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// No row earlier than `watermark` follows. Called when the least of the inputs' watermarks has risen.
    ///
    /// # Errors
    /// Ends the job.
    fn advance(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        let _ = (watermark, out);
        Ok(Progress::Done)
    }

    /// The monotonic time (that of [`Output::now`]) at which [`Stage::tick`] is wanted; asked after every other call.
    fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// The time of [`Stage::wake_at`] has come.
    ///
    /// # Errors
    /// Ends the job.
    fn tick(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// The input has ended: say what is left to say. Called once, last.
    ///
    /// # Errors
    /// Ends the job.
    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// Names each piece of state once, for saving and restoring alike. A stage that keeps something between two batches
    /// outside of what it names here loses it in a recovery.
    ///
    /// # Errors
    /// What the visitor says.
    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        let _ = visitor;
        Ok(())
    }
}

/// A stage of any type.
pub struct BoxStage(pub(crate) Box<dyn Stage>);

impl BoxStage {
    /// Hands a stage over to the engine.
    pub fn new(stage: impl Stage) -> Self {
        Self(Box::new(stage))
    }
}

impl std::ops::Deref for BoxStage {
    type Target = dyn Stage;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::ops::DerefMut for BoxStage {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.0
    }
}
