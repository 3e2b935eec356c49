//! The blocks of a container: their bytes as they were before they were compressed.

use std::io::Read;

use bourn_engine::{Error, Kind, Result};

use super::broken;

/// The most bytes of a block.
pub const BYTES_MAX: u64 = 1 << 30;
/// How large a block may become before it must be in proportion to what it was, in bytes.
const FLOOR: u64 = 16 << 20;
/// The most decompressed bytes for each compressed one.
const RATIO: u64 = 200;

/// How blocks are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    /// Not at all.
    Null,
    /// RFC 1951.
    Deflate,
    /// Snappy with a checksum behind it.
    Snappy,
    /// RFC 8878.
    Zstd,
}

impl Codec {
    /// By its name in a header.
    ///
    /// # Errors
    /// When it is not one of ours.
    pub fn named(name: &[u8]) -> Result<Self> {
        match name {
            b"null" | b"" => Ok(Self::Null),
            b"deflate" => Ok(Self::Deflate),
            b"snappy" => Ok(Self::Snappy),
            b"zstandard" => Ok(Self::Zstd),
            other => {
                let name = String::from_utf8_lossy(other);
                let message = format!("Avro's codec `{name}` is not read; those that are: deflate, snappy, zstandard");
                Err(Error::unsupported(message))
            }
        }
    }

    /// The bytes of a block.
    ///
    /// # Errors
    /// When it is broken, or grows beyond all proportion.
    pub fn unpack(self, block: Vec<u8>) -> Result<Vec<u8>> {
        let most = FLOOR.max(RATIO * block.len() as u64).min(BYTES_MAX);
        let bomb = || {
            let message = format!("a block of {} bytes holds more than {most}, which is the most", block.len());
            Error::new(Kind::Budget, message)
        };
        let inflate = |mut decoder: Box<dyn Read + '_>| {
            let mut out = Vec::new();
            decoder.by_ref().take(most + 1).read_to_end(&mut out).map_err(|e| broken(format!("a block: {e}")))?;
            if out.len() as u64 > most { Err(bomb()) } else { Ok(out) }
        };
        match self {
            Self::Null => Ok(block),
            Self::Deflate => inflate(Box::new(flate2::read::DeflateDecoder::new(&*block))),
            Self::Zstd => inflate(Box::new(zstd::stream::read::Decoder::new(&*block)?)),
            Self::Snappy => {
                let (packed, checksum) =
                    block.split_last_chunk().ok_or_else(|| broken("a block without a checksum"))?;
                let length = snap::raw::decompress_len(packed).map_err(|e| broken(format!("a block: {e}")))?;
                if length as u64 > most {
                    return Err(bomb());
                }
                let out = snap::raw::Decoder::new().decompress_vec(packed);
                let out = out.map_err(|e| broken(format!("a block: {e}")))?;
                let mut sum = flate2::Crc::new();
                sum.update(&out);
                if sum.sum() != u32::from_be_bytes(*checksum) {
                    return Err(broken("the checksum of a block is that of another one"));
                }
                Ok(out)
            }
        }
    }
}
