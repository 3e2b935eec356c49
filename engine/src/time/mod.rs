//! Event time and its bounds.

pub mod timestamp;
pub mod watermark;

pub use timestamp::Timestamp;
