//! Counts what answers cost, and asks nothing more when a budget is spent.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use arrow::record_batch::RecordBatch;

use super::known;
use crate::api::{Bill, BoxCall, Call, CallContext, Memo, OnExceeded, Purse, Purses, Reply, Usage};
use crate::error::{Error, Kind, Result};
use crate::metrics::{StageStats, nanos};

/// Stops the job, for the reason that it is given.
pub type Pause = Arc<dyn Fn(String) + Send + Sync>;

/// Pays for each attempt.
pub struct Spend {
    /// Who knows how a row passes without an answer: the call without its layers.
    pub call: BoxCall,
    /// The call with those that are below.
    pub inner: BoxCall,
    /// What it is paid out of.
    pub purses: Vec<Arc<Purse>>,
    /// What the run that it is for pays it out of too.
    pub runs: Option<Purses>,
    /// Stops the job.
    pub pause: Pause,
    /// Where it is counted over restarts.
    pub journal: Option<Arc<dyn Memo>>,
    /// Where it is counted for now.
    pub stats: Arc<StageStats>,
}

impl Spend {
    async fn not_paid(&self, purse: &Purse, stops: Option<&Pause>, rows: &RecordBatch) -> Result<Reply> {
        let failed = || Error::new(Kind::Budget, purse.to_string()).permanent();
        match purse.budget().on_exceeded {
            OnExceeded::Fail => Err(failed()),
            OnExceeded::Pause => {
                if let Some(stop) = stops {
                    stop(purse.to_string());
                }
                match self.call.postponed(rows)? {
                    Some(rows) => Ok(Reply::rows(rows)),
                    // The request is state of the job's last checkpoint, and is dropped with its task.
                    None => std::future::pending().await,
                }
            }
            OnExceeded::Degrade => {
                let rows = self.call.unasked(rows)?.ok_or_else(failed)?;
                self.stats.rows_degraded.fetch_add(rows.num_rows() as u64, Relaxed);
                Ok(Reply::rows(rows))
            }
        }
    }

    /// Counts what an attempt cost.
    fn count(&self, used: Usage) {
        self.stats.input_tokens.fetch_add(used.input_tokens, Relaxed);
        self.stats.output_tokens.fetch_add(used.output_tokens, Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "costs are no debts, and saturate"
        )]
        self.stats.cost.fetch_add((used.usd * 1e9).round() as u64, Relaxed);
    }
}

impl Call for Spend {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        // A run that has nothing left does not stop the job.
        let run = self.runs.as_ref().and_then(|runs| Some(runs.of(self.call.payer(&rows)?)));
        let purses = run.iter().map(|purse| (purse, None));
        let purses: Vec<_> = purses.chain(self.purses.iter().map(|purse| (purse, Some(&self.pause)))).collect();
        let estimate = if purses.is_empty() { Usage::default() } else { self.inner.estimate(&rows) };
        let mut reserved = Vec::with_capacity(purses.len());
        for (purse, stops) in purses {
            let Some(part) = purse.reserve(estimate).await else {
                drop(reserved);
                return self.not_paid(purse, stops, &rows).await;
            };
            reserved.push(part);
        }
        let context = CallContext { bill: Bill::default(), ..context.clone() };
        let reply = self.inner.call(rows, &context).await;
        let billed = context.bill.total();
        let mut used = reply.as_ref().map_or_else(|_| Usage::default(), |reply| reply.usage);
        used += billed.kept;
        used += billed.lost;
        self.stats.rows_known.fetch_add(billed.known, Relaxed);
        known::count(&self.stats, billed.cached);
        if let Some(took) = billed.first_piece {
            self.stats.first_piece.record(nanos(took));
        }
        if used != Usage::default() {
            self.count(used);
            for part in reserved {
                part.settle(used);
            }
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| billed.lost != Usage::default()) {
            journal.lost(billed.lost).await?;
        }
        reply
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    /// An answer in two pieces.
    struct Pieced;

    impl Call for Pieced {
        async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
            for secs in [3, 9] {
                context.bill.first_piece(std::time::Duration::from_secs(secs));
            }
            Ok(Reply::rows(rows))
        }
    }

    #[test]
    fn the_time_to_the_first_piece_of_an_answer_is_counted() {
        let stats = Arc::new(StageStats::default());
        let (call, inner, pause) = (BoxCall::new(Pieced), BoxCall::new(Pieced), Arc::new(drop));
        let spend = Spend { call, inner, purses: Vec::new(), runs: None, pause, journal: None, stats: stats.clone() };
        let context = CallContext::of(crate::testing::simulation::Simulation::new(1).env(), "s");
        spend.call(crate::rows![{"n": 1}], &context).now_or_never().unwrap().unwrap();
        assert_eq!((stats.first_piece.count(), stats.first_piece.sum()), (1, 3_000_000_000));
    }
}
