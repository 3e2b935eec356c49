//! What runs have done, kept so that nothing acknowledged is lost and no finished step is done twice.
//!
//! The engine says what is kept and when a row may go on ([`Journal`]); a store says where: `bourn-journal` in SQLite, [`Memory`]
//! in the process. A run that goes on is an input and a history: it passes through the same graph as a new one, and what stands in
//! its history is taken from there.

mod asked;
mod entry;
mod history;
mod memory;
mod rest;
mod spending;
mod under_way;

use futures::future::BoxFuture;

use crate::error::Result;

pub use asked::{Ask, Asked, Canceled};
pub use entry::{BackingOff, Durability, Earlier, Ends, Entries, Returned, RunState, Started, Steps, Wait, Waiting};
pub use history::History;
pub use memory::Memory;
pub use rest::Rest;
pub(crate) use rest::{Back, Until};
pub use spending::Spending;

/// The journal of one job: of all runs that one command has begun. Runs are told apart by their number in the order of admission.
pub trait Journal: Send + Sync + 'static {
    /// Takes in runs, and returns what is known of each, in the same order: none of a run that is new.
    fn start(&self, runs: Started) -> BoxFuture<'static, Result<Vec<Option<Earlier>>>>;

    /// Appends, in the order of the calls. Returns when it is durable, or with [`Wait::No`] as soon as its place is certain: what
    /// is appended later is never durable before it.
    fn append(&self, entries: Entries, wait: Wait) -> BoxFuture<'static, Result<()>>;

    /// The runs of these numbers that have not ended, as they began: they come back after they were at rest.
    fn returned(&self, runs: Vec<u64>) -> BoxFuture<'static, Result<Vec<Returned>>>;

    /// What somebody asks of these runs meanwhile: always the same one. By itself nobody asks anything.
    fn asked(&self) -> Asked {
        Asked::default()
    }
}
