//! The stage with two inputs.

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::output::Output;
use super::stage::Progress;
use crate::error::Result;
use crate::state::StateVisitor;
use crate::time::Timestamp;

/// A [`Stage`](super::Stage) with two inputs. All that is said there holds here; the engine aligns the barriers of both
/// inputs and hands on the lesser of their watermarks. It must take rows from either input at any time: one that would
/// read its left input first holds them in its state.
pub trait Join: Send + 'static {
    /// A batch of the first input.
    ///
    /// # Errors
    /// Ends the job: a join has state.
    fn left(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress>;

    /// A batch of the second input.
    ///
    /// # Errors
    /// Ends the job: a join has state.
    fn right(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress>;

    /// As [`Stage::resume`](super::Stage::resume).
    ///
    /// # Errors
    /// Ends the job.
    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// As [`Stage::advance`](super::Stage::advance), with the lesser watermark of the two.
    ///
    /// # Errors
    /// Ends the job.
    fn advance(&mut self, watermark: Timestamp, out: &mut Output) -> Result<Progress> {
        let _ = (watermark, out);
        Ok(Progress::Done)
    }

    /// As [`Stage::wake_at`](super::Stage::wake_at).
    fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// As [`Stage::tick`](super::Stage::tick).
    ///
    /// # Errors
    /// Ends the job.
    fn tick(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// Both inputs have ended.
    ///
    /// # Errors
    /// Ends the job.
    fn finish(&mut self, out: &mut Output) -> Result<Progress> {
        let _ = out;
        Ok(Progress::Done)
    }

    /// As [`Stage::visit_state`](super::Stage::visit_state).
    ///
    /// # Errors
    /// What the visitor says.
    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()>;
}

/// A join of any type.
pub struct BoxJoin(pub(crate) Box<dyn Join>);

impl BoxJoin {
    /// Hands a join over to the engine.
    pub fn new(join: impl Join) -> Self {
        Self(Box::new(join))
    }
}

impl std::ops::Deref for BoxJoin {
    type Target = dyn Join;
    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl std::ops::DerefMut for BoxJoin {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut *self.0
    }
}
