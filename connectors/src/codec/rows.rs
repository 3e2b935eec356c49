//! Rows to bytes, in those formats that are written as they come.

use arrow::record_batch::RecordBatch;
use bourn_engine::Result;

use super::{csv, json};

/// How rows become bytes.
#[derive(Debug)]
pub enum RowEncoder {
    /// JSON lines.
    Json(json::Encoder),
    /// CSV.
    Csv(csv::Encoder),
}

impl RowEncoder {
    /// Appends what stands before the first row.
    pub fn begin(&self, out: &mut Vec<u8>) {
        if let Self::Csv(encoder) = self {
            encoder.header(out);
        }
    }

    /// Appends the rows.
    ///
    /// # Errors
    /// When a column has a type without a form in the format; nothing was appended then.
    pub fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Json(encoder) => encoder.encode(rows, out),
            Self::Csv(encoder) => encoder.encode(rows, out),
        }
    }
}
