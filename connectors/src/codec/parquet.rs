//! Parquet files: row groups to batches, batches to row groups.

mod input;
mod pages;
mod thrift;

use std::io::{self, ErrorKind};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow::array::new_null_array;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use bourn_engine::data::records::{BYTES_MAX, ROWS_MAX};
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Kind, Result};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader};
use parquet::arrow::{ArrowWriter, ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{self, GzipLevel, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::WriterProperties;

use super::table::{Counted, columns, plain};
use input::Input;
use pages::Groups;

/// An open Parquet file, its footer read.
pub struct Footer {
    input: Input,
    metadata: ArrowReaderMetadata,
}

impl Footer {
    /// Reads the footer.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(file: Arc<dyn ReadFile>) -> Result<Self> {
        let length = file.len()?;
        if length == 0 {
            return Err(Error::validation("the file is empty, and a Parquet file has at least a footer"));
        }
        let input = Input { file, length };
        let metadata = guard(|| {
            if thrift::has_list_of_booleans(&input.footer()?) {
                return Err(ParquetError::General("its footer has a list of booleans, and no footer has one".into()));
            }
            let found = ArrowReaderMetadata::load(&input, ArrowReaderOptions::new())?;
            // Text comes in one type, whatever the writer had.
            let plain: Vec<_> = found.schema().fields().iter().map(|f| plain(f)).collect();
            let plain = Arc::new(Schema::new(plain));
            let options = ArrowReaderOptions::new().with_schema(plain);
            ArrowReaderMetadata::try_new(found.metadata().clone(), options).or(Ok(found))
        })?;
        Ok(Self { input, metadata })
    }

    /// The columns of the file.
    pub fn schema(&self) -> &SchemaRef {
        self.metadata.schema()
    }

    /// How many rows the file holds.
    pub fn row_count(&self) -> u64 {
        u64::try_from(self.metadata.metadata().file_metadata().num_rows()).unwrap_or(0)
    }

    /// Reads the columns of `schema`, from row `first` of the file on.
    ///
    /// # Errors
    /// When a column is missing or has another type.
    pub fn rows(self, schema: &SchemaRef, first: u64) -> Result<Rows> {
        let metadata = self.metadata.metadata().clone();
        let roots = columns(self.schema(), schema)?;
        let (groups, skip) = groups_from(&metadata, first);
        let mask = ProjectionMask::roots(metadata.file_metadata().schema_descr(), roots.iter().copied());
        let size = rows_at_once(&metadata);
        let reader = guard(|| {
            let (columns, types) = (metadata.file_metadata().schema_descr(), self.schema().fields());
            let levels = parquet_to_arrow_field_levels(columns, mask, Some(types))?;
            let groups = Groups { input: Arc::new(self.input.clone()), metadata: metadata.clone(), chosen: groups };
            ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, size, None)
        })?;
        // The reader yields the columns in the order of the file.
        let mut sorted = roots.clone();
        sorted.sort_unstable();
        let order = roots.iter().map(|r| sorted.partition_point(|s| s < r)).collect();
        Ok(Rows { reader, schema: schema.clone(), order, skip })
    }
}

/// The batches of a file.
pub struct Rows {
    reader: ParquetRecordBatchReader,
    schema: SchemaRef,
    order: Vec<usize>,
    /// How many rows are still to be passed over. They are read like all others: over some broken files the parquet
    /// crate's own way to skip rows never ends.
    skip: usize,
}

impl Rows {
    /// The next batch; `None` at the end.
    ///
    /// # Errors
    /// When the file is broken here.
    pub fn read(&mut self) -> Result<Option<RecordBatch>> {
        let read = loop {
            let Some(read) = guard(|| self.reader.next().transpose().map_err(ParquetError::from))? else {
                return Ok(None);
            };
            let passed = self.skip.min(read.num_rows());
            self.skip -= passed;
            if passed < read.num_rows() {
                break read.slice(passed, read.num_rows() - passed);
            }
        };
        let columns = self.order.iter().map(|i| read.column(*i).clone()).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(read.num_rows()));
        Ok(Some(RecordBatch::try_new_with_options(self.schema.clone(), columns, &options)?))
    }
}

/// The row groups that hold row `first` and those behind it, and how many rows of the first group lie before it.
fn groups_from(metadata: &ParquetMetaData, first: u64) -> (Vec<usize>, usize) {
    let mut skip = usize::try_from(first).unwrap_or(usize::MAX);
    let mut groups = 0..metadata.num_row_groups();
    for group in metadata.row_groups() {
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        if skip < rows {
            break;
        }
        skip -= rows;
        groups.start += 1;
    }
    (groups.collect(), skip)
}

