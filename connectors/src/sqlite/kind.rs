//! The types of columns: SQLite declares them loosely and lets each row do as it likes.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float64Builder, Int64Builder,
    StringBuilder, TimestampMicrosecondBuilder,
};
use arrow::compute::kernels::cast_utils::Parser;
use arrow::datatypes::{DataType, Date32Type, Field, TimestampMicrosecondType};
use bourn_engine::data::columns::{MOMENT, json_field};
use bourn_engine::data::secret::shortened;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::{Error, Result};
use rusqlite::types::ValueRef;

use crate::sql::exact;

/// What the values of a column become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Integer,
    Real,
    Text,
    Blob,
    Boolean,
    Date,
    Moment,
    Decimal(u8, i8),
    Json,
}

impl Kind {
    /// By the declared type; the order of the tests is that of SQLite's own rule of affinity.
    pub(super) fn declared(declared: &str) -> Option<Self> {
        let declared = declared.to_ascii_uppercase();
        let (word, arguments) = declared.split_once('(').unwrap_or((&declared, ""));
        Some(match word.trim() {
            "JSON" => Self::Json,
            "BOOLEAN" | "BOOL" => Self::Boolean,
            "DATE" => Self::Date,
            "DATETIME" | "TIMESTAMP" => Self::Moment,
            "DECIMAL" | "NUMERIC" => decimal(arguments).unwrap_or(Self::Real),
            word if word.contains("INT") => Self::Integer,
            word if ["CHAR", "CLOB", "TEXT"].iter().any(|t| word.contains(t)) => Self::Text,
            word if word.contains("BLOB") => Self::Blob,
            word if ["REAL", "FLOA", "DOUB"].iter().any(|t| word.contains(t)) => Self::Real,
            _ => return None,
        })
    }

    pub(super) fn field(self, name: &str) -> Field {
        let data_type = match self {
            Self::Integer => DataType::Int64,
            Self::Real => DataType::Float64,
            Self::Text => DataType::Utf8,
            Self::Blob => DataType::Binary,
            Self::Boolean => DataType::Boolean,
            Self::Date => DataType::Date32,
            Self::Moment => MOMENT,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Json => return json_field(name),
        };
        Field::new(name, data_type, true)
    }

    /// The kind behind a field that [`Kind::field`] made.
    pub(super) fn of(field: &Field) -> Result<Self> {
        Ok(match field.data_type() {
            DataType::Int64 => Self::Integer,
            DataType::Float64 => Self::Real,
            DataType::Utf8 if bourn_engine::data::columns::is_json(field) => Self::Json,
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Blob,
            DataType::Boolean => Self::Boolean,
            DataType::Date32 => Self::Date,
            DataType::Decimal128(precision, scale) => Self::Decimal(*precision, *scale),
            other if *other == MOMENT => Self::Moment,
            other => return Err(Error::engine(format!("SQLite has no {other}"))),
        })
    }
}

/// `10,2)`.
fn decimal(arguments: &str) -> Option<Kind> {
    let (precision, scale) = arguments.trim().strip_suffix(')')?.split_once(',')?;
    let (precision, scale) = (precision.trim().parse::<u8>().ok()?, scale.trim().parse::<i8>().ok()?);
    let fits = (1..=38).contains(&precision) && (0..=38).contains(&scale) && scale.unsigned_abs() <= precision;
    fits.then_some(Kind::Decimal(precision, scale))
}

/// What a column held in the rows that planning looked at.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    integers: usize,
    reals: usize,
    texts: usize,
    blobs: usize,
    misfits: usize,
}

