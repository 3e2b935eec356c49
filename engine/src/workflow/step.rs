//! A step: the stage that its command stands for, with its answer in an envelope and its failure as data.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use super::artifacts::Writes;
use super::aside::AsideConfig;
use super::cached::{Asks, Cached, Place};
use super::checked::Checked;
use super::course::{Begin, Course};
use super::fail_fast::FailFast;
use super::gate;
use super::recorded::Recorded;
use super::rounds::Again;
use super::staged::Staged;
use super::start::Start;
use super::step_call::{Notes, StepCall};
use super::step_stage::{Seen, StepStage};
use super::wait::WaitCall;
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::template::Template;
use crate::api::{
    BoxCall, BuildContext, Call, CallContext, Cardinality, Deadlines, Distribution, Inputs, Limits, Operator, Order,
    Reply,
};
use crate::data::columns::json_field;
use crate::data::units::Interval;
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Result};
use crate::journal::{Durability, Journal, Wait};
use crate::spec::Chain;
use crate::spec::caching::Caching;
use crate::spec::model::{Places, Repeat, Work};
use crate::spec::output::Output;

/// Runs that wait for a time in this process at once.
const WAITING: usize = 4_096;

/// Whom a run asks that is decided again.
struct Nobody;

impl Call for Nobody {
    async fn call(&self, _: RecordBatch, _: &CallContext) -> Result<Reply> {
        Err(Error::engine("a run that is decided again asks nobody"))
    }
}

/// The configuration of a step, or of a fallback of it: that of the stage behind it, and what makes a step of it.
#[derive(Clone)]
pub(super) struct StepConfig {
    inner: BoxStageConfig,
    id: String,
    start: Start,
    /// Which fallback it is, from 1; 0 is the step itself.
    fallback: usize,
    limits: Limits,
    deadlines: Deadlines,
    default: Option<Value>,
    /// What becomes of its results before they count.
    output: Option<Output>,
    /// As in [`Begin`].
    marks: Arc<[String]>,
    /// Where files of it are.
    writes: Writes,
    repeat: Option<Repeat>,
    places: Places,
    /// Where a step that waits keeps its wait.
    journal: Option<Arc<dyn Journal>>,
    durability: Durability,
    /// As in [`Notes`].
    key: Option<Arc<str>>,
    /// What ends runs that have failed.
    fails: FailFast,
    /// The history of a run that is decided again.
    recorded: Option<Recorded>,
    /// How it may be answered from a cache, and where that is.
    cache: Option<(Caching, Place)>,
    /// The steps of the workflow.
    steps: Arc<[String]>,
    /// The steps that it sees nothing of though they may stand before it: it does not depend on them.
    hidden: HashSet<String>,
}

impl StepConfig {
    /// The way past it, if it asks somebody: for rows of which it asks nothing.
    pub(super) fn aside(&self) -> Option<AsideConfig> {
        let asks = !self.inner.0.is_pure() && self.inner.0.waits().is_none();
        asks.then(|| AsideConfig { id: self.id.as_str().into(), begin: self.begin() })
    }

    fn begin(&self) -> Begin {
        Begin {
            start: self.start.clone(),
            fallback: self.fallback,
            default: self.default.clone(),
            marks: self.marks.clone(),
            asked: self.journal.as_ref().map(|journal| journal.asked()).unwrap_or_default(),
            fails: self.fails.clone(),
            recorded: self.recorded.clone(),
        }
    }

    /// What is tried for a step: its work, and then each of its fallbacks.
    pub(super) fn all(
        spec: &Chain,
        at: usize,
        start: &Start,
        (journal, durability): (Option<&Arc<dyn Journal>>, Durability),
        fails: &FailFast,
        cache: &Place,
    ) -> Vec<(Self, Work)> {
        let step = &spec.steps[at];
        let steps: Arc<[String]> = spec.steps.iter().map(|step| step.id.clone()).collect();
        let in_flight = step.for_each.as_ref().and_then(|each| each.max_concurrency);
        let in_flight = in_flight.unwrap_or(spec.optimization.max_concurrency);
        let config = |(fallback, work): (usize, &Work)| {
            let limits = Limits {
                rows: 1,
                in_flight,
                order: Order::Free,
                timeout: Interval(work.timeout),
                rate: None,
                retry: work.retry.clone(),
                ..Limits::default()
            };
            let config = Self {
                inner: work.config.clone(),
                id: step.id.clone(),
                start: start.clone(),
                fallback,
                limits,
                deadlines: work.deadlines,
                // The last that is tried gives it.
                default: step.default.clone().filter(|_| fallback == step.fallback.len()),
                output: step.output.clone(),
                marks: gate::marks(step).collect(),
                writes: Writes::of(&step.resources.writes),
                repeat: step.repeat.clone().filter(|_| fallback == 0),
                places: work.places.clone(),
                durability,
                journal: journal.cloned(),
                key: None,
                fails: fails.clone(),
                recorded: None,
                cache: step.cache.clone().map(|caching| (caching, cache.clone())),
                steps: steps.clone(),
                hidden: HashSet::new(),
            };
            (config, work.clone())
        };
        [&step.work].into_iter().chain(&step.fallback).enumerate().map(config).collect()
    }

    /// Seeing nothing of these steps.
    pub(super) fn hiding(self, hidden: HashSet<String>) -> Self {
        Self { hidden, ..self }
    }

    /// With idempotency keys that begin so.
    pub(super) fn with_key(self, key: Option<Arc<str>>) -> Self {
        Self { key, ..self }
    }

    /// Of a run that is decided again, if there is one.
    pub(super) fn replaying(self, recorded: Option<Recorded>) -> Self {
        Self { recorded, ..self }
    }

