//! Batches to Arrow IPC: a file with its footer, or a stream that is written as it comes.

use std::fmt;
use std::io::{BufWriter, Write};
use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
use bourn_engine::Result;
use bourn_engine::data::records::ROWS_MAX;

use crate::codec::table::Counted;
use crate::codec::table::flat::{flattened, without_dictionaries};

/// How much is collected before it is written, in bytes.
const BUFFER: usize = 1 << 20;

/// Writes a file from its beginning, in batches of 8,192 rows.
pub struct Writer {
    inner: FileWriter<BufWriter<Counted>>,
    schema: SchemaRef,
    waiting: BatchCoalescer,
}

impl Writer {
    /// Begins the file; its columns are compressed so, if they are.
    ///
    /// # Errors
    /// When a column has a type that is not written, or the file can't be written.
    pub fn new(file: Counted, schema: &SchemaRef, compression: Option<CompressionType>) -> Result<Self> {
        let schema = without_dictionaries(schema)?;
        let options = IpcWriteOptions::default().try_with_compression(compression)?;
        let file = BufWriter::with_capacity(BUFFER, file);
        let inner = FileWriter::try_new_with_options(file, &schema, options)?;
        Ok(Self { inner, waiting: BatchCoalescer::new(schema.clone(), ROWS_MAX), schema })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.waiting.push_batch(flattened(rows, &self.schema)?)?;
        self.write_completed()
    }

    fn write_completed(&mut self) -> Result<()> {
        while let Some(batch) = self.waiting.next_completed_batch() {
            self.inner.write(&batch)?;
        }
        Ok(())
    }

    /// How much of the file there is, about, in bytes.
    pub fn size(&self) -> u64 {
        self.inner.get_ref().get_ref().count() + self.inner.get_ref().buffer().len() as u64
    }

    /// Writes the footer, and returns when the file is on the disk.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(mut self) -> Result<()> {
        self.waiting.finish_buffered_batch()?;
        self.write_completed()?;
        self.inner.finish()?;
        let file = self.inner.get_mut();
        file.flush()?;
        Ok(file.get_mut().sync()?)
    }
}

/// Writes a stream as it comes.
pub struct StreamEncoder {
    inner: StreamWriter<Vec<u8>>,
    schema: SchemaRef,
}

impl fmt::Debug for StreamEncoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StreamEncoder")
    }
}

impl StreamEncoder {
    /// Begins the stream.
    ///
    /// # Errors
    /// When a column has a type that is not written.
    pub fn new(schema: &SchemaRef) -> Result<Self> {
        let schema = without_dictionaries(schema)?;
        Ok(Self { inner: StreamWriter::try_new(Vec::new(), &schema)?, schema })
    }

    /// Appends rows, behind the schema if they are the first.
    ///
    /// # Errors
    /// When the encoder fails; nothing was appended then.
    pub fn encode(&mut self, rows: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
        self.inner.write(&flattened(rows, &self.schema)?)?;
        self.begin(out);
        Ok(())
    }

    /// Appends the schema, unless it was.
    pub fn begin(&mut self, out: &mut Vec<u8>) {
        out.append(self.inner.get_mut());
    }

    /// Appends the mark behind the last batch.
    ///
    /// # Errors
    /// When the encoder fails.
    pub fn end(&mut self, out: &mut Vec<u8>) -> Result<()> {
        self.inner.finish()?;
        self.begin(out);
        Ok(())
    }
}

/// Whether columns can be written.
///
/// # Errors
/// Which type can't.
pub fn check(schema: &SchemaRef) -> Result<()> {
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = schema.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
    StreamEncoder::new(&schema)?.encode(&RecordBatch::try_new(schema, columns)?, &mut Vec::new())
}
