//! A step: the stage that its command stands for, with its answer in an envelope and its failure as data.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::columns::{ADMISSION, cell};
use super::record::{Cost, Record, Status};
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::template::Template;
use crate::api::{
    BoxCall, BoxStage, BuildContext, Call, CallContext, Cardinality, Distribution, Inputs, Limits, Operator, Order,
    Output, Progress, Reply,
};
use crate::data::columns::{RESERVED_PREFIX, json_field};
use crate::data::json::cell_value;
use crate::data::units::Interval;
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Result};
use crate::spec::model::{Places, Step};
use crate::time::Timestamp;

/// The configuration of a step: that of the stage behind it, and what makes a step of it.
#[derive(Clone)]
pub(super) struct StepConfig {
    inner: BoxStageConfig,
    id: String,
    /// The steps that it needs, by id.
    needs: Vec<String>,
    condition: Option<Template>,
    limits: Limits,
    places: Places,
}

impl StepConfig {
    /// The step of a spec; `needs` are the ids of the steps that it needs.
    pub(super) fn new(step: &Step, needs: Vec<String>, in_flight: usize) -> Self {
        let limits = Limits {
            rows: 1,
            in_flight,
            order: Order::Free,
            timeout: Interval(step.timeout),
            rate: None,
            retry: step.retry.clone(),
            ..Limits::default()
        };
        Self {
            inner: step.config.clone(),
            id: step.id.clone(),
            needs,
            condition: step.condition.clone(),
            limits,
            places: step.places.clone(),
        }
    }

    fn output(&self, input: &SchemaRef) -> SchemaRef {
        let fields = input.fields().iter().cloned().chain([Arc::new(json_field(&self.id))]);
        Arc::new(Schema::new(fields.collect::<Vec<_>>()))
    }
}

/// It can't be read from a spec by itself, so it has no `StageConfig` of its own.
impl ErasedStage for StepConfig {
    fn kind(&self) -> &'static str {
        self.inner.0.kind()
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let locate = |Problems(all): Problems| {
            Problems(all.into_iter().map(|p| Problem { path: self.places.locate(&p.path), ..p }).collect())
        };
        self.inner.0.schema(inputs).map_err(locate)?;
        if self.inner.0.cardinality() != Cardinality::One || self.inner.0.inputs() != Inputs::Merged {
            let problem = Problem::new(format!("`{}` can't be a step: it does not give one row for one", self.kind()));
            return Err(problem.under("command").into());
        }
        Ok(self.output(&inputs[0]))
    }

    fn port_schema(&self, _: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.schema(inputs)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Any
    }

    fn ports(&self) -> Vec<String> {
        Vec::new()
    }

    fn inputs(&self) -> Inputs {
        Inputs::Merged
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let (inner, rate) = match self.inner.0.build(context)? {
            Operator::Call(call, limits) => (call, limits.rate),
            Operator::Stage(stage) => (BoxCall::new(StageCall(Mutex::new(stage))), None),
            Operator::Join(_) => return Err(Error::unsupported(format!("`{}` can't be a step", self.kind()))),
        };
        let call =
            StepCall { inner, config: self.clone(), schema: self.output(&context.inputs[0]), begun: Mutex::default() };
        Ok(Operator::call(call, Limits { rate, ..self.limits.clone() }))
    }

    fn describe(&self) -> Value {
        self.inner.0.describe()
    }
}

/// A stage without state, called a row at a time.
struct StageCall(Mutex<BoxStage>);

impl Call for StageCall {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let mut out = Output::at(context.env.monotonic());
        let mut stage = lock(&self.0);
        let mut progress = stage.process(&rows, &mut out)?;
        while progress == Progress::More {
            progress = stage.resume(&mut out)?;
        }
        let rejected = std::mem::take(&mut out.rejected);
        match (out.emitted(), rejected.as_slice()) {
            ([(0, answer)], []) => Ok(Reply::rows(answer.clone())),
            (_, [_, ..]) => Ok(Reply { rejected, ..Reply::rows(rows.slice(0, 0)) }),
            _ => Err(Error::engine("a step's stage must give one row for one")),
        }
    }
}

/// When the first attempt of a request began, and how many there were.
#[derive(Clone, Copy)]
struct Begun {
    at: Timestamp,
    since: Duration,
    attempts: u32,
}

struct StepCall {
    inner: BoxCall,
    config: StepConfig,
    schema: SchemaRef,
    /// Of the requests in flight, by idempotency key; bounded by how many may be in flight.
    begun: Mutex<HashMap<Arc<str>, Begun>>,
}

