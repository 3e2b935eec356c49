//! Tasks and channels: what a plan becomes when it is started.

pub mod job;
pub mod supervise;
pub mod coordinate;
pub mod channel;
pub mod align;
pub mod exchange;
pub mod emit;
pub mod chain;
pub mod narrow;
pub mod dead_letter;
pub mod source_task;
pub mod chain_task;
pub mod call_task;
pub mod in_flight;
pub mod sink_task;
pub mod shares;

pub use job::{Job, start};
