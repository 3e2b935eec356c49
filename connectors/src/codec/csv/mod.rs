//! CSV: its dialects, its schema, records to columns, columns to records.

pub mod decode;
mod dialect;
pub mod encode;
mod header;
pub mod infer;
mod record;
mod values;

pub use decode::Decoder;
pub use dialect::{Csv, Dialect, Nulls};
pub use encode::Encoder;
pub use values::is_readable;

#[cfg(test)]
mod tests;
