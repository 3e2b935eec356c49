//! The columns of a run beside its steps, and how they are read.

use arrow::array::{Array, AsArray, StringArray};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use std::borrow::Cow;
use std::sync::Arc;

use crate::data::columns::{INPUT, RUN_ID, json_field};
use crate::error::{Error, Result};
use crate::journal::History;
use crate::time::Timestamp;

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

/// Where the time of runs is bounded: when a run began, or was begun again, and when it is over. Null where it is not, or never.
pub(super) const SINCE: &str = "_bourn_since";
pub(super) const DEADLINE: &str = "_bourn_deadline";

/// Which passage of its run a row belongs to, where a run may be passed several times at once. All rows of the others have no such column.
pub(super) const PASSAGE: &str = "_bourn_passage";

/// The columns that every run starts with, those that it has where it may be passed several times at once, and where time is bounded.
pub(super) fn start(overlap: bool, is_timed: bool) -> SchemaRef {
    let all = vec![
        Field::new(RUN_ID, DataType::Utf8, false),
        Field::new(RUN, DataType::UInt64, false),
        json_field(INPUT),
        json_field(ADMISSION),
    ];
    let passage = overlap.then(|| Field::new(PASSAGE, DataType::UInt64, false));
    let times = if is_timed { times().to_vec() } else { Vec::new() };
    Arc::new(Schema::new(all.into_iter().chain(passage).chain(times).collect::<Vec<_>>()))
}

/// The columns of times.
pub(super) fn times() -> [Field; 2] {
    [SINCE, DEADLINE].map(|name| Field::new(name, DataType::Int64, true))
}

/// What stands in an idempotency key behind the name of a step that was done before in this run, had completed, and is done anew: that
/// asks for something that has not been done. Nothing for all others.
pub(super) fn again(rows: &RecordBatch, row: usize, name: &str) -> Result<String> {
    let history = match rows.column_by_name(HISTORY) {
        Some(_) => cell(rows, HISTORY, row)?.filter(|text| text.contains(History::AGAIN)),
        None => None,
    };
    let Some(history) = history else { return Ok(String::new()) };
    let times = serde_json::from_str::<History>(history)?.again(&format!("{}{name}", scope(rows, row)?));
    Ok(if times == 0 { String::new() } else { format!("#again{times}") })
}

/// The time in a column that need not be there.
pub(super) fn time(rows: &RecordBatch, name: &str, row: usize) -> Option<Timestamp> {
    let column = rows.column_by_name(name)?.as_primitive_opt::<Int64Type>()?;
    column.is_valid(row).then(|| Timestamp(column.value(row)))
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

/// What tells a row from all others on its way: its run, the passage of that, and its scope where it has one.
pub(super) fn whole_key(rows: &RecordBatch, row: usize) -> Result<Cow<'_, str>> {
    key_within(rows, row, scope(rows, row)?)
}

/// The same of the row in this scope that has the run and the passage of this one.
pub(super) fn key_within<'a>(rows: &'a RecordBatch, row: usize, scope: &str) -> Result<Cow<'a, str>> {
    let id = cell(rows, RUN_ID, row)?.ok_or_else(|| Error::engine("a run has no id"))?;
    // No id has such a character.
    Ok(match (passage(rows, row).filter(|passage| *passage > 0), scope) {
        (None, "") => id.into(),
        (None, scope) => format!("{id}\u{1}{scope}").into(),
        (Some(passage), scope) => format!("{id}\u{1}{passage}\u{1}{scope}").into(),
    })
}

/// Which passage of its run a row belongs to, where there may be several at once.
pub(super) fn passage(rows: &RecordBatch, row: usize) -> Option<u64> {
    Some(rows.column_by_name(PASSAGE)?.as_primitive_opt::<UInt64Type>()?.value(row))
}

/// The numbers of the runs.
pub(super) fn numbers(rows: &RecordBatch) -> Result<&[u64]> {
    let column = rows.column_by_name(RUN).and_then(|c| c.as_primitive_opt::<UInt64Type>());
    column.map(|c| c.values().as_ref()).ok_or_else(|| Error::engine("a run has no number"))
}
