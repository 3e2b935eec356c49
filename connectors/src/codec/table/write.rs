//! Rows to a file of columns, which is whole only when it is finished.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::env::WriteFile;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Counted, Kind};
use crate::codec::{avro, ipc, parquet};

/// How what is written is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Compression {
    /// Not at all.
    None,
    /// JSON lines, CSV, plain lines, Parquet.
    Gzip,
    /// JSON lines, CSV, plain lines, Parquet, Arrow, Avro.
    Zstd,
    /// Parquet, Avro.
    Snappy,
    /// Avro.
    Deflate,
    /// Arrow.
    Lz4,
}

impl Compression {
    /// As it is written in a spec.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Snappy => "snappy",
            Self::Deflate => "deflate",
            Self::Lz4 => "lz4",
        }
    }
}

/// How a file is written.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The format's own if it is not said.
    pub compression: Option<Compression>,
    /// About how much of it is held in memory, in bytes.
    pub memory_max: usize,
}

/// Writes a file from its beginning.
pub enum Writer {
    /// Apache Parquet.
    Parquet(Box<parquet::Writer>),
    /// Arrow IPC with a footer.
    Arrow(Box<ipc::Writer>),
    /// An Avro object container file.
    Avro(Box<avro::Writer>),
}

impl Writer {
    /// Begins the file.
    ///
    /// # Errors
    /// When a column has a type that the format does not have, or the file can't be written.
    pub fn new(kind: Kind, file: Box<dyn WriteFile>, schema: &SchemaRef, options: Options) -> Result<Self> {
        Self::begin(kind, Counted::new(file), schema, options)
    }

    fn begin(kind: Kind, file: Counted, schema: &SchemaRef, options: Options) -> Result<Self> {
        let Options { compression, memory_max } = options;
        let other =
            |c: Compression| Err(Error::unsupported(format!("this format is not compressed by `{}`", c.name())));
        match kind {
            Kind::Parquet => {
                let compression = match compression {
                    None | Some(Compression::Zstd) => parquet::Compression::Zstd,
                    Some(Compression::None) => parquet::Compression::None,
                    Some(Compression::Snappy) => parquet::Compression::Snappy,
                    Some(Compression::Gzip) => parquet::Compression::Gzip,
                    Some(c) => return other(c),
                };
                Ok(Self::Parquet(Box::new(parquet::Writer::new(file, schema.clone(), compression, memory_max)?)))
            }
            Kind::Arrow => {
                let compression = match compression {
                    None | Some(Compression::None) => None,
                    Some(Compression::Zstd) => Some(arrow_ipc::CompressionType::ZSTD),
                    Some(Compression::Lz4) => Some(arrow_ipc::CompressionType::LZ4_FRAME),
                    Some(c) => return other(c),
                };
                Ok(Self::Arrow(Box::new(ipc::Writer::new(file, schema, compression)?)))
            }
            Kind::Avro => {
                use arrow_avro::compression::CompressionCodec;
                let compression = match compression {
                    Some(Compression::None) => None,
                    None | Some(Compression::Deflate) => Some(CompressionCodec::Deflate),
                    Some(Compression::Snappy) => Some(CompressionCodec::Snappy),
                    Some(Compression::Zstd) => Some(CompressionCodec::ZStandard),
                    Some(c) => return other(c),
                };
                Ok(Self::Avro(Box::new(avro::Writer::new(file, schema, compression)?)))
            }
            Kind::ArrowStream => Err(Error::engine("a stream is written as it comes")),
        }
    }

    /// Adds rows.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&mut self, rows: &RecordBatch) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.write(rows),
            Self::Arrow(writer) => writer.write(rows),
            Self::Avro(writer) => writer.write(rows),
        }
    }

    /// How large the file is by now, about, in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Parquet(writer) => writer.size(),
            Self::Arrow(writer) => writer.size(),
            Self::Avro(writer) => writer.size(),
        }
    }

    /// Writes what stands at the end, and returns when the file is on the disk.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn finish(self) -> Result<()> {
        match self {
            Self::Parquet(writer) => writer.finish(),
            Self::Arrow(writer) => writer.finish(),
            Self::Avro(writer) => writer.finish(),
        }
    }
}

/// Whether columns can be written so: some types are refused only by what writes their values.
///
/// # Errors
/// Which type can't, or that the format is not compressed so.
pub fn check(kind: Kind, schema: &SchemaRef, compression: Option<Compression>) -> Result<()> {
    match kind {
        Kind::Parquet => parquet::check(schema)?,
        Kind::Arrow | Kind::ArrowStream => ipc::check(schema)?,
        Kind::Avro => avro::check(schema)?,
    }
    match (kind, compression) {
        (Kind::ArrowStream, Some(c)) if c != Compression::None => {
            Err(Error::unsupported(format!("an Arrow stream is not compressed by `{}`", c.name())))
        }
        (Kind::ArrowStream, _) => Ok(()),
        _ => Writer::begin(kind, Counted::nowhere(), schema, Options { compression, memory_max: 1 << 20 }).map(drop),
    }
}
