//! Answers what asks nobody before any limit is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::record_batch::RecordBatch;

use crate::api::{Bill, BoxCall, Call, CallContext, Reply, Usage};
use crate::error::{Error, Result};
use crate::metrics::StageStats;

/// The outermost layer of a round: a request whose answer is in the journal, that was made before, or is not wanted, waits for no rate and
/// costs nothing.
pub struct Known {
    /// Who knows: the call without its layers.
    pub call: BoxCall,
    /// The call with them.
    pub inner: BoxCall,
    /// Where rows are counted whose answers were in the journal.
    pub stats: Arc<StageStats>,
}

impl Call for Known {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let asked = CallContext { bill: Bill::default(), ..context.clone() };
        match self.call.known(&rows, &asked).await? {
            Some(answer) => {
                self.stats.rows_known.fetch_add(asked.bill.total().known, Relaxed);
                Ok(Reply::rows(answer))
            }
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
