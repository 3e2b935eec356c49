//! Rows as JSON values, for dead letters, templates and messages: not for a hot path.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use serde_json::{Map, Value};

use super::columns::is_json;
use crate::error::{Error, Result};

/// Row `row` as an object. Nulls are shown; moments are RFC 3339; a column of JSON documents is its document.
///
/// # Errors
/// When a column has a type without a JSON form.
pub fn row_value(batch: &RecordBatch, row: usize) -> Result<Map<String, Value>> {
    let schema = batch.schema_ref();
    schema
        .fields()
        .iter()
        .enumerate()
        .map(|(i, f)| Ok((f.name().clone(), cell_value(batch.column(i), f, row)?)))
        .collect()
}

/// The value of one cell, as in [`row_value`].
///
/// # Errors
/// When the type has no JSON form.
pub fn cell_value(column: &dyn Array, field: &Field, row: usize) -> Result<Value> {
    if column.is_null(row) {
        return Ok(Value::Null);
    }
    if *field.data_type() == DataType::Utf8 {
        let text = column.as_string::<i32>().value(row);
        // A document that is none is shown as the text it is.
        let document = is_json(field).then(|| serde_json::from_str(text).ok()).flatten();
        return Ok(document.unwrap_or_else(|| Value::String(text.to_owned())));
    }
    let schema = Schema::new(vec![field.clone().with_name("v")]);
    let batch = RecordBatch::try_new(schema.into(), vec![column.slice(row, 1)])?;
    let mut line = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut line);
    writer.write(&batch)?;
    drop(writer);
    let mut object: Map<String, Value> = serde_json::from_slice(&line)?;
    object.remove("v").ok_or_else(|| Error::engine("arrow-json wrote no value"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::columns::json_field;
    use arrow::array::{ArrayRef, Int32Array, StringArray, TimestampMicrosecondArray};
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn a_row_is_an_object_with_nulls_moments_and_documents() {
        let fields = vec![
            Field::new("n", DataType::Int32, true),
            json_field("doc"),
            Field::new("t", crate::data::columns::MOMENT, true),
        ];
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int32Array::from(vec![None])),
            Arc::new(StringArray::from(vec![r#"{"a":[1]}"#])),
            Arc::new(TimestampMicrosecondArray::from(vec![978_307_200_000_000])),
        ];
        let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).unwrap();
        let expected = json!({"n": null, "doc": {"a": [1]}, "t": "2001-01-01T00:00:00"});
        assert_eq!(Value::Object(row_value(&batch, 0).unwrap()), expected);
    }
}
