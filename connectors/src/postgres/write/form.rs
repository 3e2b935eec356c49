//! The form in which the values of a column are handed to PostgreSQL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type, TimeUnit};
use bourn_engine::Result;
use bourn_engine::data::columns::is_json;
use bourn_engine::data::json::cell_value;
use serde_json::Value;
use tokio_postgres::types::{Kind, ToSql, Type};

/// How a column is declared and handed over.
#[derive(Clone, Debug)]
pub(super) struct Form {
    /// Its type in `create table`.
    pub(super) declared: String,
    /// As what its values are handed over.
    pub(super) passed: Passed,
}

/// What values are handed over as; PostgreSQL converts them from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Integer,
    Float,
    Boolean,
    Text,
    Bytes,
    /// A list or structure, as the text of an array or as JSON.
    Nested,
}

impl Passed {
    pub(super) fn sql(self) -> &'static str {
        match self {
            Self::Integer => "int8",
            Self::Float => "float8",
            Self::Boolean => "bool",
            Self::Text | Self::Nested => "text",
            Self::Bytes => "bytea",
        }
    }
}

impl Form {
    /// `None` for a type that a table has no place for.
    pub(super) fn of(field: &Field) -> Option<Self> {
        let (declared, passed) = of(field)?;
        Some(Self { declared, passed })
    }

    /// The values of a column for one of this type in the table.
    pub(super) fn convert(&self, given: &ArrayRef, field: &Field, target: &Type) -> Result<Column> {
        let to = match self.passed {
            Passed::Integer => DataType::Int64,
            Passed::Float => DataType::Float64,
            Passed::Boolean => DataType::Boolean,
            Passed::Text => DataType::Utf8,
            Passed::Bytes => DataType::Binary,
            Passed::Nested => {
                let text = if matches!(target.kind(), Kind::Array(_)) { literal } else { Value::to_string };
                let cell = |i| Ok(given.is_valid(i).then_some(cell_value(given, field, i)?).map(|v| text(&v)));
                let texts: Result<Vec<_>> = (0..given.len()).map(cell).collect();
                return Ok(Column { values: Arc::new(StringArray::from(texts?)), passed: self.passed });
            }
        };
        Ok(Column { values: cast(given, &to)?, passed: self.passed })
    }
}

fn of(field: &Field) -> Option<(String, Passed)> {
    use DataType as D;
    let (declared, passed) = match field.data_type() {
        D::Boolean => ("boolean", Passed::Boolean),
        D::Int8 | D::UInt8 | D::Int16 => ("smallint", Passed::Integer),
        D::UInt16 | D::Int32 => ("integer", Passed::Integer),
        D::UInt32 | D::Int64 => ("bigint", Passed::Integer),
        D::UInt64 => ("numeric(20,0)", Passed::Text),
        D::Float16 | D::Float32 => ("real", Passed::Float),
        D::Float64 => ("double precision", Passed::Float),
        D::Decimal32(p, s) | D::Decimal64(p, s) | D::Decimal128(p, s) | D::Decimal256(p, s) => {
            let declared = if *s >= 0 { format!("numeric({p},{s})") } else { "numeric".to_owned() };
            return Some((declared, Passed::Text));
        }
        D::Utf8 if is_json(field) => ("jsonb", Passed::Text),
        D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Null => ("text", Passed::Text),
        D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => ("bytea", Passed::Bytes),
        D::Date32 => ("date", Passed::Text),
        D::Date64 | D::Timestamp(_, None) => ("timestamp", Passed::Text),
        D::Timestamp(_, Some(_)) => ("timestamptz", Passed::Text),
        D::Time32(_) | D::Time64(TimeUnit::Microsecond | TimeUnit::Nanosecond) => ("time", Passed::Text),
        D::Dictionary(_, values) => return of(&Field::new(field.name(), values.as_ref().clone(), true)),
        D::List(item) | D::LargeList(item) | D::FixedSizeList(item, _) => {
            let element = of(item).filter(|(_, passed)| !matches!(passed, Passed::Nested | Passed::Bytes));
            return Some((element.map_or_else(|| "jsonb".to_owned(), |(e, _)| format!("{e}[]")), Passed::Nested));
        }
        D::Struct(fields) if !fields.is_empty() => ("jsonb", Passed::Nested),
        _ => return None,
    };
    Some((declared.to_owned(), passed))
}

/// The text of an array, as PostgreSQL reads it.
fn literal(value: &Value) -> String {
    match value {
        Value::Null => "NULL".into(),
        Value::Array(elements) => format!("{{{}}}", elements.iter().map(literal).collect::<Vec<_>>().join(",")),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::String(text) => escaped(text),
        Value::Object(_) => escaped(&value.to_string()),
    }
}

fn escaped(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// A converted column.
pub(super) struct Column {
    values: ArrayRef,
    passed: Passed,
}

/// A part of a column as a parameter.
pub(super) enum Values<'a> {
    Integer(Vec<Option<i64>>),
    Float(Vec<Option<f64>>),
    Boolean(Vec<Option<bool>>),
    Text(Vec<Option<&'a str>>),
    Bytes(Vec<Option<&'a [u8]>>),
}

impl Column {
    pub(super) fn values(&self, start: usize, count: usize) -> Values<'_> {
        let rows = start..start + count;
        let v = &self.values;
        match self.passed {
            Passed::Integer => {
                let v = v.as_primitive::<Int64Type>();
                Values::Integer(rows.map(|i| v.is_valid(i).then(|| v.value(i))).collect())
            }
            Passed::Float => {
                let v = v.as_primitive::<Float64Type>();
                Values::Float(rows.map(|i| v.is_valid(i).then(|| v.value(i))).collect())
            }
            Passed::Boolean => {
                let v = v.as_boolean();
                Values::Boolean(rows.map(|i| v.is_valid(i).then(|| v.value(i))).collect())
            }
            Passed::Text | Passed::Nested => {
                let v = v.as_string::<i32>();
                Values::Text(rows.map(|i| v.is_valid(i).then(|| v.value(i))).collect())
            }
            Passed::Bytes => {
                let v = v.as_binary::<i32>();
                Values::Bytes(rows.map(|i| v.is_valid(i).then(|| v.value(i))).collect())
            }
        }
    }
}

impl Values<'_> {
    pub(super) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Integer(v) => v,
            Self::Float(v) => v,
            Self::Boolean(v) => v,
            Self::Text(v) => v,
            Self::Bytes(v) => v,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_array_is_written_so_that_nothing_in_it_ends_it() {
        assert_eq!(
            literal(&json!([1, null, [true], "a\"b\\,}", {"k": "v"}])),
            r#"{1,NULL,{true},"a\"b\\,}","{\"k\":\"v\"}"}"#
        );
    }
}
