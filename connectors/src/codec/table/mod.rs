//! Files of columns, whose rows have numbers: Parquet, Arrow IPC, Avro.

mod counted;
mod cut;
pub(crate) mod flat;
mod write;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::env::ReadFile;
use bourn_engine::{Error, Result};

pub use counted::Counted;
pub use write::{Compression, Options, Writer, check};

use super::compression::{Limits, Text};
use super::{avro, ipc, parquet};
pub use cut::Cutter;

/// The most columns that a file may have.
pub const COLUMNS_MAX: usize = 10_000;

/// Which of them it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Apache Parquet.
    Parquet,
    /// Arrow IPC with a footer.
    Arrow,
    /// Arrow IPC as a stream.
    ArrowStream,
    /// An Avro object container file.
    Avro,
}

/// An open file, its schema read.
pub enum Table {
    /// Apache Parquet.
    Parquet(parquet::Footer),
    /// Arrow IPC with a footer.
    Arrow(ipc::File),
    /// Arrow IPC as a stream.
    ArrowStream(Box<ipc::Stream>),
    /// An Avro object container file.
    Avro(avro::Container),
}

impl Table {
    /// Reads the schema of `file`.
    ///
    /// # Errors
    /// When it is no such file.
    pub fn open(kind: Kind, file: Arc<dyn ReadFile>) -> Result<Self> {
        Ok(match kind {
            Kind::Parquet => Self::Parquet(parquet::Footer::read(file)?),
            Kind::Arrow => Self::Arrow(ipc::File::open(file)?),
            Kind::ArrowStream => {
                Self::ArrowStream(Box::new(ipc::Stream::open(Text::open(file, None, Limits::default())?)?))
            }
            Kind::Avro => Self::Avro(avro::Container::open(file)?),
        })
    }

    /// The columns of the file.
    pub fn schema(&self) -> &SchemaRef {
        match self {
            Self::Parquet(footer) => footer.schema(),
            Self::Arrow(file) => file.schema(),
            Self::ArrowStream(stream) => stream.schema(),
            Self::Avro(container) => container.schema(),
        }
    }

    /// Reads the columns of `schema`, from row `first` of the file on.
    ///
    /// # Errors
    /// When a column is missing or has another type.
    pub fn rows(self, schema: &SchemaRef, first: u64) -> Result<Rows> {
        let columns = columns(self.schema(), schema)?;
        let batches = match self {
            Self::Parquet(footer) => {
                let row_count = footer.row_count();
                return Ok(Rows::Parquet { rows: footer.rows(schema, first)?, read: first, row_count });
            }
            Self::Arrow(file) => Batches::Arrow(Box::new(file.batches(&columns, first)?)),
            Self::ArrowStream(stream) => Batches::ArrowStream(Box::new(stream.with_columns(&columns, first))),
            Self::Avro(container) => Batches::Avro(Box::new(container.batches(&columns, first)?)),
        };
        Ok(Rows::Batches { batches, cutter: Cutter::new(schema.clone()) })
    }
}

/// The indices of the columns of `schema` in a file.
///
/// # Errors
/// When a column is missing or has another type.
pub fn columns(found: &SchemaRef, schema: &SchemaRef) -> Result<Vec<usize>> {
    let index = |field: &Arc<Field>| {
        let found = found.column_with_name(field.name());
        match found.filter(|(_, f)| f.data_type() == field.data_type()) {
            Some((i, _)) => Ok(i),
            None => Err(unlike(field, found.map(|(_, f)| f))),
        }
    };
    schema.fields().iter().map(index).collect()
}

fn unlike(wanted: &Field, found: Option<&Field>) -> Error {
    let message = match found {
        None => format!("has no column `{}`, which the first file has", wanted.name()),
        Some(found) => {
            let (name, wanted, found) = (wanted.name(), sql_name(wanted.data_type()), sql_name(found.data_type()));
            format!("column `{name}` is {found}, and {wanted} in the first file")
        }
    };
    Error::validation(message).at_field(wanted.name())
}

/// A column as it is handed out: text comes in one type, whatever the writer had.
pub fn plain(field: &Field) -> Field {
    let text = match field.data_type() {
        DataType::LargeUtf8 | DataType::Utf8View => true,
        DataType::Dictionary(_, values) => {
            matches!(**values, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View)
        }
        _ => false,
    };
    if text { field.clone().with_data_type(DataType::Utf8) } else { field.clone() }
}

/// The rows of a file.
pub enum Rows {
    /// Cut already.
    Parquet {
        /// What comes next.
        rows: parquet::Rows,
        /// How many rows lie before it.
        read: u64,
        /// How many rows there are.
        row_count: u64,
    },
    /// Of whatever size.
    Batches {
        /// What comes next.
        batches: Batches,
        /// What is left of the last one.
        cutter: Cutter,
    },
}

/// The batches of a file as it has them.
pub enum Batches {
    /// Of Arrow IPC with a footer.
    Arrow(Box<ipc::Batches>),
    /// Of a stream.
    ArrowStream(Box<ipc::Stream>),
    /// Of Avro.
    Avro(Box<avro::Batches>),
}

impl Rows {
    /// The next rows, at most a batch; `None` at the end.
    ///
    /// # Errors
    /// When the file is broken here.
    pub fn read(&mut self) -> Result<Option<RecordBatch>> {
        match self {
            Self::Parquet { rows, read, .. } => {
                let batch = rows.read()?;
                *read += batch.as_ref().map_or(0, |b| b.num_rows() as u64);
                Ok(batch)
            }
            Self::Batches { batches, cutter } => loop {
                if let Some(rows) = cutter.cut()? {
                    return Ok(Some(rows));
                }
                let next = match batches {
                    Batches::Arrow(batches) => batches.read()?,
                    Batches::ArrowStream(stream) => stream.read()?,
                    Batches::Avro(batches) => batches.read()?.map(|batch| (batch, 0)),
                };
                let Some((batch, skip)) = next else { return Ok(None) };
                cutter.put(batch, skip);
            },
        }
    }

    /// How much was read of a file of this size, about, in bytes.
    pub fn bytes_read(&self, size: u64) -> u64 {
        match self {
            Self::Parquet { read, row_count, .. } => {
                let share = u128::from(size) * u128::from(*read) / u128::from((*row_count).max(1));
                u64::try_from(share).unwrap_or(size)
            }
            Self::Batches { batches, .. } => match batches {
                Batches::Arrow(batches) => batches.bytes_read(),
                Batches::ArrowStream(stream) => stream.bytes_read(),
                Batches::Avro(batches) => batches.bytes_read(),
            },
        }
    }
}
