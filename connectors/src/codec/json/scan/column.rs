//! A column that is being filled: unlike Arrow's builders, it can take back its last row.

use std::sync::Arc;

use arrow::array::NullBufferBuilder;
use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, BooleanBufferBuilder, PrimitiveArray, StringArray};
use arrow::buffer::{NullBuffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType, Field, Float64Type, Int32Type, Int64Type, TimeUnit, TimestampMicrosecondType,
    TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use bourn_engine::Result;

use super::skip::{literal, number};
use super::text::{Text, ends_value, string, unescape};
use super::value::{double, integer, moment};
use crate::codec::json::decode::Verbatim;

#[derive(Debug)]
pub struct Column {
    data_type: DataType,
    nullable: bool,
    values: Values,
    nulls: NullBufferBuilder,
}

#[derive(Debug)]
enum Values {
    Int64(Vec<i64>),
    Int32(Vec<i32>),
    Float64(Vec<f64>),
    Boolean(BooleanBufferBuilder),
    /// With how many units a second has.
    Moment(Vec<i64>, i64),
    Text(Texts, Option<Verbatim>),
}

#[derive(Debug, Default)]
struct Texts {
    bytes: Vec<u8>,
    ends: Vec<i32>,
    /// How long a text of the last batch was.
    mean: usize,
}

impl Texts {
    fn end(&mut self) -> Option<()> {
        self.ends.push(i32::try_from(self.bytes.len()).ok()?);
        Some(())
    }

    fn truncate(&mut self, rows: usize) {
        self.ends.truncate(rows);
        let end = self.ends.last().map_or(0, |e| usize::try_from(*e).expect("it came from a length"));
        self.bytes.truncate(end);
    }
}

impl Column {
    /// `None` for a type that is not scanned.
    pub fn new(field: &Field, verbatim: Option<Verbatim>) -> Option<Self> {
        let values = match field.data_type() {
            DataType::Int64 => Values::Int64(Vec::new()),
            DataType::Int32 => Values::Int32(Vec::new()),
            DataType::Float64 => Values::Float64(Vec::new()),
            DataType::Boolean => Values::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Utf8 => Values::Text(Texts::default(), verbatim),
            DataType::Timestamp(unit, zone) if zone.as_deref().is_none_or(|z| z == "UTC" || z == "+00:00") => {
                Values::Moment(Vec::new(), per_second(*unit))
            }
            _ => return None,
        };
        let data_type = field.data_type().clone();
        Some(Self { data_type, nullable: field.is_nullable(), values, nulls: NullBufferBuilder::new(0) })
    }

    /// Texts become about as long as they were in the last batch.
    pub fn reserve(&mut self, rows: usize) {
        match &mut self.values {
            Values::Int64(v) | Values::Moment(v, _) => v.reserve(rows),
            Values::Int32(v) => v.reserve(rows),
            Values::Float64(v) => v.reserve(rows),
            Values::Boolean(v) => v.reserve(rows),
            Values::Text(v, _) => {
                v.ends.reserve(rows);
                v.bytes.reserve(rows.saturating_mul(v.mean));
            }
        }
    }

    #[inline]
    pub fn len(&self) -> usize {
        match &self.values {
            Values::Int64(v) | Values::Moment(v, _) => v.len(),
            Values::Int32(v) => v.len(),
            Values::Float64(v) => v.len(),
            Values::Boolean(v) => v.len(),
            Values::Text(v, _) => v.ends.len(),
        }
    }

    /// Takes back the rows behind `rows`.
    pub fn truncate(&mut self, rows: usize) {
        match &mut self.values {
            Values::Int64(v) | Values::Moment(v, _) => v.truncate(rows),
            Values::Int32(v) => v.truncate(rows),
            Values::Float64(v) => v.truncate(rows),
            Values::Boolean(v) => v.truncate(rows.min(v.len())),
            Values::Text(v, _) => v.truncate(rows),
        }
        self.nulls.truncate(rows);
    }

    /// Appends the value at `at`; returns where it ends.
    #[inline]
    pub fn value(&mut self, line: &[u8], at: usize) -> Option<usize> {
        if *line.get(at)? == b'n' {
            let end = literal(line, at, b"null").filter(|end| ends_value(line, *end))?;
            self.null()?;
            return Some(end);
        }
        let end = match &mut self.values {
            Values::Int64(v) => {
                let (value, end) = integer(line, at)?;
                v.push(value);
                end
            }
            Values::Int32(v) => {
                let (value, end) = integer(line, at)?;
                v.push(i32::try_from(value).ok()?);
                end
            }
            Values::Float64(v) => {
                let (value, end) = double(line, at)?;
                v.push(value);
                end
            }
            Values::Boolean(v) => {
                let yes = line[at] == b't';
                let end = literal(line, at, if yes { b"true" } else { b"false" })?;
                v.append(yes);
                end
            }
            Values::Moment(v, per_second) => {
                // A number is no moment, and the general way says so.
                let Text::Plain(text, end) = string(line, at)? else { return None };
                v.push(moment(&line[text], *per_second)?);
                end
            }
            Values::Text(v, verbatim) => {
                let end = text(line, at, *verbatim, &mut v.bytes)?;
                v.end()?;
                end
            }
        };
        self.nulls.append_non_null();
        Some(end)
    }

    /// Appends a null; `None` when there can't be one.
    pub fn null(&mut self) -> Option<()> {
        if !self.nullable {
            return None;
        }
        match &mut self.values {
            Values::Int64(v) | Values::Moment(v, _) => v.push(0),
            Values::Int32(v) => v.push(0),
            Values::Float64(v) => v.push(0.0),
            Values::Boolean(v) => v.append(false),
            Values::Text(v, _) => v.end()?,
        }
        self.nulls.append_null();
        Some(())
    }

    /// Appends the one value of an array of this type.
    pub fn append(&mut self, array: &dyn Array) {
        if array.is_null(0) {
            self.null().expect("arrow-json lets no null into a column that has none");
            return;
        }
        match &mut self.values {
            Values::Int64(v) => v.push(array.as_primitive::<Int64Type>().value(0)),
            Values::Int32(v) => v.push(array.as_primitive::<Int32Type>().value(0)),
            Values::Float64(v) => v.push(array.as_primitive::<Float64Type>().value(0)),
            Values::Boolean(v) => v.append(array.as_boolean().value(0)),
            Values::Moment(v, per_second) => v.push(match per_second {
                1 => array.as_primitive::<TimestampSecondType>().value(0),
                1_000 => array.as_primitive::<TimestampMillisecondType>().value(0),
                1_000_000 => array.as_primitive::<TimestampMicrosecondType>().value(0),
                _ => array.as_primitive::<TimestampNanosecondType>().value(0),
            }),
            Values::Text(v, _) => {
                v.bytes.extend_from_slice(array.as_string::<i32>().value(0).as_bytes());
                v.end().expect("the lines of one batch are less than 2 GiB");
            }
        }
        self.nulls.append_non_null();
    }

    /// The rows as an array; the column is empty then.
    pub fn finish(&mut self) -> Result<ArrayRef> {
        let nulls = self.nulls.finish();
        Ok(match &mut self.values {
            Values::Int64(v) => primitive::<Int64Type>(v, nulls, &self.data_type),
            Values::Int32(v) => primitive::<Int32Type>(v, nulls, &self.data_type),
            Values::Float64(v) => primitive::<Float64Type>(v, nulls, &self.data_type),
            Values::Moment(v, 1) => primitive::<TimestampSecondType>(v, nulls, &self.data_type),
            Values::Moment(v, 1_000) => primitive::<TimestampMillisecondType>(v, nulls, &self.data_type),
            Values::Moment(v, 1_000_000) => primitive::<TimestampMicrosecondType>(v, nulls, &self.data_type),
            Values::Moment(v, _) => primitive::<TimestampNanosecondType>(v, nulls, &self.data_type),
            Values::Boolean(v) => Arc::new(BooleanArray::new(v.finish(), nulls)),
            Values::Text(v, _) => {
                let Texts { bytes, ends, .. } = std::mem::take(v);
                v.mean = bytes.len().div_ceil(ends.len().max(1)).min(1 << 10);
                let mut offsets = Vec::with_capacity(ends.len() + 1);
                offsets.push(0);
                offsets.extend(ends);
                let offsets = OffsetBuffer::new(ScalarBuffer::from(offsets));
                Arc::new(StringArray::try_new(offsets, fitted(bytes).into(), nulls)?)
            }
        })
    }
}

fn primitive<T: ArrowPrimitiveType>(values: &mut Vec<T::Native>, nulls: Option<NullBuffer>, of: &DataType) -> ArrayRef {
    let values = ScalarBuffer::from(fitted(std::mem::take(values)));
    Arc::new(PrimitiveArray::<T>::new(values, nulls).with_data_type(of.clone()))
}

/// What was reserved and not used must not be held by the batch, unless it is little.
fn fitted<T>(mut values: Vec<T>) -> Vec<T> {
    if values.capacity() > values.len() + values.len() / 2 {
        values.shrink_to_fit();
    }
    values
}

fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Appends a text, or in a mixed column a simple value as its JSON; returns where it ends.
#[inline]
fn text(line: &[u8], at: usize, verbatim: Option<Verbatim>, out: &mut Vec<u8>) -> Option<usize> {
    if verbatim != Some(Verbatim::Document) && line[at] == b'"' {
        return match string(line, at)? {
            Text::Plain(range, end) => {
                out.extend_from_slice(&line[range]);
                Some(end)
            }
            Text::Escaped(before) => {
                out.extend_from_slice(&line[before.clone()]);
                unescape(line, before.end, out)
            }
        };
    }
    verbatim?;
    let end = match line[at] {
        b't' => literal(line, at, b"true")?,
        b'f' => literal(line, at, b"false")?,
        _ => number(line, at)?,
    };
    out.extend_from_slice(&line[at..end]);
    ends_value(line, end).then_some(end)
}
