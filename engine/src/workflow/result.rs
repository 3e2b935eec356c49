//! The document of a run, its JSON Schema, and what it is made with.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json};

use super::artifacts::Artifact;
use super::attempts::Attempts;
use super::chain::shapes;
use super::decisions::Decides;
use super::document::{Run, document};
use super::record::{Cost, GateResult, Items, Record, Status};
use crate::data::units::Interval;
use crate::error::Result;
use crate::journal::{History, RunState};
use crate::spec::Chain;
use crate::spec::output::{Format, Output};

/// The JSON Schema (2020-12) of the result document.
pub fn schema() -> Json {
    crate::spec::schema::published::<ResultDocument>("Bourn result")
}

/// The document of a run as far as it is known from the journal; `file` is the name of its spec.
///
/// # Errors
/// When a record in the history is none.
pub fn document_of(
    spec: &Chain,
    file: &str,
    run: (&str, RunState),
    history: &History,
    flags: &Flags,
) -> Result<ResultDocument> {
    let config = DocumentConfig {
        workflow: spec.name.clone(),
        file: file.to_owned(),
        steps: shapes(spec),
        format: spec.format.clone(),
        output: spec.output.clone(),
        timeout: spec.timeout,
        kept: true,
        flags: flags.clone(),
    };
    let (id, state) = run;
    let record = |step: &StepShape| match history.0.get(&step.id) {
        Some(record) => Ok(serde_json::from_str(record.get())?),
        None => open(history, &step.id, state),
    };
    let steps = config.steps.iter().map(record).collect::<Result<_>>()?;
    Ok(ResultDocument { status: state, ..document(&config, &Run { id: id.to_owned(), admission: None, steps }) })
}

/// The record of a step that has not ended: it waits, is tried again later, or has not begun. One of a list, or of a workflow within, does
/// for the step.
fn open(history: &History, step: &str, state: RunState) -> Result<Record> {
    for (name, data) in history.0.iter().filter(|_| !state.has_ended()) {
        let (is_wait, of) = match (name.strip_prefix(History::WAIT), name.strip_prefix(History::BACKOFF)) {
            (Some(of), _) => (true, of),
            (_, Some(of)) => (false, of),
            _ => continue,
        };
        if history.0.contains_key(of) || History::step_of(of) != step {
            continue;
        }
        if is_wait {
            return Ok(Record { status: Status::Waiting, ..Record::pending() });
        }
        return Ok(serde_json::from_str::<Attempts>(data.get())?.record());
    }
    Ok(Record::pending())
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
    /// What was decided in the run, in the order of its steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decision_path: Vec<Taken>,
    /// What the steps gave of each way that was taken, by the switch that chose it and the step that it begins with.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub branch_results: BTreeMap<String, BTreeMap<String, Map<String, Json>>>,
    /// What the runs of the workflow so far say of its ways, where a result is asked for later; it changes nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_insights: Option<LearningInsights>,
    /// What the steps gave that completed, when the run did not; of a list of which elements failed those that did not, and nulls.
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
    /// The files that steps left where they say that they `writes`, by reference.
    pub state_artifacts: Vec<StateArtifact>,
    /// Where the time went.
    pub performance_report: PerformanceReport,
}

/// Something that was decided in a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Taken {
    /// The step.
    pub step: String,
    /// `if`, `switch`, `route`, `fallback`, `default`, `retry`, `repeat` or `tolerated`.
    pub kind: String,
    /// What came out: of a switch the steps that it chose.
    pub result: Json,
}

/// What runs of a workflow say of its ways.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct LearningInsights {
    /// The runs that were looked at: the newest ones.
    pub runs: u64,
    /// The first step of each way, by the switch that may choose it.
    pub ways: BTreeMap<String, BTreeMap<String, WayTaken>>,
    /// What could be looked at.
    pub advice: Vec<String>,
}

/// How often a way was taken, and how its first step ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct WayTaken {
    /// In how many runs it was taken.
    pub taken: u64,
    /// In how many of them its first step completed.
    pub completed: u64,
    /// In how many it failed or timed out, degraded ones included.
    pub failed: u64,
    /// What it cost in all of them, in US dollars.
    pub usd: f64,
    /// What a `route` that chose it says it has brought, at the mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reward: Option<f64>,
}

/// A file that a step left.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StateArtifact {
    /// The step.
    pub step: String,
    /// The file.
    #[serde(flatten)]
    pub file: Artifact,
}

/// The failure that came first, in the form of RFC 9457 (problem details), and what it kept from running.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ErrorAnalysis {
    /// `urn:bourn:error:CLASS`.
    pub r#type: String,
    /// The class in words.
    pub title: String,
    /// `transient`, `rate_limit`, `timeout`, `validation`, `permanent`, `budget`, `guardrail`, `canceled`, `lost_worker` or `engine`.
    pub class: String,
    /// What went wrong.
    pub detail: String,
    /// Where: `/steps/ID`, `/input`, `/output`, or `/run` of one that took longer than it may.
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
    /// Of those among them that are done for each element of a list, and failed at some: how many elements run again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub items: BTreeMap<String, Elements>,
    /// What those may cost, where a plan was asked for and they have completed in runs before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Estimate>,
}

/// Elements of a list that failed at some.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Elements {
    /// Those whose results are used again.
    pub reused: u64,
    /// Those that run again.
    pub rerun: u64,
}

/// What steps may cost, by what they cost before.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Estimate {
    /// Tokens read and written by models, and US dollars: the sum of the steps' means.
    pub cost: Cost,
    /// The sum of the means of those that one after the other take the longest, in milliseconds.
    pub duration_ms: u64,
    /// The steps that it is made of, and in how many runs each has completed.
    pub completed: BTreeMap<String, u64>,
    /// Those that run again and have completed in none, so that nothing is known of what they cost.
    pub unknown: Vec<String>,
    /// Where it is from, in words.
    pub source: String,
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
    /// What became of the elements of a list.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// What its quality gates said, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality_gates: Vec<GateResult>,
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
    /// What of `optimization` had an effect on this run, and which; nothing if nothing had.
    pub optimization_applied: Vec<Applied>,
}

/// Something that had an effect on a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Applied {
    /// The key: `parallel_where_possible` or `cache`.
    pub name: String,
    /// What it did, in words.
    pub effect: String,
    /// How much time steps that ran side by side saved, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub saved_ms: Option<u64>,
    /// How many steps, and elements of lists, were answered from the cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<u64>,
}

/// Makes the documents.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DocumentConfig {
    /// The name of the workflow.
    pub workflow: String,
    /// The name of its spec.
    pub file: String,
    /// Its steps, in the order of the spec.
    pub steps: Vec<StepShape>,
    /// What `final_output` is made of.
    pub format: Format,
    /// What becomes of that before it counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<Output>,
    /// How long a run may take.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
    /// Whether what steps gave is kept, so that it need not be done again.
    pub kept: bool,
    /// What the commands of a plan need beside.
    #[serde(default, skip_serializing_if = "Flags::are_none")]
    pub flags: Flags,
}

/// What the commands of recovery plans are told beside the run or the spec, each flag with a space before it: ` --journal other.db`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Flags {
    /// Those that act on a run.
    pub of_run: String,
    /// Those that begin one anew.
    pub anew: String,
}

impl Flags {
    fn are_none(&self) -> bool {
        *self == Self::default()
    }
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
    /// What there is to decide in it.
    #[serde(default)]
    pub decides: Decides,
    /// The switches that may choose it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chosen_by: Vec<String>,
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
