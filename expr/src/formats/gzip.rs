//! Values packed with gzip.

use std::io::{Read, Write};
use std::sync::Arc;

use arrow::array::BinaryBuilder;
use arrow::datatypes::DataType;
use datafusion_common::{Result as DfResult, exec_datafusion_err, exec_err};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::{Function, Kind, bytes};

/// The most bytes that the values of one batch may unpack to: a few packed bytes can hold gigabytes.
const BYTES_MAX: u64 = 64 << 20;

pub const FUNCTIONS: &[Function] = &[
    Function {
        name: "gzip",
        usage: "gzip(text or bytes)",
        count: (1, 1),
        takes: &[Kind::Bytes],
        returns: || DataType::Binary,
        run: |arguments| {
            let mut packed = BinaryBuilder::new();
            for value in &bytes(&arguments[0])? {
                packed.append_option(value.map(pack).transpose()?);
            }
            Ok(Arc::new(packed.finish()))
        },
    },
    Function {
        name: "gunzip",
        usage: "gunzip(bytes)",
        count: (1, 1),
        takes: &[Kind::Bytes],
        returns: || DataType::Binary,
        run: |arguments| {
            let (mut plain, mut left) = (BinaryBuilder::new(), BYTES_MAX);
            for value in &bytes(&arguments[0])? {
                let value = value.map(|v| unpack(v, left)).transpose()?;
                left -= value.as_ref().map_or(0, |v| v.len() as u64);
                plain.append_option(value);
            }
            Ok(Arc::new(plain.finish()))
        },
    },
];

pub fn pack(value: &[u8]) -> DfResult<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(value)?;
    Ok(encoder.finish()?)
}

pub fn unpack(value: &[u8], bytes_max: u64) -> DfResult<Vec<u8>> {
    let mut plain = Vec::new();
    let mut decoder = MultiGzDecoder::new(value).take(bytes_max + 1);
    decoder.read_to_end(&mut plain).map_err(|e| exec_datafusion_err!("not packed with gzip: {e}"))?;
    if plain.len() as u64 > bytes_max {
        return exec_err!("the values of a batch unpack to more than {} MiB", BYTES_MAX >> 20);
    }
    Ok(plain)
}
