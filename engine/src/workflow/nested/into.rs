//! The way in: an input for each row, and nothing else of the outer run.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use super::super::admit::faults;
use super::super::columns::{
    ADMISSION, DEADLINE, DONE, HISTORY, PASSAGE, RUN, SCOPE, SINCE, cell, numbers, scope, time, times,
};
use super::super::course::{Begin, Course, cell_of, known, status};
use super::super::record::{Record, Status};
use super::super::step_stage::{Made, StepStage};
use super::{name, with_record};
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::template::Template;
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage};
use crate::data::columns::{INPUT, RUN_ID, json_field};
use crate::data::units::Interval;
use crate::diagnostic::Problems;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::spec::switch::holds;

/// The way in. It can't be read from a spec, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(in crate::workflow) struct IntoConfig {
    /// The step.
    pub id: Arc<str>,
    /// What the names of steps have behind that of the step: `#2` in a second round.
    pub mark: String,
    pub begin: Begin,
    /// Which round it is, from 1, and when there is no other one.
    pub round: Option<(u32, Template)>,
    /// What makes the input.
    pub input: BoxStageConfig,
    /// A JSON Schema that the input must fit.
    pub schema: Option<Value>,
    /// Whether its time, or that of a workflow within it, is bounded.
    pub is_timed: bool,
    /// How long it may take, all rounds together.
    pub timeout: Option<Interval>,
}

impl IntoConfig {
    fn output(&self, input: &SchemaRef) -> SchemaRef {
        let kept = |name: &str| input.field_with_name(name).ok().cloned();
        let known = [kept(RUN_ID), kept(RUN), kept(HISTORY), kept(PASSAGE)].into_iter().flatten();
        let own = [json_field(INPUT), json_field(ADMISSION), Field::new(SCOPE, DataType::Utf8, false)];
        let is_timed = self.is_timed || kept(SINCE).is_some();
        let times = is_timed.then(times).into_iter().flatten();
        Arc::new(Schema::new(known.chain(own).chain(times).collect::<Vec<_>>()))
    }

    /// What the input is made of: of a step that is done in rounds also what the round before left.
    fn read(&self, input: &SchemaRef) -> SchemaRef {
        if self.round.is_some() { with_record(input, &self.id) } else { input.clone() }
    }
}

impl ErasedStage for IntoConfig {
    fn kind(&self) -> &'static str {
        "into"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.input.0.schema(&[self.read(&inputs[0])])?;
        Ok(self.output(&inputs[0]))
    }

    fn distribution(&self) -> Distribution {
        Distribution::Any
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let read = self.read(&context.inputs[0]);
        let schema = self.schema.as_ref().map(jsonschema::validator_for).transpose();
        let schema = schema.map_err(|e| Error::validation(format!("the schema of the input: {e}")))?;
        let inner = BuildContext { inputs: vec![read.clone()], ..context.clone() };
        let Operator::Stage(inner) = self.input.0.build(&inner)? else {
            return Err(Error::engine("an input is made by a stage"));
        };
        let (env, begin) = (context.env.clone(), self.begin.clone());
        let course = Course { id: self.id.clone(), schema: read, env, begin };
        let step = StepStage::new(inner, course.clone(), (None, None), context.env.clone());
        let (output, env) = (self.output(&context.inputs[0]), context.env.clone());
        Ok(Operator::stage(Into { config: self.clone(), course, step, schema, output, env }))
    }

    fn describe(&self) -> Value {
        json!({ "step": &*self.id })
    }
}

struct Into {
    config: IntoConfig,
    course: Course,
    step: StepStage,
    schema: Option<jsonschema::Validator>,
    output: SchemaRef,
    env: Env,
}

impl Into {
    /// The record of the step where no round begins.
    fn ended(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        let Some((2.., until)) = &self.config.round else {
            let ended = self.course.ended_as_whole(rows, row)?;
            return if ended.is_some() { Ok(ended) } else { self.whole(rows, row) };
        };
        let record = cell(rows, &self.config.id, row)?.unwrap_or_default();
        let is_last = status(record)? != Status::Completed
            || cell_of(rows, DONE, row)?.is_some()
            || known(rows, row, &name(rows, row, &self.config.id, "")?)?.is_some()
            || self.whole(rows, row)?.is_some()
            || holds(until, rows, row, "repeat.until")?;
        Ok(is_last.then(|| record.to_owned()))
    }

