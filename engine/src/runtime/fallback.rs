//! A sink with others behind it: what one refuses for good, or fails to take after its attempts, goes to the next.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;

use super::sink_task::{Trying, write_or_retry};
use crate::api::output::RejectedRow;
use crate::api::{BoxSink, Outcome, Receipt, Rejected, Sink, Written};
use crate::data::message::Epoch;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::metrics::StageStats;

/// How long a sink that has failed is left alone: the rows of that time go on to the next at once, instead of each batch
/// waiting for attempts that fail.
const REST: Duration = Duration::from_secs(30);

/// Sinks in the order in which they are tried. All of them prepare and commit every epoch.
pub struct Fallback {
    sinks: Vec<Tried>,
    stats: Arc<StageStats>,
    env: Env,
}

struct Tried {
    sink: BoxSink,
    trying: Trying,
    /// Monotonic time before which it is not tried again.
    rests_until: Duration,
}

impl Fallback {
    /// The first is the sink itself, the others stand in for it.
    pub fn new(sinks: Vec<BoxSink>, trying: &Trying) -> Self {
        let apart = || Trying { outage: trying.outage.apart(), ..trying.clone() };
        let sinks =
            sinks.into_iter().map(|sink| Tried { sink, trying: apart(), rests_until: Duration::ZERO }).collect();
        Self { sinks, stats: trying.stats.clone(), env: trying.env.clone() }
    }

    /// Offers rows to one sink; returns those that it has not taken, each with its reason.
    async fn offer(&mut self, number: usize, rows: &RecordBatch) -> Result<Vec<Rejected>> {
        let is_last = number + 1 == self.sinks.len();
        let tried = &mut self.sinks[number];
        if tried.rests_until > self.env.monotonic() && !is_last {
            let error = Error::new(Kind::Io, "it has failed a moment ago, and is left alone");
            return Ok(vec![Rejected::rows(rows.clone(), error)]);
        }
        match write_or_retry(&mut tried.sink, rows, &tried.trying).await {
            Ok(Written { rejected }) => Ok(rejected),
            Err(error) if error.kind() == Kind::Validation => Ok(vec![Rejected::rows(rows.clone(), error)]),
            // When the last one fails, the job does.
            Err(error) if is_last || error.kind() == Kind::Engine => Err(error),
            Err(error) => {
                tried.rests_until = self.env.monotonic() + REST;
                tracing::warn!("the next fallback takes over for {REST:?}: {error}");
                Ok(vec![Rejected::rows(rows.clone(), error)])
            }
        }
    }
}

/// The rows that were rejected, as one batch. Text that is no row has no fallback.
fn rows_of(rejected: &[Rejected], like: &RecordBatch) -> Result<RecordBatch> {
    let rows = rejected.iter().map(|r| match &r.row {
        RejectedRow::Rows(rows) => Ok(rows),
        RejectedRow::Text(_) => Err(Error::engine("a sink has rejected text instead of rows")),
    });
    Ok(concat_batches(like.schema_ref(), rows.collect::<Result<Vec<_>>>()?)?)
}

impl Sink for Fallback {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let mut rejected = self.offer(0, rows).await?;
        for number in 1..self.sinks.len() {
            if rejected.is_empty() {
                break;
            }
            let left = rows_of(&rejected, rows)?;
            rejected = self.offer(number, &left).await?;
            let refused: usize = rejected.iter().map(Rejected::count).sum();
            self.stats.rows_fallback.fetch_add(left.num_rows().saturating_sub(refused) as u64, Relaxed);
        }
        Ok(Written { rejected })
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        let mut receipts = BTreeMap::new();
        for (number, tried) in self.sinks.iter_mut().enumerate() {
            receipts.extend(tried.sink.prepare(epoch).await?.map(|receipt| (number, receipt)));
        }
        if receipts.is_empty() { Ok(None) } else { Receipt::of(&receipts).map(Some) }
    }

    /// Commits all of them. When one can't tell, all are asked again: a commit is idempotent.
    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        for (number, receipt) in receipt.read::<BTreeMap<usize, Receipt>>()? {
            let tried =
                self.sinks.get_mut(number).ok_or_else(|| Error::engine("a receipt of a fallback that is gone"))?;
            match tried.sink.commit(&receipt).await? {
                Outcome::Committed => {}
                other => return Ok(other),
            }
        }
        Ok(Outcome::Committed)
    }

    fn wake_at(&self) -> Option<Duration> {
        self.sinks.iter().filter_map(|tried| tried.sink.wake_at()).min()
    }

    async fn tick(&mut self) -> Result<()> {
        let now = self.env.monotonic();
        for tried in self.sinks.iter_mut().filter(|tried| tried.sink.wake_at().is_some_and(|at| at <= now)) {
            tried.sink.tick().await?;
        }
        Ok(())
    }

    async fn finish(&mut self) -> Result<()> {
        for tried in &mut self.sinks {
            tried.sink.finish().await?;
        }
        Ok(())
    }
}
