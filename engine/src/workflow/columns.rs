//! The columns of a run beside its steps, and how they are read.

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use std::borrow::Cow;
use std::sync::Arc;

use crate::data::columns::{INPUT, RUN_ID, json_field};
use crate::error::{Error, Result};

/// The number of the run in the order of admission, from 0.
pub(super) const RUN: &str = "_bourn_run";
/// A failed record when the input was no good; null otherwise.
pub(super) const ADMISSION: &str = "_bourn_admission";

/// What the journal knows of the run from before, as JSON; null for one that is new.
pub(super) const HISTORY: &str = "_bourn_history";
/// The document of a run at rest, and how it stands; null for one that goes on.
pub(super) const DOCUMENT: &str = "_bourn_document";
pub(super) const STATE: &str = "_bourn_state";

/// The place of an item in its list, from 0; null for the one row of a run that has none.
pub(super) const ITEM: &str = "_bourn_item";
/// Of a workflow within another one: what the names of its steps begin with in a history, `each[3]/`. The runs of the outermost have no
/// such column.
pub(super) const SCOPE: &str = "_bourn_scope";
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

/// What the names of the steps of a row begin with in a history.
pub(super) fn scope(rows: &RecordBatch, row: usize) -> Result<&str> {
    if rows.column_by_name(SCOPE).is_none() { Ok("") } else { Ok(cell(rows, SCOPE, row)?.unwrap_or_default()) }
}

/// What tells a row from all others on its way: its run, and its scope where it has one.
pub(super) fn whole_key(rows: &RecordBatch, row: usize) -> Result<Cow<'_, str>> {
    let id = cell(rows, RUN_ID, row)?.ok_or_else(|| Error::engine("a run has no id"))?;
    Ok(match scope(rows, row)? {
        "" => id.into(),
        // No id has such a character.
        scope => format!("{id}\u{1}{scope}").into(),
    })
}

/// The numbers of the runs.
pub(super) fn numbers(rows: &RecordBatch) -> Result<&[u64]> {
    let column = rows.column_by_name(RUN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
    column.map(|c| c.values().as_ref()).ok_or_else(|| Error::engine("a run has no number"))
}
