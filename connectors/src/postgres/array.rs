//! Columns being built.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, ListArray, StringBuilder, Time64MicrosecondBuilder,
    TimestampMicrosecondBuilder,
};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use bourn_engine::{Error, Result};

use super::decode::Cell;
use super::kind::Kind;

/// A column being built.
pub(super) enum Builder {
    Boolean(BooleanBuilder),
    Int16(Int16Builder),
    Int32(Int32Builder),
    Int64(Int64Builder),
    Float32(Float32Builder),
    Float64(Float64Builder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Moment(TimestampMicrosecondBuilder, Option<Arc<str>>),
    Decimal(Decimal128Builder, u8, i8),
    List(Box<Lists>),
}

/// A column of lists.
pub(super) struct Lists {
    element: Kind,
    values: Builder,
    offsets: Vec<i32>,
    valid: Vec<bool>,
}

impl Builder {
    pub(super) fn new(kind: &Kind) -> Self {
        match kind {
            Kind::Boolean => Self::Boolean(BooleanBuilder::new()),
            Kind::Int16 => Self::Int16(Int16Builder::new()),
            Kind::Int32 => Self::Int32(Int32Builder::new()),
            Kind::Int64 => Self::Int64(Int64Builder::new()),
            Kind::Float32 => Self::Float32(Float32Builder::new()),
            Kind::Float64 => Self::Float64(Float64Builder::new()),
            Kind::Text | Kind::Number | Kind::Json | Kind::Jsonb | Kind::Uuid => Self::Text(StringBuilder::new()),
            Kind::Bytes => Self::Bytes(BinaryBuilder::new()),
            Kind::Date => Self::Date(Date32Builder::new()),
            Kind::Time => Self::Time(Time64MicrosecondBuilder::new()),
            Kind::Timestamp => Self::Moment(TimestampMicrosecondBuilder::new(), None),
            Kind::TimestampTz => Self::Moment(TimestampMicrosecondBuilder::new(), Some("UTC".into())),
            Kind::Decimal(precision, scale) => Self::Decimal(Decimal128Builder::new(), *precision, *scale),
            Kind::List(element) => {
                let values = Self::new(element);
                let element = element.as_ref().clone();
                Self::List(Box::new(Lists { element, values, offsets: vec![0], valid: Vec::new() }))
            }
        }
    }

    /// Appends a cell that [`Cell::of`] made for the same kind.
    pub(super) fn append(&mut self, cell: Cell<'_>) -> Result<()> {
        #[expect(clippy::cast_possible_truncation, reason = "they were widened from it")]
        match (self, cell) {
            (Self::Boolean(b), Cell::Boolean(v)) => b.append_value(v),
            (Self::Boolean(b), Cell::Null) => b.append_null(),
            (Self::Int16(b), Cell::Integer(n)) => b.append_value(n as i16),
            (Self::Int16(b), Cell::Null) => b.append_null(),
            (Self::Int32(b), Cell::Integer(n)) => b.append_value(n as i32),
            (Self::Int32(b), Cell::Null) => b.append_null(),
            (Self::Int64(b), Cell::Integer(n)) => b.append_value(n),
            (Self::Int64(b), Cell::Null) => b.append_null(),
            (Self::Float32(b), Cell::Float(x)) => b.append_value(x as f32),
            (Self::Float32(b), Cell::Null) => b.append_null(),
            (Self::Float64(b), Cell::Float(x)) => b.append_value(x),
            (Self::Float64(b), Cell::Null) => b.append_null(),
            (Self::Text(b), Cell::Text(text)) => b.append_value(text),
            (Self::Text(b), Cell::Null) => b.append_null(),
            (Self::Bytes(b), Cell::Bytes(bytes)) => b.append_value(bytes),
            (Self::Bytes(b), Cell::Null) => b.append_null(),
            (Self::Date(b), Cell::Integer(day)) => b.append_value(day as i32),
            (Self::Date(b), Cell::Null) => b.append_null(),
            (Self::Time(b), Cell::Integer(n)) => b.append_value(n),
            (Self::Time(b), Cell::Null) => b.append_null(),
            (Self::Moment(b, _), Cell::Integer(n)) => b.append_value(n),
            (Self::Moment(b, _), Cell::Null) => b.append_null(),
            (Self::Decimal(b, ..), Cell::Decimal(n)) => b.append_value(n),
            (Self::Decimal(b, ..), Cell::Null) => b.append_null(),
            (Self::List(lists), cell) => return lists.append(cell),
            _ => return Err(Error::engine("a cell came into a column of another kind")),
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Boolean(mut b) => Arc::new(b.finish()),
            Self::Int16(mut b) => Arc::new(b.finish()),
            Self::Int32(mut b) => Arc::new(b.finish()),
            Self::Int64(mut b) => Arc::new(b.finish()),
            Self::Float32(mut b) => Arc::new(b.finish()),
            Self::Float64(mut b) => Arc::new(b.finish()),
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Bytes(mut b) => Arc::new(b.finish()),
            Self::Date(mut b) => Arc::new(b.finish()),
            Self::Time(mut b) => Arc::new(b.finish()),
            Self::Moment(mut b, zone) => Arc::new(b.finish().with_timezone_opt(zone)),
            Self::Decimal(mut b, precision, scale) => Arc::new(b.finish().with_precision_and_scale(precision, scale)?),
            Self::List(lists) => return lists.finish(),
        })
    }
}

impl Lists {
    fn append(&mut self, cell: Cell<'_>) -> Result<()> {
        let Cell::List(cells) = cell else {
            self.offsets.push(self.offsets.last().copied().unwrap_or_default());
            self.valid.push(false);
            return Ok(());
        };
        let too_many = || Error::validation("more elements than a column of lists can hold");
        let end = self.offsets.last().copied().unwrap_or_default();
        let end = i32::try_from(cells.len()).ok().and_then(|n| end.checked_add(n)).ok_or_else(too_many)?;
        for cell in cells {
            self.values.append(cell)?;
        }
        self.offsets.push(end);
        self.valid.push(true);
        Ok(())
    }

    fn finish(self) -> Result<ArrayRef> {
        let offsets = OffsetBuffer::new(ScalarBuffer::from(self.offsets));
        let nulls = NullBuffer::from(self.valid);
        let item = Arc::new(self.element.field("item"));
        Ok(Arc::new(ListArray::try_new(item, offsets, self.values.finish()?, Some(nulls))?))
    }
}
