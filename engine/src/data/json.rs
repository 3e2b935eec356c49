//! Rows as JSON values, for dead letters, templates and messages: not for a hot path.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use serde::de::IgnoredAny;
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

/// Row `row` as the text of an object, as in [`row_value`], with every digit of a number: the text of a decimal holds more
/// than a JSON value in memory does.
///
/// # Errors
/// When a column has a type without a JSON form.
pub fn row_text(batch: &RecordBatch, row: usize) -> Result<String> {
    let mut text = String::from("{");
    for (column, field) in batch.columns().iter().zip(batch.schema_ref().fields()) {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&serde_json::to_string(field.name())?);
        text.push(':');
        text.push_str(&cell_text(column, field, row)?);
    }
    text.push('}');
    Ok(text)
}

fn cell_text(column: &dyn Array, field: &Field, row: usize) -> Result<String> {
    if column.is_valid(row) && is_json(field) && *field.data_type() == DataType::Utf8 {
        let document = column.as_string::<i32>().value(row);
        // In one line it can stand as it is.
        if !document.contains(['\n', '\r']) && serde_json::from_str::<IgnoredAny>(document).is_ok() {
            return Ok(document.to_owned());
        }
    }
    if column.is_null(row) || *field.data_type() == DataType::Utf8 {
        return Ok(cell_value(column, field, row)?.to_string());
    }
    let line = cell_line(column, field, row)?;
    let cell = line.trim_end().strip_prefix("{\"v\":").and_then(|rest| rest.strip_suffix('}'));
    cell.map(str::to_owned).ok_or_else(|| Error::engine("arrow-json wrote no value"))
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
    let mut object: Map<String, Value> = serde_json::from_str(&cell_line(column, field, row)?)?;
    object.remove("v").ok_or_else(|| Error::engine("arrow-json wrote no value"))
}

/// One cell as an object with the member `v`.
fn cell_line(column: &dyn Array, field: &Field, row: usize) -> Result<String> {
    let schema = Schema::new(vec![field.clone().with_name("v")]);
    let batch = RecordBatch::try_new(schema.into(), vec![column.slice(row, 1)])?;
    let mut line = Vec::new();
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut line);
    writer.write(&batch)?;
    drop(writer);
    String::from_utf8(line).map_err(|_| Error::engine("arrow-json wrote what is no text"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::columns::json_field;
    use arrow::array::{ArrayRef, Decimal128Array, Int32Array, StringArray, TimestampMicrosecondArray};
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
        assert_eq!(row_text(&batch, 0).unwrap(), r#"{"n":null,"doc":{"a":[1]},"t":"2001-01-01T00:00:00"}"#);
    }

    #[test]
    fn the_text_of_a_row_has_every_digit() {
        let decimals = Decimal128Array::from(vec![12_345_678_901_234_567_890_123_456_789]);
        let decimals = decimals.with_precision_and_scale(38, 2).unwrap();
        let batch = RecordBatch::try_from_iter([("a \"d\"", Arc::new(decimals) as ArrayRef)]).unwrap();
        assert_eq!(row_text(&batch, 0).unwrap(), r#"{"a \"d\"":123456789012345678901234567.89}"#);
    }
}
