//! Formats: bytes to columns, columns to bytes.

pub mod avro;
pub mod compression;
pub mod csv;
pub mod decimal;
pub mod ipc;
pub mod json;
pub mod lines;
pub mod parquet;
pub mod rows;
pub mod table;
pub mod types;
