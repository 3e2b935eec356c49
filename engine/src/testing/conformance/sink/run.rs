//! The tests of a sink, one promise after the other, each in jobs of its own.

use std::path::PathBuf;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::types::{columns_of_all_types, one_of};
use super::{
    COMMIT_ELSEWHERE, COMMIT_TWICE, DECLARED, EMPTY, ENDS, FORGETS, IDLE_EPOCH, INVISIBLE, REJECTS, TYPES, Target,
    WRITES,
};
use crate::api::{
    BoxSink, ConnectContext, Connector, Delivery, Epochs, Outcome, Receipt, Rejected, Sink, SinkContext, Written,
};
use crate::data::message::Epoch;
use crate::env::Env;
use crate::error::{Error, Result, Retry};
use crate::testing::conformance::{Broken, Check, equal, in_time, require};
use crate::testing::harness::rows::{columns, difference_of_sets, rows_of};

/// A suite at work.
pub(super) struct Run<'a, T> {
    pub(super) env: &'a Env,
    pub(super) bound: Duration,
    pub(super) sample: &'a RecordBatch,
    pub(super) delivery: Delivery,
    /// Where sinks may stage rows.
    pub(super) folder: PathBuf,
    pub(super) target: &'a T,
    /// Jobs so far; each has a target of its own.
    pub(super) jobs: usize,
}

/// One job: its target, its sink, and the rows that it should leave. What goes wrong breaks `promise`.
struct Job<'a, C> {
    env: &'a Env,
    bound: Duration,
    promise: &'static str,
    schema: SchemaRef,
    target: Target<C>,
    sink: BoxSink,
    written: Vec<Value>,
    /// What the newest checkpoint says; none for a sink that is told of none.
    kept: Option<Epochs>,
}

