//! The record of a step: what its column holds for each run.

use chrono::DateTime;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::artifacts::Artifact;
use crate::api::Usage;
use crate::error::{Error, Kind};
use crate::journal::{Ask, RunState};
use crate::spec::gates::OnFail;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
    /// It has results.
    Completed,
    /// It has an error.
    Failed,
    /// It took longer than allowed.
    TimedOut,
    /// It was stopped with the job.
    Canceled,
    /// It was not started, for a reason.
    Skipped,
    /// It has the results of a step that was asked the same before, from the cache.
    Cached,
    /// It has the results of the run that this one was forked from.
    Reused,
    /// It waits for a time or a signal.
    Waiting,
    /// An attempt of it has failed, and the next one comes later.
    BackingOff,
    /// It has not ended.
    Pending,
}

impl Status {
    /// Whether it is not the last word on its step.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Waiting | Self::BackingOff | Self::Pending)
    }

    /// Whether later steps can read what it gave.
    pub(super) fn has_results(self) -> bool {
        matches!(self, Self::Completed | Self::Cached | Self::Reused)
    }
}

/// What a step did in one run. `${step.results}` and the like read it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// How it ended.
    pub status: Status,
    /// What it gave, when it completed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub results: Option<Value>,
    /// Why it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
    /// Why it was skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The switch that chose another way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_chosen_by: Option<String>,
    /// How often it was done, of a step that is done in rounds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
    /// Which of its fallbacks gave its results, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fallback: Option<usize>,
    /// How many of its fallbacks have failed as well.
    #[serde(default, skip_serializing_if = "is_no")]
    pub fallbacks_failed: usize,
    /// Of a step that was done for each element of a list: how many there were, and which failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<Items>,
    /// Whether its results are those that the spec has for when it fails.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
    /// How often it was tried; 0 when it was not started.
    pub attempts: u32,
    /// When the first attempt began: RFC 3339 in UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    /// From the beginning of the first attempt to the end of the last, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
    /// What it cost, when it cost anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Cost>,
    /// The files that it left where it says that it `writes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub artifacts: Vec<Artifact>,
    /// What its quality gates said, in order, as far as they were asked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub quality_gates: Vec<GateResult>,
}

/// What a quality gate said.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct GateResult {
    /// The gate.
    pub name: String,
    /// Whether it was passed.
    pub passed: bool,
    /// The score, of a gate that has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub score: Option<f64>,
    /// Why it was not passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What that did to the step.
    pub on_fail: OnFail,
}

/// What became of the elements of a list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Items {
    /// How many there were.
    pub total: u64,
    /// How many failed; their results are null.
    pub failed: u64,
    /// How many have what the spec gives for a failure, or did not pass a gate that warns.
    #[serde(default, skip_serializing_if = "is_none")]
    pub degraded: u64,
    /// How many were answered from the cache.
    #[serde(default, skip_serializing_if = "is_none")]
    pub cached: u64,
    /// The first of those that failed, also where the spec gives something for that.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<ItemFailure>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_no(count: &usize) -> bool {
    *count == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// An element for which the step failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ItemFailure {
    /// Its place in the list, from 0.
    pub item: u64,
    /// As in [`Failure`].
    pub class: String,
    /// What went wrong.
    pub message: String,
    /// Whether it has what the spec gives for that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub degraded: bool,
}

/// Why a step failed.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Failure {
    /// `transient`, `rate_limit`, `timeout`, `validation`, `permanent`, `budget`, `guardrail`, `canceled`, `lost_worker` or `engine`.
    pub class: String,
    /// What went wrong.
    pub message: String,
    /// How often it was tried.
    pub attempts: u32,
    /// Where below the step, of a list or of a workflow: `items/3`, `steps/review`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
}

/// What steps cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Cost {
    /// Tokens read by a model.
    pub input_tokens: u64,
    /// Tokens written by a model.
    pub output_tokens: u64,
    /// US dollars.
    pub usd: f64,
}

/// Why a step is pending that could start.
const PAUSED: &str = "the run is paused";
/// Why a step is pending whose run may spend no more for now.
pub const UNPAID_FOR: &str = "the run is paused: what it may spend is spent";
/// Why a step was not started, or dropped.
pub(super) const CANCELED: &str = "the run was canceled";
/// The same, where its workflow has had all the time that it may take.
pub(super) const OVERDUE: &str = "the time of the run is over";

/// How a run stands, by its input and how it stands because of each of its steps. What is open comes first: a run that is stopped while a
/// step waits has not ended.
pub(super) fn state(is_refused: bool, steps: impl Iterator<Item = RunState>) -> RunState {
    let mut state = if is_refused { RunState::Failed } else { RunState::Completed };
    let rank = |state: RunState| match state {
        RunState::Completed => 0,
        RunState::Failed => 1,
        RunState::TimedOut => 2,
        RunState::Canceled => 3,
        RunState::Running => 4,
        RunState::Waiting => 5,
        RunState::Paused => 6,
    };
    for of_step in steps {
        if rank(of_step) > rank(state) {
            state = of_step;
        }
    }
    state
}

impl Status {
    /// How a run stands because of a step like this, as far as the status says it.
    pub(super) fn of_run(self) -> RunState {
        match self {
            Self::Pending => RunState::Running,
            Self::Waiting | Self::BackingOff => RunState::Waiting,
            Self::Canceled => RunState::Canceled,
            Self::Failed | Self::TimedOut => RunState::Failed,
            Self::Completed | Self::Cached | Self::Reused | Self::Skipped => RunState::Completed,
        }
    }
}

impl Cost {
    /// None when it cost nothing.
    pub(super) fn of(usage: Usage) -> Option<Self> {
        let Usage { input_tokens, output_tokens, usd } = usage;
        (usage != Usage::default()).then_some(Self { input_tokens, output_tokens, usd })
    }

