//! Limits that processes keep together: buckets that fill up somewhere else.

use std::time::Duration;

use futures::future::BoxFuture;

use crate::error::Result;

/// A bucket and what is taken of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Draw {
    /// Which bucket: the name of the limit, and what it counts.
    pub bucket: String,
    /// How much flows in, in a second.
    pub per_second: f64,
    /// The most that it holds; a new one is full.
    pub capacity: f64,
    /// What is taken; what is negative is given back.
    pub amount: f64,
}

/// Keeps buckets for several processes, on a clock of its own. It may lose them, and be gone at any time: then each process keeps its own
/// limits alone, which are the same numbers.
pub trait Meter: Send + Sync + 'static {
    /// Takes of all buckets, if each has enough, and says how long it is until they may have, if one does not: then nothing is taken. More
    /// than a bucket ever holds is taken of a full one, which owes the rest.
    fn take(&self, draws: Vec<Draw>) -> BoxFuture<'_, Result<Option<Duration>>>;

    /// Takes or gives back at once, whatever is there.
    fn settle(&self, draws: Vec<Draw>) -> BoxFuture<'_, Result<()>>;
}
