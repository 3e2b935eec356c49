//! A quality gate behind a step: it judges what the step gave, or asks somebody about it.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use serde_json::Value;

use super::columns::{DONE, again, numbers, scope};
use super::course::{Begin, Course, cell_of, item, results, status};
use super::journaled::What;
use super::paid::Paid;
use super::passages::passed;
use super::record::{Cost, Failure, GateResult, Record, Status};
use super::recorded::Recorded;
use super::staged::Staged;
use super::start::Start;
use super::step_call::UNPAID;
use super::wiring::{Wiring, Within, node};
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::{
    Accounts, BoxCall, BuildContext, Call, CallContext, Cardinality, Deadlines, Limits, Operator, Order, Reply, Usage,
};
use crate::data::columns::RUN_ID;
use crate::data::units::Interval;
use crate::diagnostic::{Key, Problem, Problems};
use crate::error::{Error, Kind, Result};
use crate::graph::Role;
use crate::journal::History;
use crate::spec::Chain;
use crate::spec::gates::{Gate, Judged, OnFail};
use crate::spec::model::Step;
use crate::time::Timestamp;

/// Every mark under which a step may be kept, in the order in which that happens.
pub(super) fn marks(step: &Step) -> impl Iterator<Item = String> {
    let asks = step.gates.iter().any(|gate| gate.work.is_some());
    let gates = if asks { step.gates.len() + 1 } else { 0 };
    (0..=step.fallback.len()).flat_map(move |fallback| (0..gates).map(move |gates| History::gate(fallback, gates)))
}

/// Whether a record is kept while gates are asked: one with results, or one that a gate has failed.
pub(super) fn is_to_be_kept(record: &str) -> Result<bool> {
    Ok(match status(record)? {
        Status::Completed | Status::Cached | Status::Reused => true,
        Status::Failed => !serde_json::from_str::<Record>(record)?.quality_gates.is_empty(),
        _ => false,
    })
}

impl Wiring {
    /// The gates behind what was tried for a step. What that gave is kept before somebody is asked about it, and what they said behind them.
    pub(super) fn gates(
        &mut self,
        spec: &Chain,
        at: usize,
        (start, fallback): (&Start, usize),
        mut reads: String,
        within: &Within,
    ) -> String {
        let step = &spec.steps[at];
        let (own, path) = (within.id(&step.id), within.path(step));
        let last = step.fallback.len();
        let keeps = |wiring: &mut Self, mark: String, from: String| match wiring.kept() {
            Some(wait) => {
                let what = What::Mark(step.id.as_str().into(), mark.as_str().into(), wait);
                wiring.journaled(&format!("@kept:{own}{mark}"), what, from, path.clone())
            }
            None => from,
        };
        let mut is_kept = false;
        for (index, gate) in step.gates.iter().enumerate() {
            let asks = gate.work.is_some();
            if asks && !is_kept {
                reads = keeps(self, History::gate(fallback, 0), reads);
                is_kept = true;
            }
            let begin = Begin {
                start: start.clone(),
                fallback: 0,
                default: step.default.clone().filter(|_| fallback == last),
                marks: Arc::default(),
                asked: self.asked(),
                fails: self.fails.clone(),
                recorded: self.recorded.clone(),
            };
            let id = format!("@gate:{own}{}", History::gate(fallback, index + 1));
            let config = GateConfig {
                id: step.id.clone(),
                gate: gate.clone(),
                place: (fallback, index),
                in_flight: step
                    .for_each
                    .as_ref()
                    .and_then(|each| each.max_concurrency)
                    .unwrap_or(spec.optimization.max_concurrency),
                begin,
                key: self.key.clone(),
            };
            let config = BoxStageConfig(Arc::new(config));
            let mut path = path.clone();
            if within.path.is_none() {
                path.extend(["quality_gates".into(), Key::from(index)]);
            }
            let mut node = node(&id, Role::Stage(config), vec![reads], path);
            let rate = gate.work.as_ref().and_then(|work| work.rate_limit.clone());
            node.rate_limit = rate.map(|name| format!("{}{name}", within.rates));
            self.graph.nodes.push(node);
            reads = id;
            if asks {
                reads = keeps(self, History::gate(fallback, index + 1), reads);
            }
        }
        reads
    }
}

/// A gate in a graph. It can't be read from a spec by itself, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(super) struct GateConfig {
    /// The step.
    pub id: String,
    pub gate: Gate,
    /// Behind which fallback it stands, 0 being the step itself, and which gate it is, from 0.
    pub place: (usize, usize),
    pub in_flight: usize,
    pub begin: Begin,
    /// What idempotency keys begin with, where that is not the id of the run.
    pub key: Option<Arc<str>>,
}

