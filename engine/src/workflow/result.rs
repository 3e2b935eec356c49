//! The result of runs: one document each, in the order of admission, and its JSON Schema.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::chain::shapes;
use super::columns::{ADMISSION, cell, numbers};
use super::document::{Run, document};
use super::record::{Cost, Record, Status};
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use crate::data::columns::{RUN_ID, json_field};
use crate::data::records::{ROWS_MAX, compact};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::journal::{History, RunState};
use crate::spec::Chain;
use crate::spec::model::Format;
use crate::state::{Keyed, StateVisitor, Value};

/// The JSON Schema (2020-12) of the result document.
pub fn schema() -> Json {
    crate::spec::schema::published::<ResultDocument>("Bourn result")
}

/// The document of a run as far as it is known from the journal; `file` is the name of its spec.
///
/// # Errors
/// When a record in the history is none.
pub fn document_of(spec: &Chain, file: &str, run: (&str, RunState), history: &History) -> Result<ResultDocument> {
    let config = ResultConfig {
        workflow: spec.name.clone(),
        file: file.to_owned(),
        steps: shapes(spec),
        format: spec.format,
        first: 0,
        kept: true,
    };
    let record = |step: &StepShape| match history.0.get(&step.id) {
        Some(record) => Ok(serde_json::from_str(record.get())?),
        None => Ok(Record::pending()),
    };
    let steps = config.steps.iter().map(record).collect::<Result<_>>()?;
    let (id, state) = run;
    Ok(ResultDocument { status: state, ..document(&config, &Run { id: id.to_owned(), admission: None, steps }) })
}

/// What a run of a workflow leaves.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ResultDocument {
    /// The version of this form: `bourn.result/v1`.
    #[schemars(regex(pattern = "^bourn\\.result/v1$"))]
    pub schema: String,
    /// The id of the run.
    pub run_id: String,
    /// The name of the workflow.
    pub workflow: String,
    /// How the run ended.
    pub status: RunState,
    /// What every step gave, by id, when the run completed.
    pub workflow_results: Map<String, Json>,
    /// What `output_format` makes of the results; null when the run did not complete.
    pub final_output: Json,
    /// What the steps gave that completed, when the run did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partial_results: Option<Map<String, Json>>,
    /// The steps that were undone because the run failed, the last one first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub compensated: Vec<String>,
    /// The steps that failed and gave what the spec has for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// The failure that came first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error_analysis: Option<ErrorAnalysis>,
    /// What can be done about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovery_plan: Option<RecoveryPlan>,
    /// What was measured.
    pub execution_metrics: Metrics,
    /// Files that the run left; none in this version.
    pub state_artifacts: Vec<Json>,
    /// Where the time went.
    pub performance_report: PerformanceReport,
}

/// The failure that came first, in the form of RFC 9457 (problem details), and what it kept from running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnalysis {
    /// `urn:bourn:error:CLASS`.
    pub r#type: String,
    /// The class in words.
    pub title: String,
    /// `transient`, `rate_limit`, `timeout`, `validation`, `permanent`, `budget`, `canceled` or `engine`.
    pub class: String,
    /// What went wrong.
    pub detail: String,
    /// Where: `/steps/ID` or `/input`.
    pub instance: String,
    /// How often it was tried.
    pub attempts: u32,
    /// The steps that were not started because of it.
    pub affected_steps: Vec<String>,
}

/// What can be done about a failure.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct RecoveryPlan {
    /// The first action's kind.
    pub strategy: String,
    /// In order.
    pub actions: Vec<Action>,
}

/// Something to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Action {
    /// `recover`, `rerun` or `fix_input`.
    pub kind: String,
    /// The command line.
    pub command: String,
    /// Steps whose results are used again.
    pub reuses: Vec<String>,
    /// Steps that run again.
    pub reruns: Vec<String>,
}

/// What was measured of a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Metrics {
    /// When the first step began.
    pub started_at: Option<String>,
    /// From the beginning of the first step to the end of the last, in milliseconds.
    pub duration_ms: u64,
    /// Attempts of all steps together.
    pub attempts: u32,
    /// Steps that completed.
    pub completed: usize,
    /// Steps that failed, timed out or were canceled.
    pub failed: usize,
    /// Steps that were not started.
    pub skipped: usize,
    /// What all steps cost together.
    pub usage: Cost,
    /// Each step by id.
    pub steps: BTreeMap<String, StepMetrics>,
}

