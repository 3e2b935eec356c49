//! The values of rows in the form in which SQLite keeps them.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Float64Type, Int64Type};
use bourn_engine::data::json::cell_value;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::{Error, Result};
use rusqlite::types::{Null, ToSqlOutput, ValueRef};

/// The form in which SQLite keeps a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stored {
    Integer,
    Real,
    Text,
    Blob,
    /// A structure, as JSON.
    Json,
}

impl Stored {
    pub(super) fn of(data_type: &DataType) -> Option<Self> {
        use DataType as D;
        Some(match data_type {
            kind if kind.is_integer() || *kind == D::Boolean => Self::Integer,
            kind if kind.is_floating() => Self::Real,
            D::Duration(_) | D::Interval(_) => return None,
            kind if kind.is_decimal() || kind.is_temporal() => Self::Text,
            D::Utf8 | D::LargeUtf8 | D::Utf8View | D::Null => Self::Text,
            D::Binary | D::LargeBinary | D::BinaryView | D::FixedSizeBinary(_) => Self::Blob,
            D::Struct(fields) if !fields.is_empty() => Self::Json,
            D::List(_) | D::LargeList(_) | D::FixedSizeList(..) => Self::Json,
            D::Dictionary(_, values) => Self::of(values)?,
            _ => return None,
        })
    }

    /// The type in `create table`: one that keeps the values as they are, and that a source reads as what they were
    /// where SQLite has a word for it.
    pub(super) fn declared(self, data_type: &DataType) -> &'static str {
        match (self, data_type) {
            (_, DataType::Boolean) => "boolean",
            (_, DataType::Date32) => "date",
            (_, DataType::Timestamp(_, None)) => "timestamp",
            (Self::Integer, _) => "integer",
            (Self::Real, _) => "real",
            (Self::Text | Self::Json, _) => "text",
            (Self::Blob, _) => "blob",
        }
    }
}

/// The values of a batch in the form in which they are stored.
pub(super) struct Column {
    values: ArrayRef,
    stored: Stored,
    /// What it was, where a value may not fit.
    given: ArrayRef,
}

impl Column {
    pub(super) fn of(given: &ArrayRef, field: &Field, stored: Stored) -> Result<Self> {
        let target = match stored {
            Stored::Integer => DataType::Int64,
            Stored::Real => DataType::Float64,
            Stored::Text => DataType::Utf8,
            Stored::Blob => DataType::Binary,
            Stored::Json => {
                let texts: Result<Vec<_>> = (0..given.len())
                    .map(|i| Ok(given.is_valid(i).then_some(cell_value(given, field, i)?).map(|v| v.to_string())))
                    .collect();
                let values: ArrayRef = Arc::new(StringArray::from(texts?));
                return Ok(Self { values: values.clone(), stored: Stored::Text, given: values });
            }
        };
        // What does not fit becomes a null where none was.
        Ok(Self { values: cast(given, &target)?, stored, given: given.clone() })
    }

    /// Why the value of a row is not one that is kept as it is.
    pub(super) fn misfit(&self, row: usize) -> Option<Error> {
        if self.values.is_null(row) {
            let lost = self.given.is_valid(row) && self.given.data_type() != &DataType::Null;
            return lost.then(|| {
                Error::validation(format!("a {} beyond what SQLite holds", sql_name(self.given.data_type())))
            });
        }
        let is_nan = self.stored == Stored::Real && self.values.as_primitive::<Float64Type>().value(row).is_nan();
        is_nan.then(|| Error::validation("NaN, which SQLite would keep as null"))
    }

    pub(super) fn value(&self, row: usize) -> ToSqlOutput<'_> {
        if self.values.is_null(row) {
            return ToSqlOutput::from(Null);
        }
        ToSqlOutput::Borrowed(match self.stored {
            Stored::Integer => ValueRef::Integer(self.values.as_primitive::<Int64Type>().value(row)),
            Stored::Real => ValueRef::Real(self.values.as_primitive::<Float64Type>().value(row)),
            Stored::Text | Stored::Json => ValueRef::Text(self.values.as_string::<i32>().value(row).as_bytes()),
            Stored::Blob => ValueRef::Blob(self.values.as_binary::<i32>().value(row)),
        })
    }
}
