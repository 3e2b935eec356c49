//! What is written into a journal, and what is read back.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::StringArray;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// When what a step gave must be durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// Before the next step starts.
    #[default]
    Sync,
    /// Soon: the next step does not wait, the end of the run does.
    Async,
    /// When the run ends, and not before.
    Exit,
}

/// Whether to wait until something is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Until it is.
    Durable,
    /// Until its place is certain.
    No,
}

/// How a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RunState {
    /// It is under way, or was when its process ended.
    Running,
    /// No step failed.
    Completed,
    /// A step failed, or the input was no good.
    Failed,
    /// It was stopped.
    Canceled,
}

impl RunState {
    /// As it is written: `COMPLETED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }

    /// The state of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Running, Self::Completed, Self::Failed, Self::Canceled].into_iter().find(|state| state.name() == name)
    }
}

/// Runs that begin, or come again.
#[derive(Clone, Debug)]
pub struct Started {
    /// Their ids.
    pub ids: StringArray,
    /// Their numbers.
    pub numbers: Vec<u64>,
    /// Their inputs as JSON; null for one that is no good.
    pub inputs: StringArray,
    /// Whether to return only when they are durable.
    pub wait: Wait,
}

/// What happened, of many runs at once.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Steps that ended.
    pub steps: Vec<Steps>,
    /// Runs that ended.
    pub ends: Ends,
}

/// The ends of one step in many runs.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The id of the step.
    pub step: Arc<str>,
    /// The numbers of the runs.
    pub numbers: Vec<u64>,
    /// Where the step was done for each element of a list, the place of each in its list.
    pub items: Option<Vec<u64>>,
    /// The record of the step in each, as JSON.
    pub records: StringArray,
}

impl Steps {
    /// Under which name the record of a row is kept: `step`, or `step[3]`.
    pub fn name(&self, row: usize) -> Cow<'_, str> {
        match &self.items {
            Some(items) => format!("{}[{}]", self.step, items[row]).into(),
            None => Cow::Borrowed(&*self.step),
        }
    }
}

/// Runs that ended.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// Their numbers.
    pub numbers: Vec<u64>,
    /// How each ended.
    pub states: Vec<RunState>,
}

/// What the journal knows of a run: the record of each step that ended, as it was written, by the id of the step.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct History(pub BTreeMap<String, Box<RawValue>>);
