//! The way out and back: of the records of the inner steps that of the outer one, and the outer rows with it.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::columns::{ADMISSION, DONE, PASSAGE, SCOPE, cell, key_within, scope, whole_key};
use super::super::course::{Begin, Course, cell_of};
use super::super::document::{Run, document};
use super::super::gather::pair;
use super::super::record::{CANCELED, Cost, Failure, OVERDUE, Record, Status};
use super::super::result::{DocumentConfig, Flags, ResultDocument, StepShape};
use super::super::rounds::add;
use super::turns::Turns;
use super::{name, with_record};
use crate::api::erased::ErasedStage;
use crate::api::{
    BuildContext, Cardinality, Distribution, Inputs, Join, Operator, Output, Progress, Stage, StageConfig,
};
use crate::data::columns::{RUN_ID, json_field};
use crate::data::units::Interval;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::RunState;
use crate::spec::output::{Format, Output as Shaped};
use crate::state::{Keyed, StateVisitor};

/// The way out: of the records of the inner steps that of the outer one.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::workflow) struct OutConfig {
    /// The outer step.
    pub id: String,
    /// The name of the workflow.
    pub workflow: String,
    /// The steps of the workflow.
    pub steps: Vec<StepShape>,
    /// What of them is the result.
    pub format: Format,
    /// What becomes of that before it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Shaped>,
    /// How long it may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
}

impl OutConfig {
    fn output(&self, input: &SchemaRef) -> SchemaRef {
        let key = [Field::new(RUN_ID, DataType::Utf8, false), Field::new(SCOPE, DataType::Utf8, false)];
        let made = [json_field(DONE), json_field(&self.id)];
        let passage = input.field_with_name(PASSAGE).ok().cloned();
        Arc::new(Schema::new(key.into_iter().chain(made).chain(passage).collect::<Vec<_>>()))
    }

    fn result(&self) -> DocumentConfig {
        let (workflow, steps, format) = (self.workflow.clone(), self.steps.clone(), self.format.clone());
        let (output, timeout) = (self.output.clone(), self.timeout);
        DocumentConfig {
            workflow,
            file: String::new(),
            steps,
            format,
            output,
            timeout,
            kept: false,
            flags: Flags::default(),
        }
    }
}

impl StageConfig for OutConfig {
    const NAME: &'static str = "out";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.output(&inputs[0]))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = self.output(&context.inputs[0]);
        Ok(Operator::stage(Out { config: self.clone(), result: self.result(), schema }))
    }
}

struct Out {
    config: OutConfig,
    result: DocumentConfig,
    schema: SchemaRef,
}

impl Out {
    fn record(&self, rows: &RecordBatch, row: usize) -> Result<Record> {
        let read = |step: &StepShape| -> Result<Record> {
            let text = cell(rows, &step.id, row)?;
            Ok(serde_json::from_str(text.ok_or_else(|| Error::engine(format!("step `{}` has no record", step.id)))?)?)
        };
        let steps: Vec<Record> = self.config.steps.iter().map(read).collect::<Result<_>>()?;
        let is = |status| self.config.steps.iter().zip(&steps).find(move |(_, record)| record.status == status);
        let waits = [Status::Waiting, Status::BackingOff, Status::Pending].into_iter().find_map(is);
        let reason =
            waits.map(|(step, record)| format!("step `{}` {}", step.id, record.reason.as_deref().unwrap_or("waits")));
        let paused = steps.iter().find(|record| record.is_paused()).cloned();
        let shown = document(&self.result, &Run { id: String::new(), admission: None, steps });
        if let Some(paused) = paused.filter(|_| shown.status == RunState::Paused) {
            return Ok(paused);
        }
        Ok(record(shown, reason))
    }
}

/// What the document of a workflow is as the record of a step.
fn record(shown: ResultDocument, waits: Option<String>) -> Record {
    let metrics = shown.execution_metrics;
    let status = match shown.status {
        RunState::Completed => Status::Completed,
        RunState::Canceled => Status::Canceled,
        RunState::Running | RunState::Paused => Status::Pending,
        RunState::Waiting => Status::Waiting,
        RunState::TimedOut => Status::TimedOut,
        RunState::Failed => match shown.error_analysis.as_ref().map(|e| e.class.as_str()) {
            Some("timeout") => Status::TimedOut,
            _ => Status::Failed,
        },
    };
    let is_overdue = shown.status == RunState::TimedOut;
    let failure = shown.error_analysis.filter(|_| status != Status::Completed).map(|e| {
        if is_overdue {
            return Failure { class: e.class, message: e.detail, attempts: metrics.attempts, at: None };
        }
        let at = e.instance.trim_start_matches('/').to_owned();
        let step = at.strip_prefix("steps/").unwrap_or(&at);
        Failure { class: e.class, message: format!("step `{step}`: {}", e.detail), attempts: e.attempts, at: Some(at) }
    });
    Record {
        status,
        results: (status == Status::Completed).then_some(shown.final_output),
        error: failure,
        reason: match status {
            open if open.is_open() => waits,
            Status::Canceled => Some(CANCELED.to_owned()),
            _ => is_overdue.then(|| OVERDUE.to_owned()),
        },
        degraded: !shown.degraded.is_empty(),
        attempts: metrics.attempts,
        started_at: metrics.started_at,
        duration_ms: Some(metrics.duration_ms),
        usage: (metrics.usage != Cost::default()).then_some(metrics.usage),
        artifacts: shown.state_artifacts.into_iter().map(|artifact| artifact.file).collect(),
        ..Record::skipped(String::new())
    }
}