impl<'a, C: Connector, T: Fn(usize) -> Target<C>> Run<'a, T> {
    async fn job(&mut self, promise: &'static str) -> Check<Job<'a, C>> {
        self.job_for(promise, self.sample.schema()).await
    }

    async fn job_for(&mut self, promise: &'static str, schema: SchemaRef) -> Check<Job<'a, C>> {
        self.jobs += 1;
        let target = (self.target)(self.jobs);
        let (env, bound) = (self.env, self.bound);
        let context = ConnectContext { env: env.clone(), id: "sink".into(), lanes: 1 };
        let agreed = in_time(env, bound, ENDS, target.connector.check_sink(&schema, &context)).await?;
        agreed.map_err(|p| Broken::new(promise, format!("({}) is refused: {:?}", columns(&schema), p.0)))?;
        let folder = self.folder.join(self.jobs.to_string());
        let kept = Epochs { run: format!("{:016x}", env.random()), behind: 0, receipts: Vec::new(), folder };
        let kept = (self.delivery != Delivery::Plain).then_some(kept);
        let sink = open(env, bound, promise, &target.connector, (&schema, kept.as_ref())).await?;
        Ok(Job { env, bound, promise, schema, target, sink, written: Vec::new(), kept })
    }

    pub(super) async fn writes(&mut self) -> Check {
        let mut job = self.job(WRITES).await?;
        let rows = self.sample.num_rows();
        // Slices, so that a sink that looks at the buffers below is noticed.
        job.write(&self.sample.slice(0, 2)).await?;
        job.write(&self.sample.slice(2, 1)).await?;
        let first = job.prepare(1).await?;
        require(first.is_some() || self.delivery == Delivery::Plain, DECLARED, || "no receipt for three rows".into())?;
        // The engine writes the next epoch while the first is being committed.
        job.write(&self.sample.slice(3, rows - 3)).await?;
        job.commit(first.as_ref()).await?;
        job.epoch(2).await?;
        job.ends().await
    }

    pub(super) async fn empty(&mut self) -> Check {
        let mut job = self.job(EMPTY).await?;
        job.epoch(1).await?;
        job.ends().await
    }

    pub(super) async fn idle_epoch(&mut self) -> Check {
        let mut job = self.job(IDLE_EPOCH).await?;
        job.epoch(1).await?;
        job.write(&self.sample.slice(0, 3)).await?;
        job.epoch(2).await?;
        job.epoch(3).await?;
        job.ends().await
    }

    pub(super) async fn commit_twice(&mut self) -> Check {
        let mut job = self.job(COMMIT_TWICE).await?;
        for epoch in [1, 2] {
            job.write(&self.sample.slice(epoch * 2, 2)).await?;
            let receipt = job.prepare(epoch as Epoch).await?;
            job.commit(receipt.as_ref()).await?;
            job.commit(receipt.as_ref()).await?;
        }
        job.ends().await
    }

    pub(super) async fn commit_elsewhere(&mut self) -> Check {
        let mut job = self.job(COMMIT_ELSEWHERE).await?;
        job.write(&self.sample.slice(0, 3)).await?;
        job.epoch(1).await?;
        job.write(&self.sample.slice(3, 2)).await?;
        let receipt = job.prepare(2).await?;
        job.keep(2, receipt.as_ref());
        job.reopen().await?;
        job.commit(receipt.as_ref()).await?;
        job.reopen().await?;
        job.commit(receipt.as_ref()).await?;
        job.ends().await
    }

    pub(super) async fn invisible(&mut self) -> Check {
        let mut job = self.job(INVISIBLE).await?;
        job.write(&self.sample.slice(0, 2)).await?;
        job.finds(&[]).await?;
        job.prepare(1).await?;
        job.finds(&[]).await?;
        job.write(&self.sample.slice(2, 2)).await?;
        drop(job.sink);
        found(&job.target, job.promise, &[]).await
    }

    pub(super) async fn forgets(&mut self) -> Check {
        let mut job = self.job(FORGETS).await?;
        job.write(&self.sample.slice(0, 2)).await?;
        job.epoch(1).await?;
        // Sent, and not counted on: the host goes down before the manifest is there.
        job.send(&self.sample.slice(2, 1)).await?;
        job.prepare(2).await?;
        job.send(&self.sample.slice(3, 1)).await?;
        job.reopen().await?;
        job.write(&self.sample.slice(4, 2)).await?;
        job.epoch(2).await?;
        job.ends().await
    }

    pub(super) async fn types(&mut self) -> Check {
        for rows in columns_of_all_types() {
            let schema = rows.schema();
            let target = (self.target)(self.jobs + 1);
            let context = ConnectContext { env: self.env.clone(), id: "sink".into(), lanes: 1 };
            let agreed = target.connector.check_sink(&schema, &context).await;
            if let Err(problems) = agreed {
                self.jobs += 1;
                let named = problems.0.iter().any(|p| !p.message.is_empty());
                require(named, TYPES, || format!("({}) is refused without a word", columns(&schema)))?;
                continue;
            }
            let mut job = self.job_for(TYPES, schema).await?;
            job.send(&rows).await?;
            job.send(&one_of(&rows)).await?;
            job.epoch(1).await?;
            job.finish().await?;
        }
        Ok(())
    }
}

async fn open(
    env: &Env,
    bound: Duration,
    promise: &'static str,
    sink: &impl Connector,
    (schema, kept): (&SchemaRef, Option<&Epochs>),
) -> Check<BoxSink> {
    let context = SinkContext { epochs: kept.cloned(), ..SinkContext::new(env.clone(), "sink", schema.clone()) };
    let opened = in_time(env, bound, ENDS, sink.sink(context)).await?;
    opened.map_err(|e| Broken::new(promise, format!("opening for ({}): {e}", columns(schema))))
}

/// In the place of a sink that is no more.
struct Gone;

impl Sink for Gone {
    async fn write(&mut self, _: &RecordBatch) -> Result<Written> {
        Err(Error::engine("the sink is gone"))
    }
    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Err(Error::engine("the sink is gone"))
    }
}

impl<C: Connector> Job<'_, C> {
    /// Another instance for the same target, as after a crash.
    async fn reopen(&mut self) -> Check {
        // What the old one holds, such as a lock, goes with it.
        self.sink = BoxSink::new(Gone);
        let with = (&self.schema, self.kept.as_ref());
        self.sink = open(self.env, self.bound, self.promise, &self.target.connector, with).await?;
        Ok(())
    }

