//! A stage that is asked for one run at a time, as a call is.

use std::sync::{Mutex, PoisonError};

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;

use crate::api::{BoxStage, Call, CallContext, Output, Progress, Reply};
use crate::error::{Error, Result};

pub(super) struct Staged(Mutex<BoxStage>);

impl Staged {
    pub(super) fn new(stage: BoxStage) -> Self {
        Self(Mutex::new(stage))
    }
}

impl Call for Staged {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let mut out = Output::at(context.env.monotonic());
        let mut stage = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut progress = stage.process(&rows, &mut out)?;
        while progress == Progress::More {
            progress = stage.resume(&mut out)?;
        }
        let said: Vec<RecordBatch> = out.batches.iter().map(|(_, rows)| rows.clone()).collect();
        let rejected = std::mem::take(&mut out.rejected);
        let rows = match said.as_slice() {
            [] if rejected.is_empty() => return Err(Error::engine("a step's stage must give one row for one")),
            [] => rows.slice(0, 0),
            [first, ..] => concat_batches(first.schema_ref(), &said)?,
        };
        Ok(Reply { rejected, ..Reply::rows(rows) })
    }
}
