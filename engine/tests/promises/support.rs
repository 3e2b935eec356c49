//! Small connectors and stages that the promises are tried with.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    Ack, BoxSink, BoxSource, BuildContext, Capabilities, Cardinality, Chunk, ConnectContext, Connector, Delivery,
    Distribution, Operator, Outcome, Output, Progress, Receipt, Registry, Replay, Sink, SinkContext, Source,
    SourceContext, Stage, StageConfig, Written,
};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::Problems;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::{Engine, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]))
}

pub fn numbers(values: impl IntoIterator<Item = i64>) -> RecordBatch {
    let column: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
    RecordBatch::try_new(schema(), vec![column]).unwrap()
}

pub fn values(batch: &RecordBatch) -> Vec<i64> {
    batch.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec()
}

/// What happened, in order; shared by the parts of a test.
#[derive(Clone, Default)]
pub struct Log(pub Arc<Mutex<Vec<String>>>);

impl Log {
    pub fn say(&self, what: impl Into<String>) {
        self.0.lock().unwrap().push(what.into());
    }
    pub fn said(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// Counts from 0 to `rows`, `batch` at a time, every `every`.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Counting {
    pub rows: i64,
    pub batch: i64,
    pub splits: usize,
    /// After the last row it waits for ever instead of ending.
    pub endless: bool,
    pub acks: bool,
    #[serde(skip)]
    pub every: Duration,
    #[serde(skip)]
    pub log: Log,
}

impl Counting {
    pub fn to(rows: i64, batch: i64) -> Self {
        Self { rows, batch, splits: 1, ..Self::default() }
    }
}

impl Connector for Counting {
    const NAME: &'static str = "counting";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(if self.acks { Replay::Unacknowledged } else { Replay::FromPosition }, !self.endless)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(schema())
    }
    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        Ok((0..self.splits).map(|i| Split::new(i.to_string())).collect())
    }
    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let at = read_before(&context)?;
        Ok(BoxSource::new(CountingSource { config: self.clone(), at, context }))
    }
}

/// How far an earlier run has read the first split.
fn read_before(context: &SourceContext) -> Result<i64> {
    let position = context.splits.first().and_then(|(_, position)| position.as_ref());
    position.map_or(Ok(0), Position::read)
}

struct CountingSource {
    config: Counting,
    at: i64,
    context: SourceContext,
}

impl Source for CountingSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some((split, _)) = self.context.splits.first().cloned() else { return Ok(None) };
        if !self.config.every.is_zero() {
            self.context.env.sleep(self.config.every).await;
        }
        let end = (self.at + self.config.batch).min(self.config.rows);
        if self.at == end {
            if self.config.endless {
                std::future::pending::<()>().await;
            }
            return if self.context.splits.len() == 1 {
                Ok(None)
            } else {
                self.context.splits.remove(0);
                self.at = read_before(&self.context)?;
                Ok(Some(Chunk::new(numbers([]), split, Position::of(&end)?)))
            };
        }
        let offset: i64 = split.name().parse::<i64>()? * self.config.rows;
        let chunk = Chunk::new(numbers(self.at + offset..end + offset), split, Position::of(&end)?);
        self.at = end;
        let log = self.config.log.clone();
        Ok(Some(if self.config.acks {
            chunk.with_ack(Ack::new(move || async move {
                log.say(format!("ack {end}"));
                Ok(())
            }))
        } else {
            chunk
        }))
    }
}

/// Collects the numbers that arrive.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Collect {
    #[serde(skip)]
    pub rows: Arc<Mutex<Vec<RecordBatch>>>,
    #[serde(skip)]
    pub log: Log,
    /// How long a write takes.
    #[serde(skip)]
    pub slow: Duration,
    /// Rows are staged and committed by epoch.
    pub transactional: bool,
    /// What a commit says, if not that it was done.
    #[serde(skip)]
    pub outcome: Option<Outcome>,
}

impl Collect {
    pub fn values(&self) -> Vec<i64> {
        self.rows.lock().unwrap().iter().flat_map(values).collect()
    }
    pub fn sorted(&self) -> Vec<i64> {
        let mut all = self.values();
        all.sort_unstable();
        all
    }
}

impl Connector for Collect {
    const NAME: &'static str = "collect";
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(if self.transactional { Delivery::Transactional } else { Delivery::Plain })
    }
    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(CollectSink { config: self.clone(), context, staged: Vec::new() }))
    }
}

struct CollectSink {
    config: Collect,
    context: SinkContext,
    staged: Vec<RecordBatch>,
}

impl Sink for CollectSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        if !self.config.slow.is_zero() {
            self.context.env.sleep(self.config.slow).await;
        }
        if self.config.transactional {
            self.staged.push(rows.clone());
        } else {
            self.config.rows.lock().unwrap().push(rows.clone());
        }
        Ok(Written::all())
    }
    async fn prepare(&mut self, epoch: u64) -> Result<Option<Receipt>> {
        self.config.log.say(format!("prepare {epoch}"));
        Ok(if self.config.transactional { Some(Receipt::of(&epoch)?) } else { None })
    }
    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        self.config.log.say(format!("commit {}", receipt.read::<u64>()?));
        if let Some(outcome) = self.config.outcome {
            return Ok(outcome);
        }
        self.config.rows.lock().unwrap().append(&mut self.staged);
        Ok(Outcome::Committed)
    }
    async fn finish(&mut self) -> Result<()> {
        self.config.log.say("finish");
        Ok(())
    }
}

/// A stage from a function over a batch.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
pub struct Func {
    #[serde(skip, default = "pass")]
    pub work: fn(&RecordBatch, &mut Output) -> Result<Progress>,
    #[serde(skip, default = "one")]
    pub cardinality: fn() -> Cardinality,
}

fn pass() -> fn(&RecordBatch, &mut Output) -> Result<Progress> {
    |rows, out| {
        out.emit(rows.clone());
        Ok(Progress::Done)
    }
}

fn one() -> fn() -> Cardinality {
    || Cardinality::One
}

impl Func {
    pub fn new(work: fn(&RecordBatch, &mut Output) -> Result<Progress>) -> Self {
        Self { work, cardinality: one() }
    }
    pub fn pass() -> Self {
        Self::new(pass())
    }
}

impl StageConfig for Func {
    const NAME: &'static str = "func";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        (self.cardinality)()
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(FuncStage(self.work)))
    }
}

struct FuncStage(fn(&RecordBatch, &mut Output) -> Result<Progress>);

impl Stage for FuncStage {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        (self.0)(rows, out)
    }
}

/// Runs a job in a simulated world.
pub fn simulate<T>(seed: u64, work: impl AsyncFnOnce(Engine) -> T) -> T {
    let simulation = Simulation::new(seed);
    let engine = Engine::new(Registry::new()).with_env(simulation.env());
    simulation.run(work(engine)).done()
}

/// A stage that wants its rows by key.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct KeyedPass {}

impl StageConfig for KeyedPass {
    const NAME: &'static str = "keyed_pass";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn distribution(&self) -> Distribution {
        Distribution::Keyed(vec!["n".into()])
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        Func::pass().build(context)
    }
}
