//! Steps of runs that may be passed several times at once: each is begun by the passage that comes to it first, and the others leave it to that.

use std::sync::Arc;

use arrow::array::Array;
use arrow::record_batch::RecordBatch;

use super::columns::{ADMISSION, DONE, numbers, passage, scope, texts};
use super::course::{Course, cell_of, is_open, item, known};
use super::record::Record;
use crate::error::Result;
use crate::journal::{Ask, Journal};

/// The passage of its run that a row belongs to, and the run, where there may be several at once.
pub(super) fn passed(rows: &RecordBatch, row: usize) -> Result<Option<(u64, u64)>> {
    let Some(passage) = passage(rows, row) else { return Ok(None) };
    Ok(Some((numbers(rows)?[row], passage)))
}

impl Course {
    /// The record of a step that asks or makes something by itself, when it is not to be started in this passage of its run: because
    /// another passage has begun it, it has ended before, or is not wanted.
    pub(super) fn settled(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        let Some(passed) = passed(rows, row)?.filter(|_| self.begin.recorded.is_none()) else {
            return self.ended(rows, row);
        };
        let name = self.own_name(rows, row)?;
        // A list of which no element is started is no step of its own here, and a workflow that is not started has none.
        let is_done = item(rows, row)?.is_none() && cell_of(rows, DONE, row)?.is_some();
        let is_none = is_done || texts(rows, ADMISSION)?.is_valid(row);
        if is_none || known(rows, row, &name)?.is_some() {
            return self.ended(rows, row);
        }
        let rest = self.begin.asked.rest();
        if !rest.begin_step(passed, &format!("{}{name}", scope(rows, row)?)) {
            return Ok(Some(serde_json::to_string(&Record::pending())?));
        }
        let record = self.ended(rows, row)?;
        if record.as_deref().map(is_open).transpose()?.unwrap_or_default() {
            self.leave_open(rows, row)?;
        }
        Ok(record)
    }

    /// The step is left as it stands, for whichever passage comes to it next.
    pub(super) fn leave_open(&self, rows: &RecordBatch, row: usize) -> Result<()> {
        let Some(passed) = passed(rows, row)? else { return Ok(()) };
        let rest = self.begin.asked.rest();
        rest.let_go(passed, &self.name(rows, row)?);
        if self.begin.asked.of(passed.0) == Some(Ask::Pause) {
            // Whoever takes that back is heard at once.
            rest.waits(passed.0, None);
        }
        Ok(())
    }

    /// The step waits until this time, or for somebody, and then is come to again.
    pub(super) fn waits(&self, journal: &Arc<dyn Journal>, rows: &RecordBatch, due: Option<i64>) -> Result<()> {
        self.leave_open(rows, 0)?;
        journal.asked().rest().waits(numbers(rows)?[0], due);
        Ok(())
    }
}