impl Seen {
    pub(super) fn look(&mut self, declared: Option<Kind>, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => return,
            ValueRef::Integer(_) => self.integers += 1,
            ValueRef::Real(_) => self.reals += 1,
            ValueRef::Text(_) => self.texts += 1,
            ValueRef::Blob(_) => self.blobs += 1,
        }
        self.misfits += usize::from(declared.is_some_and(|kind| Cell::of(kind, value).is_err()));
    }

    /// The declared kind if all values fit, else what they are; text when they are of several types.
    pub(super) fn kind(self, declared: Option<Kind>) -> Kind {
        match declared {
            Some(declared) if self.misfits == 0 => declared,
            _ => match (self.integers, self.reals, self.texts, self.blobs) {
                (1.., 0, 0, 0) => Kind::Integer,
                (_, 1.., 0, 0) => Kind::Real,
                (0, 0, 0, 1..) => Kind::Blob,
                _ => Kind::Text,
            },
        }
    }
}

/// A value on its way into a column.
pub(super) enum Cell<'a> {
    Null,
    Integer(i64),
    Real(f64),
    Text(&'a str),
    Rendered(String),
    Blob(&'a [u8]),
    Boolean(bool),
    Date(i32),
    Decimal(i128),
}

impl<'a> Cell<'a> {
    /// The value as `kind`.
    ///
    /// # Errors
    /// When it is none of it: nothing is rounded or cut.
    pub(super) fn of(kind: Kind, value: ValueRef<'a>) -> Result<Self> {
        let misfit =
            || Error::validation(format!("{} does not fit {}", shown(value), sql_name(kind.field("").data_type())));
        let text =
            |bytes: &'a [u8]| std::str::from_utf8(bytes).map_err(|_| Error::validation("text that is not UTF-8"));
        #[expect(clippy::cast_possible_truncation, reason = "compared with what it came from")]
        let cell = match (kind, value) {
            (_, ValueRef::Null) => Self::Null,
            (Kind::Integer, ValueRef::Integer(n)) => Self::Integer(n),
            (Kind::Integer, ValueRef::Real(x)) if x as i64 as f64 == x && x.abs() < 9e15 => Self::Integer(x as i64),
            (Kind::Real, ValueRef::Real(x)) => Self::Real(x),
            (Kind::Real, ValueRef::Integer(n)) if n.unsigned_abs() <= 1 << 53 => Self::Real(n as f64),
            (Kind::Text | Kind::Json, ValueRef::Text(bytes)) => Self::Text(text(bytes)?),
            (Kind::Text | Kind::Json, ValueRef::Integer(n)) => Self::Rendered(n.to_string()),
            (Kind::Text | Kind::Json, ValueRef::Real(x)) => Self::Rendered(x.to_string()),
            (Kind::Blob, ValueRef::Blob(bytes) | ValueRef::Text(bytes)) => Self::Blob(bytes),
            (Kind::Boolean, ValueRef::Integer(n @ (0 | 1))) => Self::Boolean(n == 1),
            (Kind::Date, ValueRef::Text(bytes)) => {
                Self::Date(Date32Type::parse(text(bytes)?).filter(|_| bytes.len() == 10).ok_or_else(misfit)?)
            }
            (Kind::Moment, ValueRef::Text(bytes)) => {
                Self::Integer(TimestampMicrosecondType::parse(text(bytes)?).ok_or_else(misfit)?)
            }
            (Kind::Decimal(precision, scale), ValueRef::Text(bytes)) => {
                Self::Decimal(exact(text(bytes)?, precision, scale).ok_or_else(misfit)?)
            }
            (Kind::Decimal(precision, scale), ValueRef::Integer(n)) => {
                Self::Decimal(exact(&n.to_string(), precision, scale).ok_or_else(misfit)?)
            }
            (Kind::Decimal(precision, scale), ValueRef::Real(x)) => {
                Self::Decimal(exact(&x.to_string(), precision, scale).ok_or_else(misfit)?)
            }
            _ => return Err(misfit()),
        };
        Ok(cell)
    }
}

/// A value as a message shows it.
pub(super) fn shown(value: ValueRef<'_>) -> String {
    const LONGEST: usize = 60;
    match value {
        ValueRef::Null => "null".into(),
        ValueRef::Integer(n) => n.to_string(),
        ValueRef::Real(x) => format!("{x:?}"),
        ValueRef::Text(bytes) => {
            format!("{:?}", shortened(&String::from_utf8_lossy(bytes), LONGEST))
        }
        ValueRef::Blob(bytes) => format!("a blob of {} bytes", bytes.len()),
    }
}

/// A column being built.
pub(super) enum Builder {
    Integer(Int64Builder),
    Real(Float64Builder),
    Text(StringBuilder),
    Blob(BinaryBuilder),
    Boolean(BooleanBuilder),
    Date(Date32Builder),
    Moment(TimestampMicrosecondBuilder),
    Decimal(Decimal128Builder, u8, i8),
}

impl Builder {
    pub(super) fn new(kind: Kind) -> Self {
        match kind {
            Kind::Integer => Self::Integer(Int64Builder::new()),
            Kind::Real => Self::Real(Float64Builder::new()),
            Kind::Text | Kind::Json => Self::Text(StringBuilder::new()),
            Kind::Blob => Self::Blob(BinaryBuilder::new()),
            Kind::Boolean => Self::Boolean(BooleanBuilder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Moment => Self::Moment(TimestampMicrosecondBuilder::new()),
            Kind::Decimal(precision, scale) => Self::Decimal(Decimal128Builder::new(), precision, scale),
        }
    }

    pub(super) fn append(&mut self, cell: Cell<'_>) -> Result<()> {
        match (self, cell) {
            (Self::Integer(b), Cell::Integer(n)) => b.append_value(n),
            (Self::Integer(b), Cell::Null) => b.append_null(),
            (Self::Moment(b), Cell::Integer(n)) => b.append_value(n),
            (Self::Moment(b), Cell::Null) => b.append_null(),
            (Self::Real(b), Cell::Real(x)) => b.append_value(x),
            (Self::Real(b), Cell::Null) => b.append_null(),
            (Self::Text(b), Cell::Text(text)) => b.append_value(text),
            (Self::Text(b), Cell::Rendered(text)) => b.append_value(text),
            (Self::Text(b), Cell::Null) => b.append_null(),
            (Self::Blob(b), Cell::Blob(bytes)) => b.append_value(bytes),
            (Self::Blob(b), Cell::Null) => b.append_null(),
            (Self::Boolean(b), Cell::Boolean(v)) => b.append_value(v),
            (Self::Boolean(b), Cell::Null) => b.append_null(),
            (Self::Date(b), Cell::Date(day)) => b.append_value(day),
            (Self::Date(b), Cell::Null) => b.append_null(),
            (Self::Decimal(b, ..), Cell::Decimal(n)) => b.append_value(n),
            (Self::Decimal(b, ..), Cell::Null) => b.append_null(),
            _ => return Err(Error::engine("a cell came into a column of another kind")),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Integer(mut b) => Arc::new(b.finish()),
            Self::Real(mut b) => Arc::new(b.finish()),
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Blob(mut b) => Arc::new(b.finish()),
            Self::Boolean(mut b) => Arc::new(b.finish()),
            Self::Date(mut b) => Arc::new(b.finish()),
            Self::Moment(mut b) => Arc::new(b.finish()),
            Self::Decimal(mut b, precision, scale) => Arc::new(b.finish().with_precision_and_scale(precision, scale)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declared_types_are_read_as_sqlite_reads_them() {
        let kind = |d: &str| Kind::declared(d);
        assert_eq!(kind("bigint"), Some(Kind::Integer));
        assert_eq!(kind("VARCHAR(10)"), Some(Kind::Text));
        assert_eq!(kind("double precision"), Some(Kind::Real));
        assert_eq!(kind("decimal(10, 2)"), Some(Kind::Decimal(10, 2)));
        assert_eq!(kind("decimal(99,2)"), Some(Kind::Real));
        assert_eq!(kind("timestamp"), Some(Kind::Moment));
        assert_eq!(kind("whatever"), None);
    }
}
