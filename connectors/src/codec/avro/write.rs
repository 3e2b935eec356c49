//! Batches to an Avro object container file.

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use arrow::array::new_null_array;
use arrow::compute::BatchCoalescer;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_avro::compression::CompressionCodec;
use arrow_avro::writer::format::AvroOcfFormat;
use arrow_avro::writer::{AvroWriter, WriterBuilder};
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::{Error, Result};

use crate::codec::table::Counted;
use crate::codec::table::flat::{flattened, without_dictionaries};

/// How much is collected before it is written, in bytes.
const BUFFER: usize = 1 << 20;

/// Writes a file from its beginning, in blocks of 8,192 rows.
pub struct Writer {
    inner: AvroWriter<BufWriter<Counted>>,
    written: Arc<AtomicU64>,
    schema: SchemaRef,
    waiting: BatchCoalescer,
}

impl Writer {
    /// Begins the file; its blocks are compressed so, if they are.
    ///
    /// # Errors
    /// When a column has a type that Avro does not have, or the file can't be written.
    pub fn new(file: Counted, schema: &SchemaRef, compression: Option<CompressionCodec>) -> Result<Self> {
        // Without what a reader noted beside the columns: the names of the file it read, for one.
        let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_metadata(HashMap::default()));
        let schema = without_dictionaries(&Arc::new(Schema::new(fields.collect::<Vec<_>>())))?;
        let written = file.watch();
        let file = BufWriter::with_capacity(BUFFER, file);
        let builder = WriterBuilder::new(schema.as_ref().clone()).with_compression(compression);
        let inner = builder.build::<_, AvroOcfFormat>(file)?;
        Ok(Self { inner, written, waiting: BatchCoalescer::new(schema.clone(), ROWS_MAX), schema })
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
            self.inner.write(&batch).map_err(from_writer)?;
        }
        Ok(())
    }

    /// How much of the file there is, about, in bytes.
    pub fn size(&self) -> u64 {
        self.written.load(Relaxed)
    }

    /// Writes the rest, and returns when the file is on the disk.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(mut self) -> Result<()> {
        self.waiting.finish_buffered_batch()?;
        self.write_completed()?;
        self.inner.finish().map_err(from_writer)?;
        let mut file = self.inner.into_inner();
        file.flush()?;
        Ok(file.get_mut().sync()?)
    }
}

fn from_writer(error: arrow_avro::errors::AvroError) -> Error {
    match error {
        arrow_avro::errors::AvroError::IoError(_, io) => io.into(),
        other => other.into(),
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
    let mut writer = Writer::new(Counted::nowhere(), &schema, None)?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.finish()
}
