//! Tasks and channels: what a plan becomes when it is started.
#![allow(clippy::missing_errors_doc, reason = "public for benches alone: every error of these is the end of the job")]

pub mod align;
pub mod book;
pub mod build;
pub mod call_task;
pub mod chain;
pub mod chain_task;
pub mod channel;
pub mod coordinate;
pub mod dead_letter;
pub mod emit;
pub mod exchange;
pub mod fallback;
pub mod frame;
pub mod in_flight;
pub mod job;
mod ledgers;
pub mod narrow;
pub mod overdue;
pub mod requests;
pub mod shares;
pub mod sink_task;
pub mod source_task;
pub mod spool;
pub mod spool_task;
pub mod supervise;
pub mod timing;
pub mod tolerance;

pub use job::{Job, start};
