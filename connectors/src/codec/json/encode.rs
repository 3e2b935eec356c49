//! Columns to lines.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_json::writer::{LineDelimited, WriterBuilder};
use bourn_engine::Result;

use crate::file::without_reserved;

/// Encodes batches as JSON lines.
#[derive(Debug, Default)]
pub struct Encoder {
    indices: Vec<usize>,
}

impl Encoder {
    /// An encoder of the columns that are not the engine's own.
    ///
    /// # Errors
    /// When a column has a type without a JSON form.
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let (_, indices) = without_reserved(schema);
        let mut encoder = Self { indices };
        encoder.encode(&RecordBatch::new_empty(schema.clone()), &mut Vec::new())?;
        Ok(encoder)
    }

    /// Appends a line for each row.
    ///
    /// # Errors
    /// When a column has a type without a JSON form.
    pub fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
        writer.write(&rows.project(&self.indices)?)?;
        Ok(())
    }
}
