//! Answers what asks nobody before any limit is asked.

use arrow::record_batch::RecordBatch;

use crate::api::{BoxCall, Call, CallContext, Reply, Usage};
use crate::error::{Error, Result};

/// The outermost layer: a request that was made before, or is not wanted, waits for no rate and costs nothing.
pub struct Known {
    /// Who knows: the call without its layers.
    pub call: BoxCall,
    /// The call with them.
    pub inner: BoxCall,
}

impl Call for Known {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        match self.call.known(&rows)? {
            Some(answer) => Ok(Reply::rows(answer)),
            None => self.inner.call(rows, context).await,
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
