//! What is written into a journal, and what is read back.

use std::sync::Arc;

use arrow::array::StringArray;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::History;
use crate::api::Usage;
use crate::time::Timestamp;

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
    /// It took longer than it may.
    TimedOut,
    /// It waits for a time or a signal, in no process.
    Waiting,
    /// Somebody has paused it: it is in no process.
    Paused,
}

impl RunState {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Running, Self::Waiting, Self::Paused, Self::Completed, Self::Failed, Self::Canceled, Self::TimedOut];

    /// As it is written: `COMPLETED`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
            Self::TimedOut => "TIMED_OUT",
            Self::Waiting => "WAITING",
            Self::Paused => "PAUSED",
        }
    }

    /// The state of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }

    /// Whether nothing more is to come.
    pub fn has_ended(self) -> bool {
        !matches!(self, Self::Running | Self::Waiting | Self::Paused)
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
    /// The numbers of those that began in this process and come back after they were at rest.
    pub returned: Vec<u64>,
    /// When those begin that are new, for who has no clock.
    pub at: Timestamp,
    /// When the time of each is over that begins now, or begins again; none where it is not bounded.
    pub deadlines: Vec<Option<Timestamp>>,
}

/// A run that comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Returned {
    /// Its number.
    pub number: u64,
    /// Its id.
    pub id: String,
    /// Its input as JSON.
    pub input: String,
}

/// What happened, of many runs at once.
#[derive(Clone, Debug, Default)]
pub struct Entries {
    /// Steps that ended.
    pub steps: Vec<Steps>,
    /// Waits that began.
    pub waits: Vec<Waiting>,
    /// Steps that are tried again later.
    pub backoffs: Vec<BackingOff>,
    /// Runs that ended, or wait.
    pub ends: Ends,
}

/// A step that waits from now on.
#[derive(Clone, Debug)]
pub struct Waiting {
    /// The number of the run.
    pub number: u64,
    /// Under which name the step is kept: `step`, `step[3]`.
    pub step: Arc<str>,
    /// What it waits for, as JSON: `{"due":…,"since":…,"signal":…}`.
    pub data: String,
}

/// A step that an attempt of has failed, and that is tried again.
#[derive(Clone, Debug)]
pub struct BackingOff {
    /// The number of the run.
    pub number: u64,
    /// Under which name the step is kept, or its round: `step[3]`, `step#2`.
    pub step: Arc<str>,
    /// What is known of its attempts, as JSON: `{"due":…,"attempts":…}`.
    pub data: String,
}

/// The ends of one step in many runs.
#[derive(Clone, Debug)]
pub struct Steps {
    /// The id of the step.
    pub step: Arc<str>,
    /// The numbers of the runs.
    pub numbers: Vec<u64>,
    /// Under which name the record of each is kept, where that is not the id: `step[3]` of an element of a list, `outer/step` of a
    /// workflow within another one.
    pub names: Option<Vec<String>>,
    /// The record of the step in each, as JSON.
    pub records: StringArray,
}

impl Steps {
    /// Under which name the record of a row is kept.
    pub fn name(&self, row: usize) -> &str {
        self.names.as_ref().map_or(&*self.step, |names| &names[row])
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

/// What an earlier process has left of a run.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The id that it began with, whatever its inputs are called by now.
    pub id: String,
    /// How it stood, as it was told last.
    pub state: RunState,
    /// What is known of it.
    pub history: History,
    /// When it began, or was tried again last.
    pub since: Option<Timestamp>,
    /// What its steps have cost.
    pub spent: Usage,
    /// When its time is over; none if that counts from now on, or is not bounded.
    pub deadline: Option<Timestamp>,
}

impl Earlier {
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.since
    }

    pub(crate) fn deadline(&self) -> Option<Timestamp> {
        self.deadline
    }
}
