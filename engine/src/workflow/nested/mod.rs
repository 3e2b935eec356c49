//! A workflow in the place of a step: its rows go in with an input of their own, pass its steps, and what those gave comes back as the
//! record of the step.
//!
//! The rows between have none of the outer columns but those of the run. The names of their steps in a history begin with the place of the
//! outer step, the scope: `each[3]/review`.

mod back;
mod into;
mod turns;

use std::sync::Arc;

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use super::course::item;
use crate::data::columns::json_field;
use crate::error::Result;

pub(super) use back::{BackConfig, OutConfig};
pub(super) use into::IntoConfig;
pub(super) use turns::{TurnConfig, Turns};

/// The name of the step in a row, with what marks the round.
fn name(rows: &RecordBatch, row: usize, id: &str, mark: &str) -> Result<String> {
    let name = item(rows, row)?.map_or_else(|| id.to_owned(), |place| place.of(id));
    Ok(format!("{name}{mark}"))
}

/// The columns of a step behind it.
pub(super) fn with_record(input: &SchemaRef, id: &str) -> SchemaRef {
    if input.index_of(id).is_ok() {
        return input.clone();
    }
    let fields = input.fields().iter().cloned().chain([Arc::new(json_field(id))]);
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
