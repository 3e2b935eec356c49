//! The keys of a test case: types and their JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Row;
use crate::data::units::Interval;

/// A test case: rows that are given, and what must come out. Sources and sinks are replaced by memory, time is virtual.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CaseKeys {
    /// What it shows; `bourn test --filter` looks for a part of it.
    pub name: String,
    /// The time of day at which it begins, as in RFC 3339: `2024-05-01T12:00:00Z`; `2020-01-01T00:00:00Z` if it does not say.
    pub clock: Option<String>,
    /// The input of the run of a workflow; an empty object if it does not say.
    pub input: Option<Value>,
    /// The rows that sources give at once: by source, or a list when there is one source.
    pub given: Option<FeedsKeys>,
    /// What happens after that, in order.
    #[serde(default)]
    pub script: Vec<MoveKeys>,
    /// What must have come out in the end: rows by sink, `sink.fallback`, stage or `stage.port`, or a list when there
    /// is one sink. Of a workflow: how its run must have ended.
    #[schemars(with = "Option<ExpectKeys>")]
    pub expect: Option<Value>,
    /// The rows that must have been rejected, in any order; none if it does not say.
    pub dead_letters: Option<Vec<Letter>>,
    /// A part of the error that must end the job.
    pub error: Option<String>,
    /// What stages and steps answer that would ask something outside, by id.
    #[serde(default)]
    pub mocks: BTreeMap<String, Mock>,
    /// How often sinks fail before they take rows, by id.
    #[serde(default)]
    pub fail: BTreeMap<String, FailKeys>,
}

/// A moment: first time passes, then rows are given, then what has come is looked at.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct MoveKeys {
    /// How much time passes.
    pub advance: Option<Interval>,
    /// Until when time passes, from the beginning of the case.
    pub at: Option<Interval>,
    /// Rows that sources give at once.
    pub give: Option<FeedsKeys>,
    /// What must have come since the move that looked there last.
    pub expect: Option<WantsKeys>,
}

/// Rows by source, or the rows of the only one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum FeedsKeys {
    /// Of the only source.
    One(Vec<Row>),
    /// By source.
    Many(BTreeMap<String, FeedKeys>),
}

/// What a source gives.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum FeedKeys {
    /// The rows of one batch.
    Rows(Vec<Row>),
    /// More than the rows.
    More(FeedMap),
}

/// What a source gives, written at length.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FeedMap {
    /// The rows of one batch.
    pub rows: Option<Vec<Row>>,
    /// The rows of several batches.
    pub batches: Option<Vec<Vec<Row>>>,
    /// The columns with their types: `{ id: bigint }`; those that the source declares if it does not say, otherwise
    /// inferred from the rows.
    pub schema: Option<serde_json::Map<String, Value>>,
}

/// Rows by sink, stage or `stage.port`, or those of the only sink.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum WantsKeys {
    /// Of the only sink.
    One(Vec<Row>),
    /// By id.
    Many(BTreeMap<String, WantKeys>),
}

/// What must have come.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum WantKeys {
    /// These rows, in this order.
    Rows(Vec<Row>),
    /// More than the rows.
    More(WantMap),
}

/// What must have come, written at length.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantMap {
    /// The rows, in this order.
    pub rows: Option<Vec<Row>>,
    /// Whether the rows may come in any order.
    #[serde(default)]
    pub unordered: bool,
    /// Whether columns that are not said may have any value.
    #[serde(default)]
    pub partial: bool,
    /// How many rows.
    pub count: Option<usize>,
}

/// What `expect` may be: of a pipeline, or of a workflow.
#[derive(JsonSchema)]
#[serde(untagged)]
#[allow(dead_code, reason = "what is meant is known when the mode of the spec is")]
enum ExpectKeys {
    Run(RunWant),
    Rows(WantsKeys),
}

/// How the run of a workflow must have ended.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunWant {
    /// `COMPLETED`, `FAILED` or `CANCELED`.
    pub status: Option<String>,
    /// The final output.
    pub output: Option<Value>,
    /// What steps gave, by id; others may have given anything.
    pub steps: Option<serde_json::Map<String, Value>>,
    /// Steps that must not have been started.
    #[serde(default)]
    pub skipped: Vec<String>,
    /// A part of the error with which it failed.
    pub error: Option<String>,
    /// Whether members of objects that are not said may have any value.
    #[serde(default)]
    pub partial: bool,
}

/// A row that must have been rejected. What is not said may be anything.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Letter {
    /// The stage, source or sink that rejected it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<String>,
    /// A part of the reason.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The class of the error: `validation`, `timeout`, ….
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// When it was rejected, as in RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Columns of the row as it entered the stage; others may have any value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<Row>,
}

/// What a stage or step answers in place of what it would ask.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mock {
    /// Answers for certain rows: the first that the row fits.
    #[serde(default)]
    pub when: Vec<When>,
    /// The answer for every other row.
    pub answer: Option<Value>,
    /// Why it fails for every other row.
    pub fail: Option<String>,
    /// How many attempts at a row fail, as something that may be tried again; without it, it fails for good.
    pub times: Option<u32>,
}

/// What is answered for certain rows.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct When {
    /// Columns of the row; others may have any value.
    pub row: Row,
    /// The answer.
    pub answer: Option<Value>,
    /// Why it fails.
    pub fail: Option<String>,
    /// How many attempts at a row fail, as something that may be tried again; without it, it fails for good.
    pub times: Option<u32>,
}

/// How often a sink fails.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum FailKeys {
    /// So many writes, as something that may be tried again.
    Times(u32),
    /// More than how often.
    More(Fail),
}

/// How a sink fails.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fail {
    /// How many writes fail.
    #[serde(default = "once")]
    pub times: u32,
    /// Why.
    pub reason: Option<String>,
    /// Whether it refuses the rows for good, rather than fail as something that may be tried again.
    #[serde(default)]
    pub permanent: bool,
}

fn once() -> u32 {
    1
}

impl FailKeys {
    pub(crate) fn meant(self) -> Fail {
        match self {
            Self::Times(times) => Fail { times, reason: None, permanent: false },
            Self::More(fail) => fail,
        }
    }
}
