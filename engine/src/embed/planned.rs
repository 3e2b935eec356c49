//! Whether a batch of a program has the columns that were planned.

use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;

use crate::data::sql_type::sql_name;
use crate::error::{Error, Result};

/// The batch under the planned schema: the same columns in the same order, whatever their metadata. `who` is what
/// messages call the one that made it.
///
/// # Errors
/// When a column is missing, is one too many, has another type, or holds a null where none was planned.
pub fn as_planned(batch: RecordBatch, planned: &SchemaRef, who: &str) -> Result<RecordBatch> {
    if batch.schema_ref() == planned {
        return Ok(batch);
    }
    let given = batch.schema();
    let same = |(a, b): (&_, &_)| {
        let (a, b): (&arrow::datatypes::FieldRef, &arrow::datatypes::FieldRef) = (a, b);
        a.name() == b.name() && a.data_type() == b.data_type()
    };
    if given.fields().len() != planned.fields().len() || !given.fields().iter().zip(planned.fields()).all(same) {
        let message = format!("{who} gave {}, and {} was planned", columns(&given), columns(planned));
        return Err(Error::validation(message));
    }
    Ok(RecordBatch::try_new(planned.clone(), batch.columns().to_vec())?)
}

/// `(id bigint, name text)`
fn columns(schema: &Schema) -> String {
    let column = |f: &arrow::datatypes::FieldRef| format!("{} {}", f.name(), sql_name(f.data_type()));
    format!("({})", schema.fields().iter().map(column).collect::<Vec<_>>().join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;

    #[test]
    fn other_columns_are_told_with_those_that_were_planned() {
        let planned = rows![{"id": 1, "name": "a"}].schema();
        let error = as_planned(rows![{"id": 1}], &planned, "the stream").unwrap_err();
        assert_eq!(error.message(), "the stream gave (id bigint), and (id bigint, name text) was planned");
        let error = as_planned(rows![{"id": "1", "name": "a"}], &planned, "the stream").unwrap_err();
        assert_eq!(error.message(), "the stream gave (id text, name text), and (id bigint, name text) was planned");
    }
}
