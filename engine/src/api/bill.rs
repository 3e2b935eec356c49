//! What an attempt of a call notes beside its reply.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::call::Usage;

/// What an attempt notes beside its reply: its costs, and that it is alive. A clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct Bill(Arc<Mutex<Billed>>);

/// What is on a bill.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Billed {
    /// Paid for answers that are no good.
    pub lost: Usage,
    /// Paid for answers of rows that are kept, while the request as a whole has failed.
    pub kept: Usage,
    /// Rows whose answers were in the journal.
    pub known: u64,
    /// What became of looking into the cache.
    pub cached: Cached,
    /// Monotonic time of the last sign of life.
    pub alive: Option<Duration>,
    /// Whether the attempt has had its turn.
    pub begun: bool,
    /// How long the first piece of an answer took that comes in pieces, from the beginning of the attempt.
    pub first_piece: Option<Duration>,
}

/// How often a cache had an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cached {
    /// It had.
    pub hits: u64,
    /// It had none, so that somebody was asked.
    pub misses: u64,
    /// It could not be asked, or told.
    pub errors: u64,
}

impl Bill {
    /// Notes what was paid for an answer that is no good.
    pub fn lost(&self, usage: Usage) {
        self.billed().lost += usage;
    }

    /// Notes what was paid for answers that are kept, before the request fails.
    pub fn kept(&self, usage: Usage) {
        self.billed().kept += usage;
    }

    /// Notes so many rows whose answers were in the journal.
    pub fn known(&self, rows: usize) {
        self.billed().known += rows as u64;
    }

    /// Notes what became of looking into the cache.
    pub fn cached(&self, cached: Cached) {
        let mut billed = self.billed();
        billed.cached.hits += cached.hits;
        billed.cached.misses += cached.misses;
        billed.cached.errors += cached.errors;
    }

    /// Notes a sign of life at this monotonic time: something came from the other side. Limits of how long a call may be silent count from
    /// the last one.
    pub fn alive(&self, now: Duration) {
        self.billed().alive = Some(now);
    }

    /// Notes that it is the turn of the attempt: nothing keeps it from being made any more.
    pub fn begun(&self) {
        self.billed().begun = true;
    }

    /// Notes how long the first piece of the answer took; what comes behind it changes nothing.
    pub fn first_piece(&self, took: Duration) {
        self.billed().first_piece.get_or_insert(took);
    }

    /// What is on it.
    pub fn total(&self) -> Billed {
        *self.billed()
    }

    fn billed(&self) -> MutexGuard<'_, Billed> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