impl ErasedStage for GateConfig {
    fn kind(&self) -> &'static str {
        "quality_gate"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        if let Some(work) = &self.gate.work {
            let locate = |Problems(all): Problems| {
                Problems(all.into_iter().map(|p| Problem { path: work.places.locate(&p.path), ..p }).collect())
            };
            work.config.0.schema(inputs).map_err(locate)?;
        }
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = context.inputs[0].clone();
        let course =
            Course { id: self.id.as_str().into(), schema, env: context.env.clone(), begin: self.begin.clone() };
        let own = Limits { rows: 1, in_flight: self.in_flight, order: Order::Free, ..Limits::default() };
        // What is decided again asks nobody.
        let work = self.gate.work.as_ref().filter(|_| self.begin.recorded.is_none());
        let Some(work) = work else {
            return Ok(Operator::call(Gated::new(None, course, self.clone()), own));
        };
        let (inner, limits) = match work.config.0.build(context)? {
            Operator::Stage(inner) => (BoxCall::new(Staged::new(inner)), own),
            Operator::Call(inner, limits) => {
                let Limits { rows, in_flight, order, .. } = own;
                (inner, Limits { rows, in_flight, order, ..limits })
            }
            Operator::Join(_) => return Err(Error::unsupported(format!("`{}` can't be a gate", work.command))),
        };
        let (timeout, retry) = (Interval(work.timeout), work.retry.clone());
        let limits = Limits { timeout, retry, ..limits };
        Ok(Operator::call(Gated::new(Some(inner), course, self.clone()), limits))
    }

    fn describe(&self) -> Value {
        let asks = self.gate.work.as_ref().map(|work| work.config.0.describe());
        serde_json::json!({ "gate": self.gate.name, "asks": asks })
    }
}

struct Gated {
    inner: Option<BoxCall>,
    course: Course,
    config: GateConfig,
    paid: Paid,
}

impl Gated {
    fn new(inner: Option<BoxCall>, course: Course, config: GateConfig) -> Self {
        Self { inner, course, config, paid: Paid::default() }
    }

    fn record(&self, rows: &RecordBatch) -> Result<Record> {
        Ok(serde_json::from_str(self.course.before(rows, 0)?)?)
    }

    /// What is kept behind it is kept under this name.
    fn name(&self, rows: &RecordBatch) -> Result<String> {
        let (fallback, index) = self.config.place;
        Ok(format!("{}{}", self.course.name(rows, 0)?, History::gate(fallback, index + 1)))
    }

    /// Whether it is the turn of this gate: it has not judged yet, and there is something to judge.
    fn judges(&self, rows: &RecordBatch, record: &Record) -> Result<bool> {
        let (fallback, index) = self.config.place;
        // A list without elements has nothing that each of them gave.
        let is_done = item(rows, 0)?.is_none() && cell_of(rows, DONE, 0)?.is_some();
        // What the spec gives for a failure is not judged, and what a gate has only warned of is.
        let is_default = record.degraded && record.quality_gates.iter().all(|gate| gate.passed);
        Ok(record.has_results()
            && !is_done
            && !is_default
            && record.quality_gates.len() == index
            && record.fallback.unwrap_or(0) == fallback)
    }

    /// The record behind the gate.
    fn judged(&self, record: Record, judged: Result<Judged>) -> Record {
        let class = judged.as_ref().err().map_or("validation", Error::class).to_owned();
        let Judged { reason, score } =
            judged.unwrap_or_else(|error| Judged { reason: Some(error.to_string()), score: None });
        let Gate { name, on_fail, .. } = &self.config.gate;
        let result = GateResult { name: name.clone(), passed: reason.is_none(), score, reason, on_fail: *on_fail };
        self.said(record, result, class)
    }

    /// The same of what it said, and the class of the failure if it is none that passes.
    fn said(&self, mut record: Record, result: GateResult, class: String) -> Record {
        let message = result.reason.as_ref().map(|reason| format!("quality gate `{}`: {reason}", result.name));
        let on_fail = result.on_fail;
        record.quality_gates.push(result);
        match (message, on_fail) {
            (None, _) => record,
            (Some(_), OnFail::Warn) => Record { degraded: true, ..record },
            (Some(message), OnFail::Block) => {
                let error = Failure { class, message, attempts: record.attempts, at: None };
                let failed = Record { status: Status::Failed, results: None, error: Some(error), ..record };
                self.course.failed(Record { degraded: false, ..failed })
            }
        }
    }

    /// What it said in a run that is decided again; what that does is said by the spec now.
    fn recorded(&self, recorded: &Recorded, rows: &RecordBatch, record: Record) -> Result<Record> {
        let (name, (fallback, index)) = (self.course.name(rows, 0)?, self.config.place);
        let Some(known) = recorded.record(&name)? else {
            return recorded.open(&format!("{name}{}", History::gate(fallback, index + 1)));
        };
        let class = known.error.map_or_else(|| "validation".to_owned(), |error| error.class);
        match known.quality_gates.into_iter().nth(index).filter(|said| said.name == self.config.gate.name) {
            Some(said) => Ok(self.said(record, GateResult { on_fail: self.config.gate.on_fail, ..said }, class)),
            None => recorded.open(&format!("{name}{}", History::gate(fallback, index + 1))),
        }
    }

