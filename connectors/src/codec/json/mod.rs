//! JSON lines: their schema, lines to columns, columns to lines.

pub mod decode;
pub mod document;
pub mod encode;
mod exact;
pub mod infer;
pub mod messages;
mod row;
mod scan;

pub use decode::{Columns, Decoded, Decoder, Fault};
pub use encode::Encoder;
pub use infer::{Inference, Inferred};
pub(crate) use row::wrong_type;
