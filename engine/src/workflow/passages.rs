//! Steps of runs that may be passed several times at once: each is begun by the passage that comes to it first, and the others leave it to that.

use std::sync::Arc;

use arrow::array::Array;
use arrow::record_batch::RecordBatch;

use super::columns::{ADMISSION, DONE, HISTORY, numbers, passage, scope, texts};
use super::course::{Course, cell_of, is_open, item, known};
use super::record::Record;
use crate::error::Result;
use crate::journal::{Ask, History, Journal};

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
        let asks_nothing = is_done || texts(rows, ADMISSION)?.is_valid(row);
        if asks_nothing || known(rows, row, &name)?.is_some() {
            return self.ended(rows, row);
        }
        let rest = self.begin.asked.rest();
        if !rest.begin_step(passed, &format!("{}{name}", scope(rows, row)?)) {
            return Ok(Some(serde_json::to_string(&Record::pending())?));
        }
        let record = self.ended(rows, row)?;
        if record.as_deref().map(is_open).transpose()?.unwrap_or_default() {
            self.leave_open(rows, row, false)?;
        }
        Ok(record)
    }

    /// Whether anything within the step has begun: one of its elements, or of the steps of its workflow.
    pub(super) fn is_within(&self, rows: &RecordBatch, row: usize) -> Result<bool> {
        let name = self.name(rows, row)?;
        let of_history = |history: &str| -> Result<bool> {
            let History(known) = serde_json::from_str(history)?;
            let bare = |key: &str| {
                let mut kinds = [History::WAIT, History::BACKOFF].into_iter();
                kinds.find_map(|kind| key.strip_prefix(kind)).unwrap_or(key).to_owned()
            };
            Ok(known.keys().any(|key| History::is_below(&bare(key), &name)))
        };
        // Most runs have none, or none with the name, and need not be read for it.
        let history = cell_of(rows, HISTORY, row)?.filter(|history| history.contains(&name));
        if history.map(of_history).transpose()?.unwrap_or_default() {
            return Ok(true);
        }
        let Some((run, _)) = passed(rows, row)? else { return Ok(false) };
        Ok(self.begin.asked.rest().has_begun_below(run, &name))
    }

    /// The step is left as it stands, for whichever passage comes to it next, or, if `is_new` what was done of it, for one that knows of that.
    pub(super) fn leave_open(&self, rows: &RecordBatch, row: usize, is_new: bool) -> Result<()> {
        let Some(passed) = passed(rows, row)? else { return Ok(()) };
        let rest = self.begin.asked.rest();
        rest.let_go(passed, &self.name(rows, row)?, is_new);
        if self.begin.asked.of(passed.0) == Some(Ask::Pause) {
            // Whoever takes that back is heard at once.
            rest.waits(passed.0, None);
        }
        Ok(())
    }

    /// The step waits until this time, or for somebody, and then is come to again. Whether that `is_new`: no earlier passage knows of it.
    pub(super) fn waits(
        &self,
        journal: &Arc<dyn Journal>,
        rows: &RecordBatch,
        (due, is_new): (Option<i64>, bool),
    ) -> Result<()> {
        self.leave_open(rows, 0, is_new)?;
        journal.asked().rest().waits(numbers(rows)?[0], due);
        Ok(())
    }
}