/// So many rows that a batch stays within its bytes, by the mean of the widest row group.
fn rows_at_once(metadata: &ParquetMetaData) -> usize {
    let width = |group: &parquet::file::metadata::RowGroupMetaData| {
        let bytes: i64 = group
            .columns()
            .iter()
            .map(|c| c.uncompressed_size().max(c.unencoded_byte_array_data_bytes().unwrap_or(0)))
            .sum();
        usize::try_from(bytes / group.num_rows().max(1)).unwrap_or(0)
    };
    let widest = metadata.row_groups().iter().map(width).max().unwrap_or(0);
    (BYTES_MAX / widest.max(1)).clamp(1, ROWS_MAX)
}

/// Runs `read`. What the parquet crate can't read is an error of the data, and so is a panic of its decoders, which
/// a broken file can bring about.
fn guard<T>(read: impl FnOnce() -> parquet::errors::Result<T>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(from_parquet),
        Err(_) => Err(Error::validation("is no whole Parquet file: its decoder gave up")),
    }
}

fn from_parquet(error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(io) if !matches!(io.kind(), ErrorKind::UnexpectedEof | ErrorKind::InvalidData) => Error::from(*io),
            Ok(io) => broken(&io),
            Err(other) => broken(&other),
        },
        ParquetError::NYI(what) => Error::unsupported(format!("this Parquet file needs what we can't do yet: {what}")),
        // Its own words, without the name of the error before them.
        ParquetError::General(said) | ParquetError::EOF(said) | ParquetError::ArrowError(said) => broken(&said),
        other => broken(&other),
    }
}

fn broken(cause: &dyn std::fmt::Display) -> Error {
    Error::validation(format!("is no whole Parquet file: {cause}"))
}

/// How pages are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Snappy.
    Snappy,
    /// RFC 1952.
    Gzip,
    /// RFC 8878, its fastest level.
    Zstd,
}

/// Writes a Parquet file from its beginning: row groups of about a million rows.
pub struct Writer {
    inner: ArrowWriter<Counted>,
    memory_max: usize,
}

impl Writer {
    /// Begins the file. A row group is held in memory until it is full, and written when it takes so many bytes.
    ///
    /// # Errors
    /// When a column has a type without a Parquet form, or the file can't be written.
    pub fn new(file: Counted, schema: SchemaRef, compression: Compression, memory_max: usize) -> Result<Self> {
        let compression = match compression {
            Compression::None => basic::Compression::UNCOMPRESSED,
            Compression::Snappy => basic::Compression::SNAPPY,
            Compression::Gzip => basic::Compression::GZIP(GzipLevel::default()),
            Compression::Zstd => basic::Compression::ZSTD(ZstdLevel::default()),
        };
        let properties = WriterProperties::builder().set_compression(compression).build();
        Ok(Self { inner: ArrowWriter::try_new(file, schema, Some(properties)).map_err(from_writer)?, memory_max })
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        self.inner.write(rows).map_err(from_writer)?;
        // Wide rows end a row group early.
        if self.inner.in_progress_size() > self.memory_max {
            self.inner.flush().map_err(from_writer)?;
        }
        Ok(())
    }

    /// How large the file is by now, about, in bytes.
    pub fn size(&self) -> u64 {
        (self.inner.bytes_written() + self.inner.in_progress_size()) as u64
    }

    /// Writes the footer, and returns when the file is on the disk.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(mut self) -> Result<()> {
        self.inner.finish().map_err(from_writer)?;
        Ok(self.inner.inner_mut().sync()?)
    }
}

/// Whether columns can be written: some types are refused only by what writes their values.
///
/// # Errors
/// Which type can't.
pub fn check(schema: &SchemaRef) -> Result<()> {
    if let Some(field) = schema.fields().iter().find(|f| has_union(f.data_type())) {
        // The parquet crate panics over them.
        return Err(Error::unsupported(format!("Parquet can't hold the union in column `{}`", field.name())));
    }
    let fields: Vec<_> = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect();
    let schema = Arc::new(Schema::new(fields));
    let columns = schema.fields().iter().map(|f| new_null_array(f.data_type(), 1)).collect();
    let mut writer = Writer::new(Counted::nowhere(), schema.clone(), Compression::None, 1 << 20)?;
    writer.write(&RecordBatch::try_new(schema, columns)?)?;
    writer.finish()
}

fn has_union(data_type: &DataType) -> bool {
    match data_type {
        DataType::Union(..) => true,
        DataType::Struct(members) => members.iter().any(|f| has_union(f.data_type())),
        DataType::List(f)
        | DataType::LargeList(f)
        | DataType::ListView(f)
        | DataType::LargeListView(f)
        | DataType::FixedSizeList(f, _)
        | DataType::Map(f, _)
        | DataType::RunEndEncoded(_, f) => has_union(f.data_type()),
        DataType::Dictionary(_, values) => has_union(values),
        _ => false,
    }
}

fn from_writer(error: ParquetError) -> Error {
    match error {
        ParquetError::External(cause) => match cause.downcast::<io::Error>() {
            Ok(io) => Error::from(*io),
            Err(other) => Error::new(Kind::Other, other.to_string()),
        },
        ParquetError::NYI(what) => Error::unsupported(format!("Parquet can't hold this: {what}")),
        other => Error::from(other),
    }
}
