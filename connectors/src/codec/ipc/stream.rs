//! A stream of Arrow IPC in a file or a pipe: its schema, then one batch behind the other.

use arrow::buffer::{Buffer, MutableBuffer};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow_ipc::reader::StreamDecoder;
use bourn_engine::Result;

use super::{broken, guard, handed_out, message, schema_of};
use crate::codec::compression::Text;

/// The mark behind the last message.
const END: [u8; 8] = [0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0];
/// How much room is made at once for a message, in bytes: what it claims may never come.
const STEP: usize = 1 << 20;

/// An open stream, its schema read.
pub struct Stream {
    input: Text,
    /// How many bytes of the input were given, when nothing is compressed the place in it.
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
    pub fn open(input: Text) -> Result<Self> {
        let mut stream = Self {
            input,
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
        if self.ended {
            return Ok(None);
        }
        let mut bytes = MutableBuffer::new(0);
        if self.fill(&mut bytes, 8)? == 0 {
            self.ended = true;
            return Ok(None);
        }
        let word = |at: usize| bytes.get(at..at + 4).and_then(|w| w.try_into().ok()).map(u32::from_le_bytes);
        let (before, metadata) = match word(0) {
            Some(u32::MAX) => (8, word(4)),
            first => (4, first),
        };
        let metadata = match metadata {
            // The mark behind the last message of old versions is a length of nothing, and nothing follows.
            Some(0) => {
                self.ended = true;
                return Ok(None);
            }
            _ if bytes.len() < 8 => return Err(self.cut()),
            Some(metadata) => metadata as usize,
            None => return Err(self.cut()),
        };
        if bytes.starts_with(super::file::MAGIC) {
            return Err(broken("it is a file with a footer, and a stream has none"));
        }
        let length = before + metadata;
        self.fill_whole(&mut bytes, length)?;
        let body = usize::try_from(message::metadata(&bytes, length)?.bodyLength())
            .map_err(|_| broken("a message of fewer than no bytes"))?;
        self.fill_whole(&mut bytes, length.saturating_add(body))?;
        message::check(message::metadata(&bytes, length)?, &bytes[length..])?;
        Ok(Some((bytes.into(), length)))
    }

    /// Reads on until there are `length` bytes; an error if there are fewer.
    fn fill_whole(&mut self, bytes: &mut MutableBuffer, length: usize) -> Result<()> {
        message::check_length(length as u64)?;
        if self.fill(bytes, length)? < length { Err(self.cut()) } else { Ok(()) }
    }

    /// Reads on until there are `length` bytes, or fewer at the end of the input; says how many there are.
    fn fill(&mut self, bytes: &mut MutableBuffer, length: usize) -> Result<usize> {
        let mut filled = bytes.len();
        while filled < length {
            if filled == bytes.len() {
                bytes.resize(length.min(filled.max(STEP) * 2), 0);
            }
            let count = self.input.read(&mut bytes.as_slice_mut()[filled..])?;
            if count == 0 {
                break;
            }
            filled += count;
            self.offset += count as u64;
        }
        bytes.truncate(filled);
        Ok(filled)
    }

    fn cut(&self) -> bourn_engine::Error {
        broken(format!("it ends at byte {}, in the middle of a message", self.offset))
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
        self.input.bytes_read()
    }
}
