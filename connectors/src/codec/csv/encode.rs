//! Columns to records.

use std::borrow::Cow;

use arrow::array::{Array, AsArray, Float32Array, Float64Array, StringArray};
use arrow::datatypes::{DataType, Float32Type, Float64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_json::EncoderOptions;
use bourn_engine::Result;
use lexical_core::FormattedSize;

use super::dialect::Dialect;
use crate::codec::json::encode::cell::Cells;
use crate::file::without_reserved;

/// Encodes batches as CSV: moments are RFC 3339, lists and structures their JSON. An empty text stands in quotes, so that it
/// is no null.
#[derive(Debug)]
pub struct Encoder {
    dialect: Dialect,
    /// What is written for a null.
    null: Vec<u8>,
    names: Vec<String>,
    indices: Vec<usize>,
    options: EncoderOptions,
}

impl Encoder {
    /// An encoder of the columns that are not the engine's own.
    ///
    /// # Errors
    /// When a column has a type without a text form.
    pub fn new(dialect: Dialect, schema: &SchemaRef) -> Result<Self> {
        let (kept, indices) = without_reserved(schema);
        let names = kept.fields().iter().map(|f| f.name().clone()).collect();
        let null = dialect.nulls.first().cloned().unwrap_or_default().into_bytes();
        let options = EncoderOptions::default().with_explicit_nulls(true);
        let encoder = Self { dialect, null, names, indices, options };
        encoder.encode(&RecordBatch::new_empty(schema.clone()), &mut Vec::new())?;
        Ok(encoder)
    }

    /// Appends the header, if the dialect has one.
    pub fn header(&self, out: &mut Vec<u8>) {
        if !self.dialect.header {
            return;
        }
        for (i, name) in self.names.iter().enumerate() {
            if i > 0 {
                out.push(self.dialect.delimiter);
            }
            self.text(name.as_bytes(), out);
        }
        out.push(b'\n');
    }

    /// Appends a record for each row.
    ///
    /// # Errors
    /// When a column has a type without a text form; nothing was appended then.
    pub fn encode(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let schema = rows.schema_ref();
        let column = |index: &usize| -> Result<Column<'_>> {
            let array = rows.column(*index).as_ref();
            Ok(match array.data_type() {
                DataType::Utf8 => Column::Text(array.as_string::<i32>()),
                DataType::Float64 => Column::Double(array.as_primitive::<Float64Type>()),
                DataType::Float32 => Column::Float(array.as_primitive::<Float32Type>()),
                other => {
                    let is_plain = other.is_integer() || *other == DataType::Boolean;
                    let cells = Cells::new(&schema.fields()[*index], array, &self.options)?;
                    if is_plain { Column::Plain(cells) } else { Column::Json(cells) }
                }
            })
        };
        let mut columns: Vec<_> = self.indices.iter().map(column).collect::<Result<_>>()?;
        let nulls: Vec<_> = self.indices.iter().map(|i| rows.column(*i).logical_nulls()).collect();
        let mut json = Vec::new();
        for row in 0..rows.num_rows() {
            for (i, (column, nulls)) in columns.iter_mut().zip(&nulls).enumerate() {
                if i > 0 {
                    out.push(self.dialect.delimiter);
                }
                if nulls.as_ref().is_some_and(|n| n.is_null(row)) {
                    out.extend_from_slice(&self.null);
                    continue;
                }
                match column {
                    Column::Text(v) => self.text(v.value(row).as_bytes(), out),
                    Column::Double(v) => {
                        out.extend_from_slice(lexical_core::write(v.value(row), &mut [0; f64::FORMATTED_SIZE]));
                    }
                    Column::Float(v) => {
                        out.extend_from_slice(lexical_core::write(v.value(row), &mut [0; f32::FORMATTED_SIZE]));
                    }
                    Column::Plain(cells) => cells.write(row, out),
                    Column::Json(cells) => {
                        json.clear();
                        cells.write(row, &mut json);
                        match serde_json::from_slice::<Cow<'_, str>>(&json) {
                            Ok(text) => self.text(text.as_bytes(), out),
                            Err(_) => self.text(&json, out),
                        }
                    }
                }
            }
            out.push(b'\n');
        }
        Ok(())
    }

    /// Appends a text, in quotes where it needs them.
    fn text(&self, value: &[u8], out: &mut Vec<u8>) {
        let Some(quote) = self.dialect.quote else { return out.extend_from_slice(value) };
        let special = |b: &u8| *b == self.dialect.delimiter || *b == quote || *b == b'\n' || *b == b'\r';
        let is_null = || self.dialect.nulls.iter().any(|n| n.as_bytes() == value);
        // A line of spaces would be passed over, and a mark at the beginning of a file is no part of it.
        let is_odd = value.iter().all(u8::is_ascii_whitespace) || value.starts_with(b"\xEF\xBB\xBF");
        if !is_odd && !is_null() && !value.iter().any(special) {
            return out.extend_from_slice(value);
        }
        out.push(quote);
        let mut rest = value;
        while let Some(at) = memchr::memchr(quote, rest) {
            out.extend_from_slice(&rest[..=at]);
            out.push(quote);
            rest = &rest[at + 1..];
        }
        out.extend_from_slice(rest);
        out.push(quote);
    }
}

/// A column of a batch.
enum Column<'a> {
    Text(&'a StringArray),
    Double(&'a Float64Array),
    Float(&'a Float32Array),
    /// Values whose JSON needs no quotes.
    Plain(Cells<'a>),
    Json(Cells<'a>),
}
