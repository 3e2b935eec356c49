//! The fields of one column to its values.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, Float64Array, Int64Array, StringArray};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field};
use bourn_engine::Result;
use bourn_engine::data::columns::is_json;
use serde::de::IgnoredAny;

use super::dialect::Dialect;
use super::record::{Form, Span};
use crate::codec::decimal;

/// The values of a column, and the rows whose text does not fit; those are null.
pub struct Values {
    pub array: ArrayRef,
    pub misfits: Vec<usize>,
}

/// Whether fields can become a column of this type.
pub fn is_readable(data_type: &DataType) -> bool {
    let is_text = matches!(data_type, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    is_text || (!data_type.is_nested() && arrow::compute::can_cast_types(&DataType::Utf8, data_type))
}

/// The values of the fields in `spans`.
///
/// # Errors
/// When the column is of a type that [`is_readable`] refuses.
pub fn read<'a>(
    field: &Field,
    text: &[u8],
    spans: impl ExactSizeIterator<Item = &'a Span>,
    dialect: &Dialect,
) -> Result<Values> {
    match field.data_type() {
        DataType::Int64 => {
            let (values, nulls, misfits) = numbers(text, spans, dialect, |t| lexical_core::parse::<i64>(t).ok());
            Ok(Values { array: Arc::new(Int64Array::new(values.into(), nulls)), misfits })
        }
        DataType::Float64 => {
            let (values, nulls, misfits) = numbers(text, spans, dialect, double);
            Ok(Values { array: Arc::new(Float64Array::new(values.into(), nulls)), misfits })
        }
        DataType::Utf8 if is_json(field) => {
            let array = texts(text, spans, dialect, false)?;
            let is_misfit =
                |row: &usize| array.is_valid(*row) && serde_json::from_str::<IgnoredAny>(array.value(*row)).is_err();
            let misfits = (0..array.len()).filter(is_misfit).collect();
            Ok(Values { array: Arc::new(array), misfits })
        }
        DataType::Utf8 => Ok(Values { array: Arc::new(texts(text, spans, dialect, true)?), misfits: Vec::new() }),
        DataType::LargeUtf8 | DataType::Utf8View => cast(&texts(text, spans, dialect, true)?, field.data_type()),
        other => cast(&texts(text, spans, dialect, false)?, other),
    }
}

/// As arrow casts text, where what can't be cast is a misfit, and what a decimal would round.
fn cast(texts: &StringArray, data_type: &DataType) -> Result<Values> {
    let array = cast_with_options(texts, data_type, &CastOptions { safe: true, ..CastOptions::default() })?;
    let scale = decimal::scale(data_type);
    let is_rounded = |row: usize| scale.is_some_and(|scale| !decimal::keeps_digits(texts.value(row), scale));
    let is_misfit = |row: &usize| texts.is_valid(*row) && (array.is_null(*row) || is_rounded(*row));
    let misfits = (0..texts.len()).filter(is_misfit).collect();
    Ok(Values { array, misfits })
}

fn is_null(bytes: &[u8], dialect: &Dialect) -> bool {
    dialect.nulls.iter().any(|null| null.as_bytes() == bytes)
}

type Numbers<T> = (Vec<T>, Option<NullBuffer>, Vec<usize>);

fn numbers<'a, T: Default>(
    text: &[u8],
    spans: impl ExactSizeIterator<Item = &'a Span>,
    dialect: &Dialect,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> Numbers<T> {
    let mut values = Vec::with_capacity(spans.len());
    let (mut nulls, mut misfits) = (Vec::new(), Vec::new());
    // A null may be written as a number, such as -999.
    let is_doubtful = dialect.nulls.iter().any(|n| parse(n.as_bytes()).is_some());
    for (row, span) in spans.enumerate() {
        let bytes = span.bytes(text);
        let value = parse(bytes).filter(|_| !is_doubtful || !is_null(bytes, dialect));
        values.push(value.unwrap_or_else(|| {
            // Not the way of most values: it is null, has spaces around it, or is no number.
            let trimmed = bytes.trim_ascii();
            if trimmed.is_empty() || is_null(bytes, dialect) {
                nulls.push(row);
                return T::default();
            }
            parse(trimmed).unwrap_or_else(|| {
                misfits.push(row);
                nulls.push(row);
                T::default()
            })
        }));
    }
    let nulls = null_buffer(&nulls, values.len());
    (values, nulls, misfits)
}

fn null_buffer(nulls: &[usize], rows: usize) -> Option<NullBuffer> {
    if nulls.is_empty() {
        return None;
    }
    let mut valid = vec![true; rows];
    for row in nulls {
        valid[*row] = false;
    }
    Some(NullBuffer::from(valid))
}

fn double(bytes: &[u8]) -> Option<f64> {
    let number = lexical_core::parse::<f64>(bytes).ok()?;
    // A number too large for a double is no infinity.
    (number.is_finite() || !bytes.iter().any(u8::is_ascii_digit)).then_some(number)
}

/// In a column of text quotes tell an empty text from a null, and spaces belong to the value; in others neither.
fn texts<'a>(
    text: &[u8],
    spans: impl ExactSizeIterator<Item = &'a Span>,
    dialect: &Dialect,
    verbatim: bool,
) -> Result<StringArray> {
    let mut offsets = Vec::with_capacity(spans.len() + 1);
    let (mut values, mut nulls) = (Vec::new(), Vec::new());
    offsets.push(0_i32);
    let rows = spans.len();
    for (row, span) in spans.enumerate() {
        let bytes = span.bytes(text);
        let is_null = if verbatim {
            span.form == Form::Bare && is_null(bytes, dialect)
        } else {
            bytes.trim_ascii().is_empty() || is_null(bytes, dialect)
        };
        if is_null {
            nulls.push(row);
        } else if span.form == Form::Doubled {
            values.extend_from_slice(&span.value(text, dialect.quote.unwrap_or_default()));
        } else {
            values.extend_from_slice(if verbatim { bytes } else { bytes.trim_ascii() });
        }
        offsets.push(i32::try_from(values.len()).expect("a text is far shorter than 2 GiB"));
    }
    let nulls = null_buffer(&nulls, rows);
    Ok(StringArray::try_new(OffsetBuffer::new(offsets.into()), Buffer::from_vec(values), nulls)?)
}
