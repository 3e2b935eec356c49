//! Small kinds of stages, a source of lines, a sink that keeps documents, and how a workflow is run with them; in one file, because they count in the same places what was seen.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::memo::Key;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::api::template::Template;
use bourn_engine::api::{
    Accounts, BoxSink, BoxSource, BuildContext, Call, CallContext, Capabilities, Cardinality, Chunk, ConnectContext,
    Connector, Delivery, Limits, Operator, Output, Progress, Receipt, Registry, Replay, Reply, Sink, SinkContext,
    Source, SourceContext, Stage, StageConfig, Usage, WaitFor, Written,
};
use bourn_engine::data::columns::json_field;
use bourn_engine::data::message::Epoch;
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::spec::load;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Runs, compile};
use bourn_engine::{Engine, Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Says what it is told, after a while; fails when it is told to.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Say {
    /// What it says.
    text: String,
    /// How long it takes, in milliseconds: a text with places.
    #[serde(default)]
    after: String,
    /// What goes wrong: `permanent`, `transient`, `twice` (and then no more); `later:7` and `always:7` ask for 7 s before the next
    /// attempt, at the first one or each; so does `limited:7` of the first such request of all, because of a limit.
    #[serde(default)]
    fail: String,
    /// What it says when it is told what was wrong with that.
    #[serde(default)]
    better: Option<String>,
    #[serde(default)]
    limits: Limits,
    /// How long it is silent between two signs of life, in milliseconds; it gives none if it is not said.
    #[serde(default)]
    alive: Option<u64>,
}

/// The most calls of `Say` at once, and how many there were.
#[derive(Default)]
pub struct Seen {
    pub now: AtomicUsize,
    pub most: AtomicUsize,
    pub calls: AtomicUsize,
    /// How many of them were to be refused because of a limit.
    pub limited: AtomicUsize,
    /// The idempotency key of each, and which attempt it was.
    pub keys: Mutex<Vec<(String, u32)>>,
}

struct Saying {
    config: Say,
    schema: SchemaRef,
}

/// The columns without one of this name, and it at the end.
fn with_column(input: &SchemaRef, name: &str) -> SchemaRef {
    let others = input.fields().iter().filter(|f| f.name() != name).cloned();
    Arc::new(Schema::new(others.chain([Arc::new(Field::new(name, DataType::Utf8, true))]).collect::<Vec<_>>()))
}

fn with_text(rows: &RecordBatch, schema: &SchemaRef, text: String) -> Result<RecordBatch> {
    let (_, others) = schema.fields().split_last().ok_or_else(|| Error::engine("no columns"))?;
    let others = others.iter().filter_map(|f| rows.column_by_name(f.name()).cloned());
    let text: ArrayRef = Arc::new(StringArray::from(vec![text]));
    Ok(RecordBatch::try_new(schema.clone(), others.chain([text]).collect())?)
}

impl StageConfig for Say {
    const NAME: &'static str = "say";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let template = Template::parse(&self.text).map_err(|p| p.under("text"))?;
        let names: Vec<_> = inputs[0].fields().iter().map(|f| f.name().as_str()).collect();
        Problems::check(template.check(names.iter().copied()).into_iter().map(|p| p.under("text")).collect())?;
        if self.text == "unplannable" {
            return Err(Problem::new("that can't be said").under("text").part(0..2).into());
        }
        Ok(with_column(&inputs[0], "said"))
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn silent(&self) -> Option<&'static str> {
        self.alive.is_none().then_some("it says all at once")
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let call = Saying { config: self.clone(), schema: with_column(&context.inputs[0], "said") };
        Ok(Operator::call(call, self.limits.clone()))
    }
}

thread_local! {
    /// A simulation runs on one thread, so what it sees is its own.
    pub static SEEN: Arc<Seen> = Arc::default();
}

struct Counted(Arc<Seen>);

