//! What is known of the attempts of a step that is tried again: a wait between two of them outlives the process.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::columns::{HISTORY, cell, scope};
use super::record::{Cost, Record, Status};
use crate::api::Tried;
use crate::error::Result;
use crate::journal::History;
use crate::time::Timestamp;

/// A shorter wait is not noted: quick retries cost the journal nothing, and a crash among them repeats at most these.
pub(super) const NOTED: Duration = Duration::from_secs(1);

/// The attempts of a step, or of one of its rounds, as a history has them.
#[derive(Debug, Serialize, Deserialize)]
pub struct Attempts {
    /// When the next one comes, in microseconds since 1970.
    pub due: i64,
    /// When the first one began.
    pub since: i64,
    /// When it could have, which is when it did if nothing is noted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheduled: Option<i64>,
    /// How many there were.
    pub attempts: u32,
    /// How many of them count: what was refused because of a limit alone does not.
    pub counted: u32,
    /// Which fallback was tried; 0 is the step itself.
    #[serde(default)]
    pub fallback: usize,
    /// What the step had left before this fallback: its failed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Box<RawValue>>,
    /// Why the last one failed.
    pub error: String,
    /// What was wrong with the last answer, where there was one: the next one may be better if that is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong: Option<Arc<str>>,
    /// What they cost, when they cost anything.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paid: Option<Cost>,
    /// The same with what was paid for the step before: in earlier rounds, or before this fallback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Cost>,
}

impl Attempts {
    /// Those of a step in this row, from an earlier passage. The name is that within the workflow.
    pub(super) fn known(rows: &RecordBatch, row: usize, step: &str) -> Result<Option<Self>> {
        if rows.column_by_name(HISTORY).is_none_or(|c| c.is_null(row)) {
            return Ok(None);
        }
        // Most histories have none, and need not be read for it.
        let history = cell(rows, HISTORY, row)?.filter(|text| text.contains(History::BACKOFF));
        let Some(history) = history else { return Ok(None) };
        let History(known) = serde_json::from_str(history)?;
        let name = History::backoff(&format!("{}{step}", scope(rows, row)?));
        Ok(known.get(&name).map(|data| serde_json::from_str(data.get())).transpose()?)
    }

    /// None yet of what comes for the first time so much later: `round 3`.
    pub(super) fn first(what: &str, now: Timestamp, later: Duration) -> Self {
        let due = now.after(later).0;
        let error = what.to_owned();
        Self {
            due,
            since: due,
            scheduled: None,
            attempts: 0,
            counted: 0,
            fallback: 0,
            before: None,
            error,
            wrong: None,
            paid: None,
            usage: None,
        }
    }

    /// For who tries it again.
    pub(super) fn tried(&self) -> Tried {
        let scheduled = Timestamp(self.scheduled.unwrap_or(self.since));
        Tried { attempts: self.counted, scheduled, due: Timestamp(self.due) }
    }

    /// How long until the next one.
    pub(super) fn left(&self, now: Timestamp) -> Duration {
        Timestamp(self.due).since(now)
    }

    /// The record of the step for now.
    pub fn record(&self) -> Record {
        if self.attempts == 0 {
            let reason = format!("{} comes at {}", self.error, Timestamp(self.due));
            return Record { status: Status::BackingOff, ..Record::skipped(reason) };
        }
        let next = self.attempts + 1;
        let reason = format!("attempt {next} comes at {}: {}", Timestamp(self.due), self.error);
        let started_at = Some(Timestamp(self.since).to_string());
        let (status, attempts, usage) = (Status::BackingOff, self.attempts, self.usage);
        Record { status, attempts, started_at, usage, ..Record::skipped(reason) }
    }
}
