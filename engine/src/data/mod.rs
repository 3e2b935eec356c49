//! What flows: messages, records, positions, and the columns that the engine reserves.

pub mod columns;
pub mod json;
pub mod letter;
pub mod message;
pub mod position;
pub mod records;
pub mod secret;
pub mod sql_type;
pub mod units;
