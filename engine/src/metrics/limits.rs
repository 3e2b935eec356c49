//! What requests are limited by, as it stands: read by whoever looks at a job.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// What the requests of a stage, or of all that share a rate limit, are limited by.
pub struct Limit {
    /// The id of the stage, or the name of the rate limit.
    pub name: Arc<str>,
    /// How it stands right now.
    pub stands: Box<dyn Fn() -> Standing + Send + Sync>,
}

impl fmt::Debug for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Limit({})", self.name)
    }
}

/// How a limit stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// Requests in flight and how many may be, where that is adapted.
    pub in_flight: Option<(usize, f64)>,
    /// How long nothing is sent.
    pub paused: Duration,
    /// What may be sent at once, by what is counted: `requests`, `tokens`, `input_tokens`, `output_tokens`.
    pub buckets: Vec<Bucket>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// What is counted.
    pub what: &'static str,
    /// What is in it, or what it owes.
    pub level: f64,
    /// The most that it holds.
    pub capacity: f64,
    /// How much flows in, in a minute.
    pub per_minute: f64,
}