impl Counted {
    fn new() -> Self {
        let seen = SEEN.with(Arc::clone);
        seen.calls.fetch_add(1, SeqCst);
        let now = seen.now.fetch_add(1, SeqCst) + 1;
        seen.most.fetch_max(now, SeqCst);
        Self(seen)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

impl Call for Saying {
    fn accounts(&self) -> Accounts {
        Accounts { tokens: true, usd: true, ..Accounts::default() }
    }

    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>> {
        let fill = |text: &str| Template::parse(text).map_err(|p| Error::validation(p.message))?.render(rows, 0);
        Ok(Some(Key::of([fill(&self.config.text)?, fill(&self.config.fail)?].iter().map(String::as_str))))
    }

    fn estimate(&self, _: &RecordBatch) -> Usage {
        Usage { input_tokens: 3, output_tokens: 2, usd: 0.5 }
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let counted = Counted::new();
        counted.0.keys.lock().unwrap().push((context.idempotency_key.to_string(), context.attempt));
        let fill = |text: &str| Template::parse(text).map_err(|p| Error::validation(p.message))?.render(&rows, 0);
        let mut after = fill(&self.config.after)?.parse().unwrap_or(0);
        while let Some(silent) = self.config.alive.filter(|silent| *silent < after) {
            context.env.sleep(Duration::from_millis(silent)).await;
            context.bill.alive(context.env.monotonic());
            after -= silent;
        }
        context.env.sleep(Duration::from_millis(after)).await;
        match fill(&self.config.fail)?.as_str() {
            "permanent" => return Err(Error::new(Kind::Other, "no such luck")),
            "transient" => return Err(Error::new(Kind::Io, "busy").transient()),
            "twice" if context.attempt < 3 => return Err(Error::new(Kind::Io, "busy").transient()),
            how => {
                let (how, after) = how.split_once(':').unwrap_or_default();
                let after = Duration::from_secs(after.parse().unwrap_or(0));
                let is_first = || SEEN.with(|seen| seen.limited.fetch_add(1, SeqCst)) == 0;
                match how {
                    "limited" if is_first() => return Err(Error::new(Kind::RateLimit, "too many").retry_after(after)),
                    "later" if context.attempt == 1 => return Err(Error::new(Kind::Io, "busy").retry_after(after)),
                    "always" => return Err(Error::new(Kind::Io, "busy").retry_after(after)),
                    _ => {}
                }
            }
        }
        let usage = Usage { input_tokens: 3, output_tokens: 2, usd: 0.5 };
        let text = match (&context.feedback, &self.config.better) {
            (Some(wrong), Some(better)) => fill(better)?.replace("WRONG", wrong),
            _ => fill(&self.config.text)?,
        };
        Ok(Reply { usage, ..Reply::rows(with_text(&rows, &self.schema, text)?) })
    }
}

/// Counts letters: a synchronous stage. Refuses the empty text.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Letters {
    /// Of what.
    of: String,
}

impl StageConfig for Letters {
    const NAME: &'static str = "letters";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(with_column(&inputs[0], "letters"))
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Counting(self.clone(), with_column(&context.inputs[0], "letters"))))
    }
}

struct Counting(Letters, SchemaRef);

impl Stage for Counting {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let template = Template::parse(&self.0.of).map_err(|p| Error::validation(p.message))?;
        for row in (0..rows.num_rows()).map(|row| rows.slice(row, 1)) {
            let text = template.render(&row, 0)?;
            if text.is_empty() {
                out.reject(row, Error::validation("nothing to count"));
            } else {
                out.emit(with_text(&row, &self.1, text.len().to_string())?);
            }
        }
        Ok(Progress::Done)
    }
}

/// Makes a value of the row.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    value: Value,
}

impl StageConfig for Set {
    const NAME: &'static str = "set";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let names: Vec<_> = inputs[0].fields().iter().map(|f| f.name().as_str()).collect();
        let mut problems = Vec::new();
        filled(&self.value, &mut |template| {
            problems.extend(template.check(names.iter().copied()).into_iter().map(|p| p.under("value")));
            Ok(Value::Null)
        })
        .unwrap();
        Problems::check(problems)?;
        let made = json_field("result");
        Ok(Arc::new(Schema::new(inputs[0].fields().iter().cloned().chain([Arc::new(made)]).collect::<Vec<_>>())))
    }
    fn is_pure(&self) -> bool {
        true
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = StageConfig::schema(self, &context.inputs)?;
        Ok(Operator::stage(Setting(self.value.clone(), schema)))
    }
}

/// A value with every text filled in.
fn filled(value: &Value, fill: &mut dyn FnMut(&Template) -> Result<Value>) -> Result<Value> {
    Ok(match value {
        Value::String(text) => fill(&Template::parse(text).map_err(|p| Error::validation(p.message))?)?,
        Value::Array(list) => list.iter().map(|v| filled(v, fill)).collect::<Result<_>>()?,
        Value::Object(members) => {
            let member = |(name, value): (&String, &Value)| Ok((name.clone(), filled(value, fill)?));
            Value::Object(members.iter().map(member).collect::<Result<_>>()?)
        }
        other => other.clone(),
    })
}

struct Setting(Value, SchemaRef);

impl Stage for Setting {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let made = (0..rows.num_rows()).map(|row| {
            let value = filled(&self.0, &mut |template| template.value(rows, row));
            value.map(|value| value.to_string())
        });
        let made: ArrayRef = Arc::new(StringArray::from(made.collect::<Result<Vec<_>>>()?));
        let columns = rows.columns().iter().cloned().chain([made]).collect();
        out.emit(RecordBatch::try_new(self.1.clone(), columns)?);
        Ok(Progress::Done)
    }
}

/// Waits: for seconds, or for a signal.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Hold {
    seconds: Option<u64>,
    signal: Option<String>,
}

impl StageConfig for Hold {
    const NAME: &'static str = "hold";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn waits(&self) -> Option<WaitFor> {
        Some(WaitFor { time: self.seconds.map(Duration::from_secs), signal: self.signal.clone(), decision: false })
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Err(Error::engine("the workflow waits"))
    }
}

/// Keeps some rows: no step.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Keep(String);

impl StageConfig for Keep {
    const NAME: &'static str = "keep";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Err(Error::engine("never built"))
    }
}