    /// What the step gives when it fails, if this is what is tried last.
    pub(super) fn default(&self) -> Option<Value> {
        self.default.clone()
    }

    /// Where it is looked for what it gave before.
    fn cached(&self, context: &BuildContext) -> Option<Cached> {
        let (caching, place) = self.cache.as_ref()?;
        let (own, output) = (self.id.as_str().into(), self.output.as_ref());
        let asks = Asks { caching, config: &self.inner, output, own, steps: self.steps.clone() };
        Some(Cached::of(asks, place.clone(), context))
    }

    /// What the stage behind it reads.
    fn read(&self, input: &SchemaRef) -> SchemaRef {
        if self.repeat.is_some() {
            return self.output(input);
        }
        if self.hidden.is_empty() {
            return input.clone();
        }
        let fields = input.fields().iter().filter(|field| !self.hidden.contains(field.name()));
        Arc::new(Schema::new(fields.cloned().collect::<Vec<_>>()))
    }

    /// What is behind the step in a run that is decided again: a stage as it is, and nobody in the place of a call, or of what can't be
    /// made here.
    fn unasked(&self, context: &BuildContext) -> Result<Operator> {
        match self.inner.0.build(&BuildContext { mock: true, ..context.clone() }) {
            Ok(Operator::Stage(inner)) => {
                self.inner.0.schema(&context.inputs)?;
                Ok(Operator::Stage(inner))
            }
            _ => Ok(Operator::call(Nobody, Limits::default())),
        }
    }

    fn output(&self, input: &SchemaRef) -> SchemaRef {
        if self.fallback > 0 {
            return input.clone();
        }
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
        let read: Vec<SchemaRef> = inputs.iter().map(|input| self.read(input)).collect();
        let planned = self.inner.0.schema(&read).map_err(locate);
        // What asks nobody has its say when it is built: of the others no more is needed than what they answered.
        if self.recorded.is_none() {
            planned?;
        }
        if self.repeat.is_some() && self.inner.0.waits().is_some() {
            return Err(Problem::new("a wait can't be repeated").under("command").into());
        }
        if self.output.is_some() && self.fallback == 0 && self.inner.0.waits().is_some() {
            return Err(Problem::new("what a wait gives is not checked here").under("output").into());
        }
        if self.cache.is_some() && self.inner.0.waits().is_some() {
            return Err(Problem::new("a wait can't be answered from a cache").under("cache").into());
        }
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
        let schema = self.output(&context.inputs[0]);
        let course = Course { id: self.id.as_str().into(), schema, env: context.env.clone(), begin: self.begin() };
        if let Some(wait) = self.inner.0.waits() {
            if (wait.signal.is_some() || wait.decision) && self.journal.is_none() {
                let what = if wait.decision { "a decision" } else { "a signal" };
                let message = format!("{what} is waited for in the journal, and this workflow keeps none");
                return Err(Error::unsupported(message));
            }
            // A wait is not a request that hangs.
            let limits = Limits { in_flight: WAITING, timeout: Limits::NO_TIMEOUT, rate: None, ..self.limits.clone() };
            let (checked, journal) = (self.output.as_ref().map(Checked::of), self.journal.clone());
            let signal = wait.signal.as_deref().map(Template::parse).transpose();
            let signal = signal.map_err(|problem| Error::validation(problem.message))?;
            return Ok(Operator::call(WaitCall { course, wait, signal, checked, journal }, limits));
        }
        let seen = Seen::of(&context.inputs[0], &self.read(&context.inputs[0]));
        let context =
            &BuildContext { inputs: context.inputs.iter().map(|input| self.read(input)).collect(), ..context.clone() };
        let inner = match &self.recorded {
            Some(_) => self.unasked(context)?,
            None => self.inner.0.build(context)?,
        };
        let again = self.repeat.clone().map(|repeat| Again {
            repeat,
            journal: self.journal.clone().zip(match self.durability {
                Durability::Sync => Some(Wait::Durable),
                Durability::Async => Some(Wait::No),
                Durability::Exit => None,
            }),
        });
        let checked = self.output.as_ref().map(Checked::of);
        let writes = self.writes.clone();
        // What is decided again is answered by its history, and not by what others have asked.
        let cached = if self.recorded.is_some() { None } else { self.cached(context) };
        // What asks nobody is quicker done than looked up, unless somebody knows better.
        let is_cached = cached.is_some() && self.cache.as_ref().is_some_and(|(caching, _)| caching.is_said);
        let notes = Notes {
            journal: self.journal.clone(),
            key: self.key.clone(),
            is_answered: false,
            cached,
            deadlines: self.deadlines,
        };
        match inner {
            Operator::Stage(inner) if again.is_some() || is_cached => {
                let call = StepCall::new(BoxCall::new(Staged::new(inner)), course, (again, checked, writes), notes);
                Ok(Operator::call(call, self.limits.clone()))
            }
            Operator::Call(inner, limits) => {
                let notes = Notes { is_answered: self.recorded.is_some(), ..notes };
                // What the service can take is said by the stage, how it is tried by the step.
                let Limits { rows, in_flight, order, timeout, retry, .. } = self.limits.clone();
                let limits = Limits { rows, in_flight, order, timeout, retry, ..limits };
                Ok(Operator::call(StepCall::new(inner, course, (again, checked, writes), notes), limits))
            }
            // What asks nobody works on as many runs as there are.
            Operator::Stage(inner) => {
                Ok(Operator::stage(StepStage::new(inner, course, (checked, seen), context.env.clone())))
            }
            Operator::Join(_) => Err(Error::unsupported(format!("`{}` can't be a step", self.kind()))),
        }
    }

    fn describe(&self) -> Value {
        self.inner.0.describe()
    }
}
