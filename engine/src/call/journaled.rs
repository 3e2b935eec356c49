//! Looks a request up before it is made, and keeps its answer: what was paid for once is never paid for again.

use std::sync::Arc;

use arrow::record_batch::RecordBatch;

use crate::api::call::Memo;
use crate::api::{Call, CallContext, Reply, Usage};
use crate::error::{Error, Result};

/// Asks the journal first. Without one it passes the request on: the durable journal puts itself here.
///
/// Answers with rejected rows are not kept, since a rejection may be mended by a new attempt.
pub struct Journaled<C> {
    /// What is expensive.
    pub inner: C,
    /// Where answers are kept, by idempotency key.
    pub journal: Option<Arc<dyn Memo>>,
}

impl<C: Call> Call for Journaled<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let Some(journal) = &self.journal else { return self.inner.call(rows, context).await };
        if let Some(kept) = journal.find(&context.idempotency_key).await? {
            return Ok(Reply::rows(kept));
        }
        let reply = self.inner.call(rows, context).await?;
        if reply.rejected.is_empty() {
            // The answer is durable before anyone sees it, so no reader ever has a result that a restart would pay for again.
            journal.keep(&context.idempotency_key, &reply.rows).await?;
        }
        Ok(reply)
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