impl Call for StepCall {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        if rows.num_rows() != 1 {
            return Err(Error::engine("a step is called for one run at a time"));
        }
        if let Some(reason) = self.skip(&rows)? {
            return Ok(Reply::rows(self.answer(&rows, &Record::skipped(reason))?));
        }
        self.begin(context);
        let reply = self.inner.call(rows.clone(), context).await?;
        if let Some(rejected) = reply.rejected.into_iter().next() {
            return Err(rejected.error);
        }
        let mut record = Record { status: Status::Completed, reason: None, ..Record::skipped(String::new()) };
        record.results = Some(results(&rows, &reply.rows)?);
        record.usage = Cost::of(reply.usage);
        self.end(context, &mut record);
        let answer = self.answer(&rows, &record)?;
        Ok(Reply { rows: answer, rejected: Vec::new(), usage: reply.usage, limits: reply.limits })
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        let mut record = Record::failed(error, 1);
        self.end(context, &mut record);
        if let Some(failure) = &mut record.error {
            failure.attempts = record.attempts;
        }
        // A record always has a form in JSON, and the columns are those that were planned.
        self.answer(rows, &record).ok()
    }
}

/// The status alone: the results of a step may be large.
#[derive(Deserialize)]
struct Ended {
    status: Status,
}

impl StepCall {
    /// Why the step is not started in this run.
    fn skip(&self, rows: &RecordBatch) -> Result<Option<String>> {
        if cell(rows, ADMISSION, 0)?.is_some() {
            return Ok(Some("the input is not valid".into()));
        }
        for need in &self.config.needs {
            let record = cell(rows, need, 0)?.ok_or_else(|| Error::engine(format!("step `{need}` has no record")))?;
            let how = match serde_json::from_str::<Ended>(record)?.status {
                Status::Completed => continue,
                Status::Skipped => "was skipped",
                Status::TimedOut => "timed out",
                Status::Canceled => "was canceled",
                Status::Failed => "failed",
            };
            return Ok(Some(format!("`{need}` {how}")));
        }
        let Some(condition) = &self.config.condition else { return Ok(None) };
        match condition.value(rows, 0)? {
            Value::Bool(true) => Ok(None),
            Value::Bool(false) => Ok(Some("its condition is false".into())),
            other => Err(Error::validation(format!("the condition is neither true nor false: {other}")).at_field("if")),
        }
    }

    fn begin(&self, context: &CallContext) {
        let mut begun = lock(&self.begun);
        let first = Begun { at: context.env.wall(), since: context.env.monotonic(), attempts: 0 };
        begun.entry(context.idempotency_key.clone()).or_insert(first).attempts += 1;
    }

    /// Puts the times and attempts of a request into its record. One that never began failed before.
    fn end(&self, context: &CallContext, record: &mut Record) {
        if let Some(begun) = lock(&self.begun).remove(&context.idempotency_key) {
            let took = context.env.monotonic().saturating_sub(begun.since);
            record.attempts = begun.attempts;
            record.started_at = Some(begun.at.to_string());
            record.duration_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
    }

    fn answer(&self, rows: &RecordBatch, record: &Record) -> Result<RecordBatch> {
        let column: ArrayRef = Arc::new(StringArray::from(vec![serde_json::to_string(record)?]));
        let columns = rows.columns().iter().cloned().chain([column]).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// What a stage gave: the value of the column that it added, or changed when it added none; an object of several.
fn results(before: &RecordBatch, after: &RecordBatch) -> Result<Value> {
    if after.num_rows() != 1 {
        return Err(Error::engine(format!("a step's stage gave {} rows for one", after.num_rows())));
    }
    let schema = after.schema_ref();
    let name = |i: usize| schema.field(i).name();
    let all: Vec<usize> = (0..after.num_columns()).filter(|i| !name(*i).starts_with(RESERVED_PREFIX)).collect();
    let keep = |test: &dyn Fn(usize) -> bool| all.iter().copied().filter(|i| test(*i)).collect::<Vec<_>>();
    let new = keep(&|i| before.column_by_name(name(i)).is_none());
    // A step may have the name of the column that a stage makes, and so may a column of the stage's own.
    let changed = keep(&|i| before.column_by_name(name(i)) != Some(after.column(i)));
    let cell = |i: usize| cell_value(after.column(i), schema.field(i), 0);
    let object = |columns: &[usize]| {
        let members = columns.iter().map(|i| Ok((name(*i).clone(), cell(*i)?)));
        Ok(Value::Object(members.collect::<Result<Map<_, _>>>()?))
    };
    match (new.as_slice(), changed.as_slice()) {
        ([one], _) | ([], [one]) => cell(*one),
        ([], []) => object(&all),
        ([], several) | (several, _) => object(several),
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
