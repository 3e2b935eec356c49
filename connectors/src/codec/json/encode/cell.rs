//! The values of one column, each written where its turn comes.

use arrow::array::{Array, AsArray, BooleanArray, StringArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{
    DataType, FieldRef, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType, UInt64Type,
};
use arrow_json::EncoderOptions;
use arrow_json::writer::{NullableEncoder, make_encoder};
use bourn_engine::Result;
use bourn_engine::data::columns::is_json;
use lexical_core::FormattedSize;

use super::moment::Moments;
use super::text;

/// The values of a column of a batch.
pub struct Cells<'a> {
    nulls: Option<NullBuffer>,
    values: Values<'a>,
}

enum Values<'a> {
    Int64(&'a [i64]),
    Int32(&'a [i32]),
    UInt64(&'a [u64]),
    Float64(&'a [f64]),
    Boolean(&'a BooleanArray),
    /// Texts none of which needs an escape.
    Plain(&'a StringArray),
    Text(&'a StringArray),
    /// Texts that are JSON by themselves.
    Document(&'a StringArray),
    Moment(Moments<'a>),
    /// Whatever else, as arrow-json writes it.
    General(NullableEncoder<'a>),
}

impl<'a> Cells<'a> {
    /// The values of `array`.
    pub fn new(field: &'a FieldRef, array: &'a dyn Array, options: &'a EncoderOptions) -> Result<Self> {
        let values = match array.data_type() {
            DataType::Int64 => Values::Int64(array.as_primitive::<Int64Type>().values()),
            DataType::Int32 => Values::Int32(array.as_primitive::<Int32Type>().values()),
            DataType::UInt64 => Values::UInt64(array.as_primitive::<UInt64Type>().values()),
            DataType::Float64 => Values::Float64(array.as_primitive::<Float64Type>().values()),
            DataType::Boolean => Values::Boolean(array.as_boolean()),
            DataType::Utf8 => {
                let texts = array.as_string::<i32>();
                if is_json(field) {
                    Values::Document(texts)
                } else if text::needs_escapes(texts) {
                    Values::Text(texts)
                } else {
                    Values::Plain(texts)
                }
            }
            DataType::Timestamp(unit, zone) => {
                let (values, per_second): (&[i64], _) = match unit {
                    TimeUnit::Second => (array.as_primitive::<TimestampSecondType>().values(), 1),
                    TimeUnit::Millisecond => (array.as_primitive::<TimestampMillisecondType>().values(), 1_000),
                    TimeUnit::Microsecond => (array.as_primitive::<TimestampMicrosecondType>().values(), 1_000_000),
                    TimeUnit::Nanosecond => (array.as_primitive::<TimestampNanosecondType>().values(), 1_000_000_000),
                };
                match Moments::new(values, per_second, zone.as_deref()) {
                    Some(moments) => Values::Moment(moments),
                    None => Values::General(make_encoder(field, array, options)?),
                }
            }
            _ => Values::General(make_encoder(field, array, options)?),
        };
        // A dictionary or a column of nulls alone has its nulls elsewhere.
        Ok(Self { nulls: array.logical_nulls(), values })
    }

    /// Appends the value of a row.
    #[inline]
    pub fn write(&mut self, row: usize, out: &mut Vec<u8>) {
        if self.nulls.as_ref().is_some_and(|n| n.is_null(row)) {
            out.extend_from_slice(b"null");
            return;
        }
        match &mut self.values {
            Values::Int64(v) => out.extend_from_slice(lexical_core::write(v[row], &mut [0; i64::FORMATTED_SIZE])),
            Values::Int32(v) => out.extend_from_slice(lexical_core::write(v[row], &mut [0; i32::FORMATTED_SIZE])),
            Values::UInt64(v) => out.extend_from_slice(lexical_core::write(v[row], &mut [0; u64::FORMATTED_SIZE])),
            // JSON has no other numbers.
            Values::Float64(v) if !v[row].is_finite() => out.extend_from_slice(b"null"),
            Values::Float64(v) => out.extend_from_slice(lexical_core::write(v[row], &mut [0; f64::FORMATTED_SIZE])),
            Values::Boolean(v) => out.extend_from_slice(if v.value(row) { b"true" } else { b"false" }),
            Values::Plain(v) => {
                out.push(b'"');
                out.extend_from_slice(v.value(row).as_bytes());
                out.push(b'"');
            }
            Values::Text(v) => text::write(v.value(row), out),
            Values::Document(v) => text::write_document(v.value(row), out),
            Values::Moment(v) => v.write(row, out),
            Values::General(v) => v.encode(row, out),
        }
    }
}
