//! Rows to bytes, in those formats that are written as they come.

use arrow::record_batch::RecordBatch;
use bourn_engine::Result;

use super::{csv, ipc, json};

/// How rows become bytes.
#[derive(Debug)]
pub enum RowEncoder {
    /// JSON lines.
    Json(json::Encoder),
    /// CSV.
    Csv(csv::Encoder),
    /// Arrow IPC as a stream.
    Arrow(Box<ipc::StreamEncoder>),
}

impl RowEncoder {
    /// Appends what stands before the first row.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        match self {
            Self::Json(_) => {}
            Self::Csv(encoder) => encoder.header(out),
            Self::Arrow(encoder) => encoder.begin(out),
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
            Self::Arrow(encoder) => encoder.encode(rows, out),
        }
    }

    /// Appends what stands behind the last row.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Json(_) | Self::Csv(_) => Ok(()),
            Self::Arrow(encoder) => encoder.end(out),
        }
    }
}
