//! What holds for a step in every run, however its command is carried out: whether it starts, and what it leaves.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::columns::{ADMISSION, DONE, HISTORY, ITEM, cell, texts};
use super::record::{Record, Status};
use crate::api::template::Template;
use crate::data::columns::RESERVED_PREFIX;
use crate::data::json::cell_value;
use crate::error::{Error, Result};
use crate::journal::History;

/// How the record begins of a step that completed: whether it did is asked of every record by every step that needs it.
const COMPLETED: &str = "{\"status\":\"COMPLETED\"";

/// A step as a run comes to it.
pub(super) struct Course {
    /// Its id, which is also the name of its column.
    pub id: Arc<str>,
    /// The steps that it needs, by id.
    pub needs: Vec<String>,
    pub condition: Option<Template>,
    /// What leaves.
    pub schema: SchemaRef,
    /// What it gives when it fails.
    pub default: Option<Value>,
}

/// Why a step is not started.
enum Skip {
    /// For this reason, and for good.
    For(String),
    /// A step that it needs waits.
    ForNow,
}

/// Whether a record is not the last word on its step: it is not kept.
pub(super) fn is_open(record: &str) -> Result<bool> {
    Ok(matches!(status(record)?, Status::Waiting | Status::Pending))
}

/// The status alone: the results of a step may be large.
#[derive(Deserialize)]
struct Ended {
    status: Status,
}

/// How a step ended, from its record.
pub(super) fn status(record: &str) -> Result<Status> {
    if record.starts_with(COMPLETED) {
        return Ok(Status::Completed);
    }
    Ok(serde_json::from_str::<Ended>(record)?.status)
}

/// What of an earlier passage of a run is known of a step: its record.
pub(super) fn known(rows: &RecordBatch, row: usize, step: &str) -> Result<Option<String>> {
    // A job without a journal has no such column, and a run that is new no history.
    if rows.column_by_name(HISTORY).is_none_or(|c| c.is_null(row)) {
        return Ok(None);
    }
    let Some(history) = cell(rows, HISTORY, row)? else { return Ok(None) };
    let History(mut steps) = serde_json::from_str(history)?;
    Ok(steps.remove(step).map(|record| String::from(Box::<str>::from(record))))
}

/// The place of an item in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub u64);

impl Place {
    /// The name of the item in a history: `step[3]`.
    pub(super) fn of(self, step: &str) -> String {
        format!("{step}[{}]", self.0)
    }
}

/// Which item of a list a row is, if it is one.
pub(super) fn item(rows: &RecordBatch, row: usize) -> Result<Option<Place>> {
    let Some(column) = rows.column_by_name(ITEM) else { return Ok(None) };
    let column = column.as_primitive_opt::<UInt64Type>().ok_or_else(|| Error::engine("items are counted"))?;
    Ok(column.is_valid(row).then(|| Place(column.value(row))))
}

/// The text of a cell in a column that need not be there.
fn cell_of<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Result<Option<&'a str>> {
    if rows.column_by_name(name).is_some() { cell(rows, name, row) } else { Ok(None) }
}

impl Course {
    /// The record of the step when it is not to be started in this run: because it has ended before, or is not wanted.
    pub(super) fn ended(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        if let Some(place) = item(rows, row)? {
            // Whether it starts was asked of the step as a whole.
            return known(rows, row, &place.of(&self.id));
        }
        if let Some(record) = cell_of(rows, DONE, row)? {
            return Ok(Some(record.to_owned()));
        }
        if let Some(record) = known(rows, row, &self.id)? {
            return Ok(Some(record));
        }
        let record = match self.skip(rows, row)? {
            None => return Ok(None),
            Some(Skip::For(reason)) => Record::skipped(reason),
            Some(Skip::ForNow) => Record::pending(),
        };
        Ok(Some(serde_json::to_string(&record)?))
    }

    /// Why the step is not started in this run.
    fn skip(&self, rows: &RecordBatch, row: usize) -> Result<Option<Skip>> {
        if texts(rows, ADMISSION)?.is_valid(row) {
            return Ok(Some(Skip::For("the input is not valid".into())));
        }
        let mut waits = false;
        for need in &self.needs {
            let record = cell(rows, need, row)?.ok_or_else(|| Error::engine(format!("step `{need}` has no record")))?;
            let how = match status(record)? {
                Status::Completed | Status::Reused => continue,
                Status::Waiting | Status::Pending => {
                    waits = true;
                    continue;
                }
                Status::Skipped => "was skipped",
                Status::TimedOut => "timed out",
                Status::Canceled => "was canceled",
                Status::Failed => "failed",
            };
            return Ok(Some(Skip::For(format!("`{need}` {how}"))));
        }
        if waits {
            return Ok(Some(Skip::ForNow));
        }
        let Some(condition) = &self.condition else { return Ok(None) };
        match condition.value(rows, row)? {
            Value::Bool(true) => Ok(None),
            Value::Bool(false) => Ok(Some(Skip::For("its condition is false".into()))),
            other => Err(Error::validation(format!("the condition is neither true nor false: {other}")).at_field("if")),
        }
    }

    /// The record of the step when it failed: what the spec has for that, or the failure.
    pub(super) fn failed(&self, failed: Record) -> Record {
        match &self.default {
            // A run that is stopped is not to be gone on with.
            Some(default) if failed.status != Status::Canceled => {
                Record { status: Status::Completed, results: Some(default.clone()), degraded: true, ..failed }
            }
            _ => failed,
        }
    }

    /// The rows with the records of the step.
    pub(super) fn answer(&self, rows: &RecordBatch, records: Vec<String>) -> Result<RecordBatch> {
        let column: ArrayRef = Arc::new(StringArray::from(records));
        let columns = rows.columns().iter().cloned().chain([column]).collect();
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// What a stage made of rows: for each the value of the column that it added, or changed when it added none; an object of
/// several.
pub(super) fn results(before: &RecordBatch, after: &RecordBatch) -> Result<Vec<Value>> {
    let (given, wanted) = (after.num_rows(), before.num_rows());
    if given != wanted {
        return Err(Error::engine(format!("a step's stage gave {given} rows for {wanted}")));
    }
    let schema = after.schema_ref();
    let name = |i: usize| schema.field(i).name();
    let all: Vec<usize> = (0..after.num_columns()).filter(|i| !name(*i).starts_with(RESERVED_PREFIX)).collect();
    let new: Vec<usize> = all.iter().copied().filter(|i| before.column_by_name(name(*i)).is_none()).collect();
    let cell = |i: usize, row: usize| cell_value(after.column(i), schema.field(i), row);
    let object = |columns: &[usize], row: usize| {
        let members = columns.iter().map(|i| Ok((name(*i).clone(), cell(*i, row)?)));
        Ok(Value::Object(members.collect::<Result<Map<_, _>>>()?))
    };
    let result = |row: usize| match new.as_slice() {
        [one] => cell(*one, row),
        [] => {
            // A step may have the name of the column that a stage makes, and so may a column of the stage's own.
            let same = |i: usize| {
                let is_equal = |c: &ArrayRef| *c.slice(row, 1) == *after.column(i).slice(row, 1);
                before.column_by_name(name(i)).is_some_and(is_equal)
            };
            let changed: Vec<usize> = all.iter().copied().filter(|i| !same(*i)).collect();
            match changed.as_slice() {
                [one] => cell(*one, row),
                [] => object(&all, row),
                several => object(several, row),
            }
        }
        several => object(several, row),
    };
    (0..given).map(result).collect()
}
