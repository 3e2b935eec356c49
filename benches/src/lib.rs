//! What the benches share: batches, a source that never waits, stages that do nothing, a sink that forgets.

#![expect(clippy::cast_possible_wrap, reason = "no bench has 2^63 rows")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::array::{ArrayRef, Float64Array, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, BoxSource, BoxStage, BuildContext, Capabilities, Cardinality, Chunk, ConnectContext, Connector, Delivery,
    Operator, Output, Progress, Receipt, Replay, Sink, SinkContext, Source, SourceContext, Stage, StageConfig, Written,
};
use bourn_engine::data::position::Position;
use bourn_engine::data::records::{Header, Records};
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::graph::OnError;
use bourn_engine::metrics::StageStats;
use bourn_engine::runtime::chain::{Chain, Slot, Worker};
use bourn_engine::{Result, metrics};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `rows` rows of four columns: two counters and two measures.
pub fn batch(rows: usize) -> RecordBatch {
    let ints = |k: i64| Arc::new(Int64Array::from_iter_values((0..rows as i64).map(|i| i * k % 1_000))) as ArrayRef;
    let floats = |k: f64| Arc::new(Float64Array::from_iter_values((0..rows).map(|i| i as f64 * k))) as ArrayRef;
    RecordBatch::try_from_iter([("a", ints(7)), ("b", ints(13)), ("x", floats(0.5)), ("y", floats(1.5))])
        .expect("four columns of one length make a batch")
}

/// The batch as it travels.
pub fn records(rows: usize) -> Records {
    Records { batch: batch(rows), header: Header::default() }
}

/// A stage that hands on what it gets.
pub struct Pass;

impl Stage for Pass {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        out.emit(rows.clone());
        Ok(Progress::Done)
    }
}

/// A chain of `stages` stages that do nothing, the last of which is read by somebody.
pub fn chain(stages: usize) -> Chain {
    let slot = |i: usize| {
        let read = if i + 1 == stages { vec![0] } else { Vec::new() };
        let worker = Worker::Stage(BoxStage::new(Pass));
        Slot::new("pass".into(), worker, (OnError::Fail, Cardinality::One), read, Arc::new(StageStats::default()))
    };
    Chain::new((0..stages).map(slot).collect(), Env::system())
}

/// Works one batch through a chain and forgets what leaves.
pub fn work(chain: &mut Chain, rows: &RecordBatch) {
    chain.rows(0, rows.clone());
    while chain.step().expect("a stage that does nothing does not fail") {
        chain.outbox.clear();
    }
}

/// Sends the same batch again and again: at full speed, or one every so often on a fixed schedule.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Again {
    /// How many batches.
    pub batches: u64,
    /// The batch.
    #[serde(skip, default = "one_row")]
    pub batch: RecordBatch,
    /// When each is due after the one before it; none: at once.
    #[serde(skip)]
    pub every: Option<Duration>,
    /// How many microseconds behind its schedule the source has been at most: what waits before it is in no latency.
    #[serde(skip)]
    pub late: Arc<AtomicU64>,
}

impl Again {
    /// These batches, at once.
    pub fn new(batches: u64, batch: RecordBatch) -> Self {
        Self { batches, batch, every: None, late: Arc::default() }
    }

    /// The same, one every so often.
    #[must_use]
    pub fn every(self, every: Duration) -> Self {
        Self { every: Some(every), ..self }
    }
}

fn one_row() -> RecordBatch {
    batch(1)
}

impl Connector for Again {
    const NAME: &'static str = "again";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(self.batch.schema())
    }
    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let start = context.env.monotonic();
        Ok(BoxSource::new(AgainSource { config: self.clone(), sent: 0, start, context }))
    }
}

struct AgainSource {
    config: Again,
    sent: u64,
    start: Duration,
    context: SourceContext,
}

impl Source for AgainSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.sent == self.config.batches {
            return Ok(None);
        }
        self.sent += 1;
        if let Some(every) = self.config.every {
            let due = self.start + every * u32::try_from(self.sent).unwrap_or(u32::MAX);
            let now = self.context.env.monotonic();
            let late = u64::try_from(now.saturating_sub(due).as_micros()).unwrap_or(u64::MAX);
            self.config.late.fetch_max(late, Relaxed);
            let wait = due.saturating_sub(now);
            if !wait.is_zero() {
                self.context.env.sleep(wait).await;
            }
        }
        let split = self.context.splits[0].0.clone();
        Ok(Some(Chunk::new(self.config.batch.clone(), split, Position::of(&self.sent)?)))
    }
}

/// [`Pass`] as a configuration.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct PassConfig {}

impl StageConfig for PassConfig {
    const NAME: &'static str = "pass";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Pass))
    }
}

/// Forgets what it gets, or lets it through at a bounded rate.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Forget {
    /// How long a batch takes.
    #[serde(skip)]
    pub takes: Duration,
}

impl Connector for Forget {
    const NAME: &'static str = "forget";
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }
    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(ForgetSink(self.takes, context.env)))
    }
}

struct ForgetSink(Duration, Env);

impl Sink for ForgetSink {
    async fn write(&mut self, _: &RecordBatch) -> Result<Written> {
        if !self.0.is_zero() {
            self.1.sleep(self.0).await;
        }
        Ok(Written::all())
    }
    async fn prepare(&mut self, _: u64) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

/// `p50 12 us, p99 30 us, max 80 us` of a histogram of nanoseconds.
pub fn quantiles(histogram: &metrics::Histogram) -> String {
    let at = |q| histogram.quantile(q).map_or_else(|| "-".to_owned(), |n| format!("{:.1} us", n / 1e3));
    format!("p50 {}, p90 {}, p99 {}, p99.9 {}", at(0.5), at(0.9), at(0.99), at(0.999))
}
