//! A stream of Arrow IPC in a file: its schema, then one batch behind the other.

use std::sync::Arc;

use arrow::buffer::Buffer;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamDecoder;
use bourn_engine::Result;
use bourn_engine::env::ReadFile;

use super::{broken, guard, handed_out, message, schema_of};

/// The mark behind the last message.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];

/// An open stream, its schema read.
pub struct Stream {
    input: Arc<dyn ReadFile>,
    length: u64,
    offset: u64,
    ended: bool,
    decoder: StreamDecoder,
    /// What the decoder has not taken yet.
    pending: Buffer,
    schema: SchemaRef,
    columns: Vec<usize>,
    skip: u64,
}

impl Stream {
    /// Reads the schema.
    ///
    /// # Errors
    /// When it is none.
    pub fn open(input: Arc<dyn ReadFile>) -> Result<Self> {
        let length = input.len()?;
        let mut stream = Self {
            input,
            length,
            offset: 0,
            ended: false,
            decoder: StreamDecoder::new(),
            pending: Buffer::from(&[]),
            schema: SchemaRef::new(arrow::datatypes::Schema::empty()),
            columns: Vec::new(),
            skip: 0,
        };
        let (first, metadata) = stream.message()?.ok_or_else(|| broken("it is empty, and a stream has a schema"))?;
        let found = message::metadata(&first, metadata)?;
        let schema = found.header_as_schema().ok_or_else(|| broken("it does not begin with a schema"))?;
        stream.schema = handed_out(&*guard(|| schema_of(schema))?);
        stream.pending = first;
        Ok(stream)
    }

    /// The columns of the stream.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// The same with the columns of these indices alone, from row `first` on.
    #[must_use]
    pub fn with_columns(self, columns: &[usize], first: u64) -> Self {
        Self { columns: columns.to_vec(), skip: first, ..self }
    }

    /// The next message, whole, and the length of what stands before its body; `None` at the end.
    fn message(&mut self) -> Result<Option<(Buffer, usize)>> {
        if self.ended || self.offset == self.length {
            self.ended = true;
            return Ok(None);
        }
        let cut = |offset| broken(format!("it ends at byte {offset}, in the middle of a message"));
        let left = self.length - self.offset;
        let head = message::bytes_at(&*self.input, self.length, self.offset, left.min(8))?;
        let word = |at: usize| head.get(at..at + 4).and_then(|w| w.try_into().ok()).map(u32::from_le_bytes);
        let (before, metadata) = match word(0) {
            Some(u32::MAX) => (8, word(4)),
            first => (4, first),
        };
        let metadata = metadata.ok_or_else(|| cut(self.length))?;
        if metadata == 0 {
            self.ended = true;
            return Ok(None);
        }
        let length = before + u64::from(metadata);
        if length > left {
            return Err(cut(self.length));
        }
        let head = message::bytes_at(&*self.input, self.length, self.offset, length)?;
        let whole = usize::try_from(length).unwrap_or(usize::MAX);
        let body = u64::try_from(message::metadata(&head, whole)?.bodyLength())
            .map_err(|_| broken("a message of fewer than no bytes"))?;
        if body > left - length {
            return Err(cut(self.length));
        }
        let bytes = message::bytes_at(&*self.input, self.length, self.offset, length + body)?;
        message::check(message::metadata(&bytes, whole)?, &bytes[whole..])?;
        self.offset += length + body;
        Ok(Some((bytes, whole)))
    }

    /// The next batch, and how many of its rows are to be passed over; `None` at the end.
    ///
    /// # Errors
    /// When the stream is broken here.
    pub fn read(&mut self) -> Result<Option<(RecordBatch, u64)>> {
        loop {
            while !self.pending.is_empty() {
                let Some(batch) = guard(|| self.decoder.decode(&mut self.pending))? else { continue };
                let rows = batch.num_rows() as u64;
                if rows > self.skip {
                    let batch = guard(|| batch.project(&self.columns))?;
                    return Ok(Some((batch, std::mem::take(&mut self.skip))));
                }
                self.skip -= rows;
            }
            let ended = self.ended;
            match self.message()? {
                Some((bytes, _)) => self.pending = bytes,
                // The decoder gives a batch without a body only when more comes.
                None if !ended => self.pending = Buffer::from(&END),
                None => return Ok(None),
            }
        }
    }

    /// How many bytes of the file lie before what comes next.
    pub fn bytes_read(&self) -> u64 {
        self.offset
    }
}
