//! What a stage says: batches for its ports, rejected rows, counts.

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use crate::data::records::ROWS_MAX;
use crate::error::Error;
use crate::time::Timestamp;

/// A row, or several with one fault, on the way to the dead letters.
#[derive(Debug)]
pub struct Rejected {
    /// The rows as they entered, or the text that could not be read as a row.
    pub row: RejectedRow,
    /// Why.
    pub error: Error,
}

/// What was rejected.
#[derive(Debug)]
pub enum RejectedRow {
    /// Rows in the schema of the input.
    Rows(RecordBatch),
    /// The text of one row that has no columns yet.
    Text(String),
}

impl Rejected {
    /// Rows that were understood but can't be worked.
    pub fn rows(rows: RecordBatch, error: Error) -> Self {
        Self { row: RejectedRow::Rows(rows), error }
    }

    /// One row that could not be read.
    pub fn text(text: impl Into<String>, error: Error) -> Self {
        Self { row: RejectedRow::Text(text.into()), error }
    }

    /// How many rows.
    pub fn count(&self) -> usize {
        match &self.row {
            RejectedRow::Rows(rows) => rows.num_rows(),
            RejectedRow::Text(_) => 1,
        }
    }
}

/// The buffer that a stage speaks into.
///
/// It is bounded by courtesy: a stage that has more to say than [`Output::is_full`] allows returns
/// [`Progress::More`](super::Progress::More) and goes on in `resume`.
#[derive(Debug, Default)]
pub struct Output {
    pub(crate) batches: Vec<(usize, RecordBatch)>,
    pub(crate) rejected: Vec<Rejected>,
    pub(crate) filtered: usize,
    pub(crate) late: usize,
    pub(crate) now: Duration,
    /// The time of day at the beginning of monotonic time.
    pub(crate) origin: Timestamp,
    rows: usize,
}

impl Output {
    /// An empty one, for the test of a stage without a runtime.
    pub fn at(now: Duration) -> Self {
        Self { now, ..Self::default() }
    }

    /// Sends rows to the main port. An empty batch is dropped.
    pub fn emit(&mut self, rows: RecordBatch) {
        self.emit_to(0, rows);
    }

    /// Sends rows to a port: 0 is the main one, 1 the first of [`StageConfig::ports`](super::StageConfig::ports).
    pub fn emit_to(&mut self, port: usize, rows: RecordBatch) {
        if rows.num_rows() > 0 {
            self.rows += rows.num_rows();
            self.batches.push((port, rows));
        }
    }

    /// Sends rows, as they entered, where `on_error` says.
    pub fn reject(&mut self, rows: RecordBatch, error: Error) {
        if rows.num_rows() > 0 {
            self.rejected.push(Rejected::rows(rows, error));
        }
    }

    /// Counts rows that were dropped on purpose.
    pub fn filtered(&mut self, rows: usize) {
        self.filtered += rows;
    }

    /// Counts rows that came too late and were dropped.
    pub fn late(&mut self, rows: usize) {
        self.late += rows;
    }

    /// The monotonic time of this call.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The time of day of this call, for what must be remembered over a restart. It never goes back within a run.
    pub fn wall(&self) -> Timestamp {
        Timestamp(self.origin.0.saturating_add(i64::try_from(self.now.as_micros()).unwrap_or(i64::MAX)))
    }

    /// Whether a stage that has more to say should return `Progress::More` first: a batch's worth of rows is waiting.
    pub fn is_full(&self) -> bool {
        self.rows >= ROWS_MAX
    }

    /// What was emitted so far, with its port. For tests of a stage without a runtime.
    pub fn emitted(&self) -> &[(usize, RecordBatch)] {
        &self.batches
    }

    /// What was rejected so far. For tests of a stage without a runtime.
    pub fn rejected(&self) -> &[Rejected] {
        &self.rejected
    }

    /// How many rows were counted as dropped on purpose.
    pub fn filtered_rows(&self) -> usize {
        self.filtered
    }

    /// An empty one of the same moment, for a stage within another.
    pub(crate) fn within(&self) -> Self {
        Self { now: self.now, origin: self.origin, ..Self::default() }
    }

    pub(crate) fn clear(&mut self) {
        self.batches.clear();
        self.rejected.clear();
        (self.filtered, self.late, self.rows) = (0, 0, 0);
    }
}