    /// Adds another one.
    pub fn add(&mut self, other: Self) {
        self.input_tokens += other.input_tokens;
        self.output_tokens += other.output_tokens;
        self.usd += other.usd;
    }
}

impl From<Cost> for Usage {
    fn from(Cost { input_tokens, output_tokens, usd }: Cost) -> Self {
        Self { input_tokens, output_tokens, usd }
    }
}

impl Record {
    /// What it came to, without times, attempts and costs: to compare it with others.
    pub fn outcome(&self) -> Value {
        // What a fork has taken over is what the run before had completed, and so is what the cache had.
        let is_taken = matches!(self.status, Status::Reused | Status::Cached);
        let status = if is_taken { Status::Completed } else { self.status };
        let mut outcome = json!({ "status": status });
        let members = [
            ("results", self.results.clone()),
            ("error", self.error.as_ref().map(|error| error.message.clone().into())),
            ("reason", self.reason.clone().map(Into::into)),
            ("rounds", self.rounds.map(Into::into)),
            ("fallback", self.fallback.map(Into::into)),
            ("degraded", self.degraded.then_some(true.into())),
        ];
        for (name, member) in members {
            if let Some(member) = member {
                outcome[name] = member;
            }
        }
        outcome
    }

    /// Whether later steps can read what it gave.
    pub(super) fn has_results(&self) -> bool {
        self.status.has_results()
    }

    /// Whether its results are what the spec gives for a failure: a gate that only warns leaves it its own.
    pub(super) fn is_default(&self) -> bool {
        let warns = |gate: &GateResult| !gate.passed && gate.on_fail == OnFail::Warn;
        self.degraded && (self.error.is_some() || !self.quality_gates.iter().any(warns))
    }

    pub(super) fn is_failed(&self) -> bool {
        matches!(self.status, Status::Failed | Status::TimedOut)
    }

    /// How its run stands because of it: what was canceled because another step failed has failed with it.
    pub(super) fn standing(&self) -> RunState {
        match (self.status, self.reason.as_deref()) {
            (Status::Pending, _) if self.is_paused() => RunState::Paused,
            (Status::Canceled, Some(OVERDUE)) => RunState::TimedOut,
            (Status::Canceled, reason) if self.error.is_none() && reason != Some(CANCELED) => RunState::Failed,
            (status, _) => status.of_run(),
        }
    }

    /// When it began, in microseconds since 1970.
    pub(super) fn begun(&self) -> Option<i64> {
        DateTime::parse_from_rfc3339(self.started_at.as_deref()?).ok().map(|at| at.timestamp_micros())
    }

    /// When it ended, in microseconds since 1970.
    pub(super) fn ended(&self) -> Option<i64> {
        let took = i64::try_from(self.duration_ms?).ok()?;
        self.begun().map(|begun| begun.saturating_add(took.saturating_mul(1_000)))
    }

    /// The same as the end of what began with another record: its time counts from there.
    pub(super) fn behind(self, before: &Self) -> Self {
        let Some(begin) = before.begun() else { return self };
        let end = self.ended().or_else(|| before.ended());
        let took = end.and_then(|end| u64::try_from((end - begin) / 1_000).ok());
        let least = self.duration_ms.max(before.duration_ms);
        Self { started_at: before.started_at.clone(), duration_ms: took.max(least), ..self }
    }

    /// The same with what else was paid for it.
    pub(super) fn costing(mut self, more: Option<Cost>) -> Self {
        if let Some(more) = more {
            self.usage.get_or_insert_default().add(more);
        }
        self
    }

    /// A step that was not started, or dropped, because the run did not go on.
    pub(super) fn dropped(reason: String) -> Self {
        Self { status: Status::Canceled, ..Self::skipped(reason) }
    }

    /// A step that was not started.
    pub(super) fn skipped(reason: String) -> Self {
        Self {
            status: Status::Skipped,
            results: None,
            error: None,
            reason: Some(reason),
            not_chosen_by: None,
            rounds: None,
            fallback: None,
            fallbacks_failed: 0,
            items: None,
            degraded: false,
            attempts: 0,
            started_at: None,
            duration_ms: None,
            usage: None,
            artifacts: Vec::new(),
            quality_gates: Vec::new(),
        }
    }

    /// A step that has not ended.
    pub(super) fn pending() -> Self {
        Self { status: Status::Pending, reason: None, ..Self::skipped(String::new()) }
    }

    /// A step that is not started, since somebody has asked something else of its run.
    pub(super) fn asked(ask: Ask) -> Option<Self> {
        match ask {
            Ask::Cancel => Some(Self::dropped(CANCELED.into())),
            Ask::Pause => Some(Self { status: Status::Pending, ..Self::skipped(PAUSED.into()) }),
            Ask::Resume => None,
        }
    }

    /// Whether it is pending because of a pause.
    pub(super) fn is_paused(&self) -> bool {
        self.status == Status::Pending && matches!(self.reason.as_deref(), Some(PAUSED | UNPAID_FOR))
    }

    /// A step that is not started, since its run is paused for want of money.
    pub(super) fn unpaid_for() -> Self {
        Self { status: Status::Pending, ..Self::skipped(UNPAID_FOR.into()) }
    }

    /// A step that ended with an error.
    pub(super) fn failed(error: &Error, attempts: u32) -> Self {
        let status = match error.kind() {
            Kind::Timeout => Status::TimedOut,
            Kind::Canceled => Status::Canceled,
            _ => Status::Failed,
        };
        let error = Failure { class: error.class().to_owned(), message: error.to_string(), attempts, at: None };
        Self { status, error: Some(error), reason: None, attempts, ..Self::skipped(String::new()) }
    }
}