    /// The record of the step as a whole, in a run that is decided again and of whose inner steps nothing is kept.
    fn whole(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        let Some(recorded) = &self.config.begin.recorded else { return Ok(None) };
        let record = recorded.whole(&self.course.name(rows, row)?)?;
        Ok(record.map(|record| serde_json::to_string(&record)).transpose()?)
    }

    /// The rows with the column that the first round reads.
    fn before(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        if self.config.round.is_none() || rows.column_by_name(&self.config.id).is_some() {
            return Ok(rows.clone());
        }
        let none = serde_json::to_string(&Record { rounds: Some(0), ..Record::pending() })?;
        self.course.answer(rows, vec![none; rows.num_rows()])
    }

    /// When the workflow began and when its time is over, of rows in which it is done.
    fn times(&self, rows: &RecordBatch, is_done: impl Fn(usize) -> bool) -> Result<Vec<ArrayRef>> {
        let (mut since, mut deadlines) = (Vec::new(), Vec::new());
        let now = self.env.wall();
        for row in (0..rows.num_rows()).filter(|_| self.output.index_of(SINCE).is_ok()) {
            if !is_done(row) {
                since.push(None);
                deadlines.push(None);
                continue;
            }
            // What it needs had ended before, and what a fork has taken over, or was done before the run failed, before the run began.
            let began = self.course.ready(rows, row)?.max(time(rows, SINCE, row)).unwrap_or(now);
            let own = self.config.timeout.map(|Interval(timeout)| began.after(timeout));
            let deadline = own.into_iter().chain(time(rows, DEADLINE, row)).min();
            if let Some(due) = own.filter(|due| *due > now && rows.column_by_name(HISTORY).is_some()) {
                // Wherever the run waits by then: it comes back.
                self.config.begin.asked.rest().waits(numbers(rows)?[row], Some(due.0));
            }
            since.push(Some(began.0));
            deadlines.push(deadline.map(|deadline| deadline.0));
        }
        let columns = [since, deadlines].map(|times| Arc::new(Int64Array::from(times)) as ArrayRef);
        Ok(if self.output.index_of(SINCE).is_ok() { columns.to_vec() } else { Vec::new() })
    }

    /// The input as text, or the record of the step when it is no good.
    fn checked(&self, value: &Value) -> Result<String, String> {
        let faults = self.schema.as_ref().map(|schema| faults(schema, value)).unwrap_or_default();
        if faults.is_empty() {
            return Ok(value.to_string());
        }
        Err(format!("the input of the workflow does not fit: {}", faults.join("; ")))
    }
}

impl Stage for Into {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let failed = |error: &Error| serde_json::to_string(&Record::failed(error, 1));
        let mut ended: Vec<Option<String>> = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            ended.push(match self.ended(rows, row) {
                Ok(record) => record,
                Err(error) => Some(failed(&error)?),
            });
        }
        let active: Vec<usize> = (0..rows.num_rows()).filter(|row| ended[*row].is_none()).collect();
        let mut inputs: Vec<Option<String>> = vec![None; rows.num_rows()];
        if !active.is_empty() {
            let places: UInt64Array = active.iter().map(|row| *row as u64).collect();
            let started = self.before(&take_record_batch(rows, &places)?)?;
            for (at, (row, made)) in active.into_iter().zip(self.step.work(&started, out)?).enumerate() {
                let made = match made {
                    Made::Result(value) => self.checked(&value).map_err(Error::validation),
                    Made::Failed(error) => Err(error),
                };
                match made {
                    Ok(input) => inputs[row] = Some(input),
                    Err(error) => {
                        let record = self.course.made(&started, at, Record::failed(&error, 1))?;
                        ended[row] = Some(serde_json::to_string(&record)?);
                    }
                }
            }
        }
        let scopes = (0..rows.num_rows()).map(|row| {
            let name = name(rows, row, &self.config.id, &self.config.mark)?;
            Ok(format!("{}{name}/", scope(rows, row)?))
        });
        let times = self.times(rows, |row| inputs[row].is_some())?;
        let own: [ArrayRef; 3] = [
            Arc::new(StringArray::from(inputs)),
            Arc::new(StringArray::from(ended)),
            Arc::new(StringArray::from(scopes.collect::<Result<Vec<_>>>()?)),
        ];
        let own = [own.to_vec(), times].concat();
        let kept = self.output.fields().iter().filter_map(|field| rows.column_by_name(field.name()).cloned());
        let kept = kept.take(self.output.fields().len() - own.len());
        out.emit(RecordBatch::try_new(self.output.clone(), kept.chain(own).collect())?);
        Ok(Progress::Done)
    }
}
