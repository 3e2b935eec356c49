//! Formats: bytes to columns, columns to bytes.

pub mod csv;
pub mod json;
pub mod lines;
pub mod parquet;
pub mod rows;
pub mod types;
