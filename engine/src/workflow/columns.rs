//! The columns of a run beside its steps, and how they are read.

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use std::sync::Arc;

use crate::data::columns::{INPUT, RUN_ID, json_field};
use crate::error::{Error, Result};

/// The number of the run in the order of admission, from 0.
pub(super) const RUN: &str = "_bourn_run";
/// A failed record when the input was no good; null otherwise.
pub(super) const ADMISSION: &str = "_bourn_admission";

/// What the journal knows of the run from before, as JSON; null for one that is new.
pub(super) const HISTORY: &str = "_bourn_history";

/// The place of an item in its list, from 0; null for the one row of a run that has none.
pub(super) const ITEM: &str = "_bourn_item";
/// How many items the list has.
pub(super) const ITEMS: &str = "_bourn_items";
/// The record of the step when no item was started.
pub(super) const DONE: &str = "_bourn_done";

/// The columns that every run starts with.
pub(super) fn start() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(RUN_ID, DataType::Utf8, false),
        Field::new(RUN, DataType::UInt64, false),
        json_field(INPUT),
        json_field(ADMISSION),
    ]))
}

/// A text column of the engine's own.
pub(super) fn texts<'a>(rows: &'a RecordBatch, name: &str) -> Result<&'a StringArray> {
    let column = rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
    column.ok_or_else(|| Error::engine(format!("a run has no column `{name}`")))
}

/// The text of a cell; none for null.
pub(super) fn cell<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Result<Option<&'a str>> {
    let column = texts(rows, name)?;
    Ok(column.is_valid(row).then(|| column.value(row)))
}

/// The numbers of the runs.
pub(super) fn numbers(rows: &RecordBatch) -> Result<&[u64]> {
    let column = rows.column_by_name(RUN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
    column.map(|c| c.values().as_ref()).ok_or_else(|| Error::engine("a run has no number"))
}