/// Lines with their file and number, in one chunk.
#[derive(Serialize, Deserialize, JsonSchema)]
pub struct Lines(pub Vec<String>);

fn line_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("text", DataType::Utf8, false),
        Field::new("file", DataType::Utf8, false),
        Field::new("number", DataType::UInt64, false),
    ]))
}

impl Connector for Lines {
    const NAME: &'static str = "lines";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(line_schema())
    }
    async fn source(&self, _: SourceContext) -> Result<BoxSource> {
        Ok(BoxSource::new(Reading(Some(self.0.clone()))))
    }
}

struct Reading(Option<Vec<String>>);

impl Source for Reading {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(lines) = self.0.take() else { return Ok(None) };
        let count = lines.len() as u64;
        let columns: Vec<ArrayRef> = vec![
            Arc::new(StringArray::from_iter_values(lines.iter())),
            Arc::new(StringArray::from_iter_values(lines.iter().map(|_| "in.jsonl"))),
            Arc::new(UInt64Array::from_iter_values(1..=count)),
        ];
        let rows = RecordBatch::try_new(line_schema(), columns)?;
        Ok(Some(Chunk::new(rows, Split::new("in.jsonl"), Position::of(&count)?)))
    }
}

/// Keeps documents.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
pub struct Shelf {
    #[serde(skip)]
    pub documents: Arc<Mutex<Vec<Value>>>,
}

impl Connector for Shelf {
    const NAME: &'static str = "shelf";
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }
    async fn sink(&self, _: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(self.clone()))
    }
}

impl Sink for Shelf {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        // What a pipeline sends has none.
        let column = rows.column_by_name("document");
        for text in column.into_iter().flat_map(|column| column.as_string::<i32>().iter().flatten()) {
            self.documents.lock().unwrap().push(serde_json::from_str(text)?);
        }
        Ok(Written::all())
    }
    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

pub fn registry() -> Registry {
    let registry = Registry::new().stage::<Say>().stage::<Letters>().stage::<Keep>().stage::<Hold>().stage::<Set>();
    registry.connector::<Lines>().connector::<Shelf>()
}

/// What came of a workflow.
pub struct Worked {
    /// In the order in which they left.
    pub documents: Vec<Value>,
    /// How long it took, in virtual time.
    pub took: Duration,
    /// How many rows each node has read.
    pub read: BTreeMap<String, u64>,
    /// What edges and stages have left of rows.
    pub held: u64,
}

impl Worked {
    pub fn of(&self, row: usize, path: &str) -> Value {
        self.documents[row].pointer(path).cloned().unwrap_or_default()
    }
}

/// Runs a workflow once for each line, in a world whose every choice follows from `seed`.
pub fn work(spec: &str, lines: &[&str], seed: u64) -> Worked {
    run(spec, Runs::of("lines", BoxConnector::new(lines_of(lines))), seed)
}

pub fn lines_of(lines: &[&str]) -> Lines {
    Lines(lines.iter().map(ToString::to_string).collect())
}

pub fn run(spec: &str, runs: Runs, seed: u64) -> Worked {
    run_beside(spec, runs, seed, |_| std::future::ready(()))
}

/// The same, while something else is done.
pub fn run_beside<F: Future<Output = ()>>(spec: &str, runs: Runs, seed: u64, beside: impl FnOnce(Env) -> F) -> Worked {
    run_in(Simulation::new(seed), spec, runs, beside).unwrap()
}

/// The same, of a job that may fail.
pub fn try_run(spec: &str, runs: Runs, seed: u64) -> Result<Worked> {
    run_in(Simulation::new(seed), spec, runs, |_| std::future::ready(()))
}

/// The same in a world of one's own.
pub fn run_in<F: Future<Output = ()>>(
    simulation: Simulation,
    spec: &str,
    runs: Runs,
    beside: impl FnOnce(Env) -> F,
) -> Result<Worked> {
    let env = simulation.env();
    let loaded = load(spec, "work.yaml", &registry(), &env).unwrap_or_else(|p| panic!("{p:?}"));
    let mut graph = compile(&loaded, &runs);
    let shelf = Shelf::default();
    graph.sink("shelf", shelf.clone());
    let beside = beside(env.clone());
    let engine = Engine::new(registry()).with_env(env);
    let work = async move {
        let job = engine.start(engine.plan(graph).await?).await?;
        let stats = job.stats().clone();
        futures::future::join(job.wait(), beside).await.0.map(|()| stats)
    };
    let stats = simulation.run(work).done()?;
    let documents = std::mem::take(&mut *shelf.documents.lock().unwrap());
    let read = stats.stage_ids().iter().map(|id| (id.to_string(), stats.total(id, |s| &s.rows_in))).collect();
    let edges = stats.edges.iter().map(|edge| edge.stats.queued_rows() + edge.stats.queued_bytes()).sum::<u64>();
    let held = edges + stats.stages.iter().map(|stage| stage.stats.rows_held.load(SeqCst)).sum::<u64>();
    Ok(Worked { documents, took: simulation.elapsed(), read, held })
}