impl Stage for Out {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let mut records = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let is_inside = cell(rows, ADMISSION, row)?.is_none();
            records
                .push(is_inside.then(|| Ok::<_, Error>(serde_json::to_string(&self.record(rows, row)?)?)).transpose()?);
        }
        let column = |name: &str| {
            let column = rows.column_by_name(name).cloned();
            column.ok_or_else(|| Error::engine(format!("a run has no column `{name}`")))
        };
        let records: ArrayRef = Arc::new(StringArray::from(records));
        let mut columns = vec![column(RUN_ID)?, column(SCOPE)?, column(ADMISSION)?, records];
        columns.extend(rows.column_by_name(PASSAGE).cloned());
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(Progress::Done)
    }
}

/// Where the outer rows get the record of the step. It can't be read from a spec, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(in crate::workflow) struct BackConfig {
    /// The step.
    pub id: Arc<str>,
    /// As in `IntoConfig`.
    pub mark: String,
    pub begin: Begin,
    /// Which round it was, from 1.
    pub round: Option<u32>,
    /// The name of the workflow.
    pub workflow: String,
    /// Where so many elements of a list may be within at once.
    pub turns: Option<Turns>,
}

impl ErasedStage for BackConfig {
    fn kind(&self) -> &'static str {
        "workflow"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(with_record(&inputs[0], &self.id))
    }

    fn distribution(&self) -> Distribution {
        Distribution::Keyed(vec![RUN_ID.to_owned()])
    }

    fn inputs(&self) -> Inputs {
        Inputs::Two
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::Many
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = with_record(&context.inputs[0], &self.id);
        let (env, begin) = (context.env.clone(), self.begin.clone());
        let course = Course { id: self.id.clone(), schema, env, begin };
        Ok(Operator::join(Back { config: self.clone(), course, left: Keyed::default(), right: Keyed::default() }))
    }

    fn describe(&self) -> Value {
        json!({ "name": self.workflow })
    }
}

struct Back {
    config: BackConfig,
    course: Course,
    /// Outer rows whose workflow has not ended.
    left: Keyed,
    /// Records whose outer rows have not come.
    right: Keyed,
}

impl Back {
    fn join(&self, outer: &RecordBatch, inner: &RecordBatch) -> Result<RecordBatch> {
        self.config.turns.iter().for_each(|turns| turns.give_back(outer.num_rows()));
        let mut records = Vec::with_capacity(outer.num_rows());
        for row in 0..outer.num_rows() {
            if let Some(ended) = cell(inner, DONE, row)? {
                records.push(ended.to_owned());
                continue;
            }
            let made = cell(inner, &self.config.id, row)?.ok_or_else(|| Error::engine("a workflow gave nothing"))?;
            let mut made: Record = serde_json::from_str(made)?;
            let is_open = made.status.is_open();
            if self.config.round.is_some() && !is_open {
                let before: Option<Record> =
                    cell_of(outer, &self.config.id, row)?.map(serde_json::from_str).transpose()?;
                made = add(made, &before.unwrap_or_else(Record::pending));
            }
            if !is_open {
                made = self.course.made(outer, row, made)?;
            }
            records.push(serde_json::to_string(&made)?);
        }
        self.course.answer(outer, records)
    }

    /// The key that the inner row of an outer one has.
    fn key(&self, outer: &RecordBatch, row: usize) -> Result<String> {
        let name = name(outer, row, &self.config.id, &self.config.mark)?;
        Ok(key_within(outer, row, &format!("{}{name}/", scope(outer, row)?))?.into_owned())
    }
}

impl Join for Back {
    fn left(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (mut left, mut right) = (std::mem::take(&mut self.left), std::mem::take(&mut self.right));
        let found = pair(rows, &mut left, &mut right, |rows, row| self.key(rows, row));
        (self.left, self.right) = (left, right);
        if let Some((outer, inner)) = found? {
            out.emit(self.join(&outer, &inner)?);
        }
        Ok(Progress::Done)
    }

    fn right(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let key = |rows: &RecordBatch, row| Ok(whole_key(rows, row)?.into_owned());
        if let Some((inner, outer)) = pair(rows, &mut self.right, &mut self.left, key)? {
            out.emit(self.join(&outer, &inner)?);
        }
        Ok(Progress::Done)
    }

    fn finish(&mut self, _: &mut Output) -> Result<Progress> {
        let alone = self.left.len() + self.right.len();
        if alone > 0 {
            return Err(Error::engine(format!("{alone} runs never came back from `{}`", self.config.id)));
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("left", &mut self.left)?;
        visitor.piece("right", &mut self.right)
    }
}