    /// A checkpoint has this receipt.
    fn keep(&mut self, epoch: Epoch, receipt: Option<&Receipt>) {
        if let Some(kept) = &mut self.kept {
            kept.behind = epoch;
            kept.receipts = receipt.map(|r| (0, r.clone())).into_iter().collect();
        }
    }

    /// Writes rows, and notes those that were taken.
    async fn write(&mut self, rows: &RecordBatch) -> Check {
        let mut taken = rows_of(rows);
        for rejected in self.send(rows).await? {
            let crate::api::output::RejectedRow::Rows(refused) = &rejected.row else { continue };
            for row in rows_of(refused) {
                let place = taken.iter().position(|r| *r == row);
                let place =
                    place.ok_or_else(|| Broken::new(REJECTS, format!("refused, and not in the batch: {row}")))?;
                taken.swap_remove(place);
            }
        }
        self.written.append(&mut taken);
        Ok(())
    }

    async fn send(&mut self, rows: &RecordBatch) -> Check<Vec<Rejected>> {
        let what = format!("writing ({})", columns(rows.schema_ref()));
        let mut attempts = 0;
        let written = loop {
            attempts += 1;
            match in_time(self.env, self.bound, ENDS, self.sink.write(rows)).await? {
                Err(e) if e.retry() != Retry::Never && attempts < 10 => self.env.sleep(Duration::from_millis(10)).await,
                result => break self.well(&what, result)?,
            }
        };
        let refused: usize = written.rejected.iter().map(Rejected::count).sum();
        require(refused <= rows.num_rows(), REJECTS, || format!("{refused} of {} rows are refused", rows.num_rows()))?;
        Ok(written.rejected)
    }

    async fn prepare(&mut self, epoch: Epoch) -> Check<Option<Receipt>> {
        let prepared = in_time(self.env, self.bound, ENDS, self.sink.prepare(epoch)).await?;
        self.well("preparing", prepared)
    }

    async fn commit(&mut self, receipt: Option<&Receipt>) -> Check {
        let Some(receipt) = receipt else { return Ok(()) };
        for _ in 0..5 {
            match in_time(self.env, self.bound, ENDS, self.sink.commit(receipt)).await? {
                Ok(Outcome::Committed) => return Ok(()),
                Ok(Outcome::Unknown) => {}
                Ok(Outcome::Aborted) => return Err(Broken::new(self.promise, "the commit is told as aborted")),
                Err(e) if e.retry() != Retry::Never => {}
                Err(e) => return Err(Broken::new(self.promise, format!("committing: {e}"))),
            }
            self.env.sleep(Duration::from_millis(10)).await;
        }
        Err(Broken::new(self.promise, "five commits did not succeed"))
    }

    async fn epoch(&mut self, epoch: Epoch) -> Check {
        let receipt = self.prepare(epoch).await?;
        self.keep(epoch, receipt.as_ref());
        self.commit(receipt.as_ref()).await
    }

    async fn finish(&mut self) -> Check {
        let finished = in_time(self.env, self.bound, ENDS, self.sink.finish()).await?;
        self.well("finishing", finished)
    }

    /// The job ends well; what was written is there.
    async fn ends(mut self) -> Check {
        self.finish().await?;
        drop(self.sink);
        found(&self.target, self.promise, &self.written).await
    }

    async fn finds(&self, rows: &[Value]) -> Check {
        found(&self.target, self.promise, rows).await
    }

    fn well<R>(&self, what: &str, result: Result<R>) -> Check<R> {
        result.map_err(|e: Error| Broken::new(self.promise, format!("{what}: {e}")))
    }
}

async fn found<C>(target: &Target<C>, promise: &'static str, expected: &[Value]) -> Check {
    let Some(read_back) = &target.read_back else { return Ok(()) };
    let found = read_back().await.map_err(|e| Broken::new(promise, format!("reading back: {e}")))?;
    equal(difference_of_sets(expected, &found), promise, "in the target")
}
