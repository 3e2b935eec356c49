//! Epochs: when they begin, when they are complete, when they are committed.

pub mod coordinator;
pub mod protocol;
