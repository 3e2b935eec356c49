//! Answers what asks nobody before any limit is asked.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::record_batch::RecordBatch;

use crate::api::call::Cached;
use crate::api::{Bill, BoxCall, Call, CallContext, Reply, Usage};
use crate::error::{Error, Result};
use crate::metrics::StageStats;

/// The outermost layer of a round: a request whose answer is in the journal or the cache, that was made before, or is not wanted, waits for
/// no rate and costs nothing. One whose answer another one is about to get waits for that.
pub struct Known {
    /// Who knows: the call without its layers.
    pub call: BoxCall,
    /// The call with them.
    pub inner: BoxCall,
    /// Where rows are counted whose answers were there.
    pub stats: Arc<StageStats>,
}

/// Counts what became of looking into the cache.
pub(super) fn count(stats: &StageStats, Cached { hits, misses, errors }: Cached) {
    let counts = [(&stats.rows_cached, hits), (&stats.cache_misses, misses), (&stats.cache_errors, errors)];
    for (count, more) in counts.into_iter().filter(|(_, more)| *more > 0) {
        count.fetch_add(more, Relaxed);
    }
}

impl Known {
    async fn known(&self, rows: &RecordBatch, context: &CallContext) -> Result<Option<RecordBatch>> {
        let asked = CallContext { bill: Bill::default(), ..context.clone() };
        let answer = self.call.known(rows, &asked).await?;
        let billed = asked.bill.total();
        count(&self.stats, billed.cached);
        if answer.is_some() {
            self.stats.rows_known.fetch_add(billed.known, Relaxed);
        }
        Ok(answer)
    }
}

impl Call for Known {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        if let Some(answer) = self.known(&rows, context).await? {
            return Ok(Reply::rows(answer));
        }
        // Held until the request has ended.
        let mut _turn = None;
        if let Some(turn) = self.call.turn(&rows) {
            _turn = turn.await;
            if let Some(answer) = self.known(&rows, context).await? {
                return Ok(Reply::rows(answer));
            }
        }
        self.inner.call(rows, context).await
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
