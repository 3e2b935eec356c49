//! Columns to lines: a row at a time into one buffer, without an allocation for a row or a value.

pub(crate) mod cell;
mod moment;
mod text;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_json::EncoderOptions;
use bourn_engine::Result;

use crate::file::without_reserved;
use cell::Cells;

/// Encodes batches as JSON lines: nulls are shown, moments are RFC 3339, documents are themselves.
#[derive(Debug)]
pub struct Encoder {
    columns: Vec<Named>,
    options: EncoderOptions,
}

/// A column that is written.
#[derive(Debug)]
struct Named {
    index: usize,
    /// What stands before its value: a brace or comma, its name, a colon.
    before: Vec<u8>,
}

impl Encoder {
    /// An encoder of the columns that are not the engine's own.
    ///
    /// # Errors
    /// When a column has a type without a JSON form.
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let (_, indices) = without_reserved(schema);
        let name = |(i, index): (usize, usize)| {
            let mut before = vec![if i == 0 { b'{' } else { b',' }];
            text::write(schema.field(index).name(), &mut before);
            before.push(b':');
            Named { index, before }
        };
        let columns = indices.into_iter().enumerate().map(name).collect();
        let encoder = Self { columns, options: EncoderOptions::default().with_explicit_nulls(true) };
        encoder.encode(&RecordBatch::new_empty(schema.clone()), &mut Vec::new())?;
        Ok(encoder)
    }

    /// Appends a line for each row, each with its end.
    ///
    /// # Errors
    /// When a column has a type without a JSON form; nothing was appended then.
    pub fn encode(&self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let schema = rows.schema_ref();
        let cells = self
            .columns
            .iter()
            .map(|c| Cells::new(&schema.fields()[c.index], rows.column(c.index).as_ref(), &self.options));
        let mut cells: Vec<_> = cells.collect::<Result<_>>()?;
        for row in 0..rows.num_rows() {
            for (named, cells) in self.columns.iter().zip(&mut cells) {
                out.extend_from_slice(&named.before);
                cells.write(row, out);
            }
            out.extend_from_slice(if cells.is_empty() { b"{}\n" } else { b"}\n" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
