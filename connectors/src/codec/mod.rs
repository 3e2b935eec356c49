//! Formats: bytes to columns, columns to bytes.

pub mod json;
pub mod lines;
pub mod parquet;
pub mod types;