/// What was measured of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepMetrics {
    /// How it ended.
    pub status: Status,
    /// How often it was tried.
    pub attempts: u32,
    /// When the first attempt began.
    pub started_at: Option<String>,
    /// From there to the end of the last, in milliseconds.
    pub duration_ms: Option<u64>,
    /// What it cost.
    pub usage: Option<Cost>,
    /// Why it was skipped.
    pub reason: Option<String>,
    /// Which of its fallbacks gave its results, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<usize>,
}

/// Where the time of a run went.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerformanceReport {
    /// The steps that one after the other took the longest.
    pub critical_path: Vec<String>,
    /// Their time, in milliseconds.
    pub critical_path_ms: u64,
    /// The time of all steps, in milliseconds: more than the critical path when some ran side by side.
    pub steps_ms: u64,
    /// Optimisations that had an effect on this run.
    pub optimization_applied: Vec<String>,
}

/// Makes the documents.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ResultConfig {
    /// The name of the workflow.
    pub workflow: String,
    /// The name of its spec.
    pub file: String,
    /// Its steps, in the order of the spec.
    pub steps: Vec<StepShape>,
    /// What `final_output` is made of.
    pub format: Format,
    /// The number of the first run.
    pub first: u64,
    /// Whether what steps gave is kept, so that it need not be done again.
    pub kept: bool,
}

/// A step and those that it needs.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct StepShape {
    /// Its id.
    pub id: String,
    /// The ids of those that it needs.
    pub needs: Vec<String>,
    /// The ids of those that it must not overlap with, and comes behind.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<String>,
    /// What it is to the run.
    pub part: Part,
}

/// What a step is to its run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Part {
    /// What it gives is part of what the run gives.
    Step,
    /// It cleans up.
    Finally,
    /// It undoes this step.
    Undo(String),
}

impl StageConfig for ResultConfig {
    const NAME: &'static str = "result";

    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(columns())
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Results { config: self.clone(), next: Value::new(self.first), held: Keyed::default() }))
    }
}

fn columns() -> SchemaRef {
    Arc::new(Schema::new(vec![json_field("document"), Field::new("status", DataType::Utf8, false)]))
}

/// Documents in the order of admission: one that is early waits for those before it. How many wait is bounded by how
/// many runs are admitted at once.
struct Results {
    config: ResultConfig,
    /// The number of the run that is next.
    next: Value<u64>,
    /// Documents by number, with as many digits as the largest has, so that they sort.
    held: Keyed,
}

impl Stage for Results {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let made = self.documents(rows)?;
        let numbers = numbers(rows)?;
        let next = *self.next.get();
        if numbers.iter().copied().eq(next..next + numbers.len() as u64) {
            self.next.set(next + numbers.len() as u64);
            out.emit(made);
        } else {
            for (row, number) in numbers.iter().enumerate() {
                let doubled =
                    *number < next || self.held.insert(&key(*number), compact(&made.slice(row, 1))?).is_some();
                if doubled {
                    return Err(Error::engine(format!("run {number} came to its end twice")));
                }
            }
        }
        self.resume(out)
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let mut free = Vec::new();
        while free.len() < ROWS_MAX
            && let Some(row) = self.held.remove(&key(*self.next.get()))
        {
            self.next.update(|n| *n += 1);
            free.push(row);
        }
        if let Some(first) = free.first() {
            out.emit(concat_batches(first.schema_ref(), &free)?);
        }
        Ok(if free.len() == ROWS_MAX { Progress::More } else { Progress::Done })
    }

    fn finish(&mut self, _: &mut Output) -> Result<Progress> {
        if !self.held.is_empty() {
            let message =
                format!("run {} never came to its end, and {} wait behind it", self.next.get(), self.held.len());
            return Err(Error::engine(message));
        }
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("next", &mut self.next)?;
        visitor.piece("held", &mut self.held)
    }
}

fn key(number: u64) -> String {
    format!("{number:020}")
}

impl Results {
    fn documents(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let (mut documents, mut states) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let read = |name: &str| -> Result<Option<Record>> {
                Ok(cell(rows, name, row)?.map(serde_json::from_str).transpose()?)
            };
            let record =
                |name: &String| read(name)?.ok_or_else(|| Error::engine(format!("step `{name}` has no record")));
            let run = Run {
                id: cell(rows, RUN_ID, row)?.unwrap_or_default().to_owned(),
                admission: read(ADMISSION)?,
                steps: self.config.steps.iter().map(|s| record(&s.id)).collect::<Result<_>>()?,
            };
            let document = document(&self.config, &run);
            documents.push(serde_json::to_string(&document)?);
            states.push(document.status.name());
        }
        let all: Vec<ArrayRef> = vec![Arc::new(StringArray::from(documents)), Arc::new(StringArray::from(states))];
        Ok(RecordBatch::try_new(columns(), all)?)
    }
}
