//! Avro object container files: blocks of rows to batches, batches to blocks.

mod block;
mod container;
mod shape;
mod write;

use std::panic::{AssertUnwindSafe, catch_unwind};

use bourn_engine::{Error, Result};

pub use container::{Batches, Container};
pub use write::{Writer, check};

/// Runs `read`. What the arrow crates can't read is an error of the data, and so is a panic of their decoders, which a
/// broken file can bring about.
fn guard<T, E: std::fmt::Display>(read: impl FnOnce() -> Result<T, E>) -> Result<T> {
    match catch_unwind(AssertUnwindSafe(read)) {
        Ok(result) => result.map_err(broken),
        Err(_) => Err(broken("its decoder gave up")),
    }
}

fn broken(cause: impl std::fmt::Display) -> Error {
    Error::validation(format!("is no whole Avro file: {cause}"))
}

/// A number of Avro at the beginning of `bytes`, and how many bytes it takes; `None` when they end before it does.
fn long(bytes: &[u8]) -> Result<Option<(i64, usize)>> {
    let mut value = 0_u64;
    for (i, byte) in bytes.iter().enumerate() {
        if i == 10 {
            return Err(broken("a number of more than ten bytes"));
        }
        value |= u64::from(byte & 0x7F) << (7 * i);
        if byte & 0x80 == 0 {
            #[expect(clippy::cast_possible_wrap, reason = "zigzag: the sign is the last bit")]
            let number = (value >> 1) as i64 ^ -((value & 1) as i64);
            return Ok(Some((number, i + 1)));
        }
    }
    Ok(None)
}

fn put_long(number: u64, out: &mut Vec<u8>) {
    let mut left = number << 1;
    while left >= 0x80 {
        out.push((left & 0x7F) as u8 | 0x80);
        left >>= 7;
    }
    out.push((left & 0x7F) as u8);
}

fn put_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    put_long(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}