    fn answer(&self, rows: &RecordBatch, record: &Record) -> Result<RecordBatch> {
        self.course.answer(rows, vec![serde_json::to_string(record)?])
    }
}

impl Call for Gated {
    async fn known(&self, rows: &RecordBatch, _: &CallContext) -> Result<Option<RecordBatch>> {
        let record = self.record(rows)?;
        if !self.judges(rows, &record)? {
            return Ok(Some(rows.clone()));
        }
        if self.config.gate.work.is_none() {
            let judged = self.config.gate.judge(record.results.as_ref().unwrap_or(&Value::Null));
            return self.answer(rows, &self.judged(record, judged)).map(Some);
        }
        let Some(recorded) = &self.course.begin.recorded else {
            let Some(passed) = passed(rows, 0)? else { return Ok(None) };
            // Another passage of the run may ask this already.
            let is_own = self.course.begin.asked.rest().begin_step(passed, &self.name(rows)?);
            return if is_own { Ok(None) } else { self.answer(rows, &Record::pending()).map(Some) };
        };
        self.answer(rows, &self.recorded(recorded, rows, record)?).map(Some)
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let inner = self.inner.as_ref().ok_or_else(|| Error::engine("a gate that asks nobody was asked"))?;
        let attempt = self.paid.attempt(context);
        let (fallback, index) = self.config.place;
        let run = self.config.key.as_deref().or(cell_of(&rows, RUN_ID, 0)?).unwrap_or_default();
        let own = item(&rows, 0)?.map_or_else(|| self.config.id.clone(), |place| place.of(&self.config.id));
        let again = again(&rows, 0, &own)?;
        let key = format!("{run}/{}{own}{}{again}", scope(&rows, 0)?, History::gate(fallback, index + 1));
        let asked = CallContext { idempotency_key: key.into(), ..context.clone() };
        let reply = inner.call(rows.clone(), &asked).await?;
        if let Some(rejected) = reply.rejected.into_iter().next() {
            context.bill.lost(reply.usage);
            return Err(rejected.error);
        }
        let given = results(&rows, &reply.rows)?.pop().unwrap_or_default();
        let record = self.judged(self.record(&rows)?, self.config.gate.judge(&given));
        drop(attempt);
        let record = self.paid.end(&context.idempotency_key, record.costing(Cost::of(reply.usage)));
        let answer = self.answer(&rows, &until(record, context.env.wall()))?;
        Ok(Reply { usage: reply.usage, limits: reply.limits, ..Reply::rows(answer) })
    }

    fn accounts(&self) -> Accounts {
        let accounts = self.inner.as_ref().map(Call::accounts).unwrap_or_default();
        // What a gate said is in the journal of its run.
        Accounts { keeps: false, ..accounts }
    }

    fn payer(&self, rows: &RecordBatch) -> Option<u64> {
        numbers(rows).ok()?.first().copied()
    }

    fn deadlines(&self) -> Option<Deadlines> {
        self.config.gate.work.as_ref().map(|work| work.deadlines)
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.as_ref().map(|inner| inner.estimate(rows)).unwrap_or_default()
    }

    fn postponed(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        // What it gave is kept, and is judged when the run goes on.
        self.course.leave_open(rows, 0, true)?;
        if let Some(passed) = passed(rows, 0)? {
            self.course.begin.asked.rest().let_go(passed, &self.name(rows)?, true);
        }
        self.answer(rows, &Record::unpaid_for()).map(Some)
    }

    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let (mut record, name) = (self.record(rows)?, self.config.gate.name.clone());
        let reason = Some(UNPAID.to_owned());
        record.quality_gates.push(GateResult { name, passed: false, score: None, reason, on_fail: OnFail::Warn });
        self.answer(rows, &Record { degraded: true, ..record }).map(Some)
    }

    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        self.course.unwanted(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        let record = self.paid.end(&context.idempotency_key, self.record(rows).ok()?);
        let record = until(record, context.env.wall());
        let record = match error.kind() {
            Kind::Canceled => {
                let dropped = Record { results: None, reason: None, ..canceled(record, error) };
                self.course.dropped(rows, 0, dropped).ok()?
            }
            _ => self.judged(record, Err(Error::new(error.kind(), error.message().to_owned()))),
        };
        self.answer(rows, &record).ok()
    }
}

/// The record of a step that its gates have been asked about until now.
fn until(record: Record, now: Timestamp) -> Record {
    let took = record.begun().and_then(|begun| u64::try_from((now.0 - begun) / 1_000).ok());
    Record { duration_ms: took.max(record.duration_ms), ..record }
}

/// A step that was dropped while its gates were asked.
fn canceled(record: Record, error: &Error) -> Record {
    let failed = Record::failed(error, record.attempts);
    Record { status: failed.status, error: failed.error, ..record }
}
