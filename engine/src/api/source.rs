//! Where rows come from.

use std::fmt;
use std::future::Future;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;

use super::erased::ErasedSource;
use super::output::Rejected;
use crate::data::position::{Position, Split};
use crate::error::Result;

/// Reads the splits of one lane, made by [`Connector::source`](super::Connector::source).
///
/// The engine has one [`Source::read`] pending at a time and asks nothing else of it: barriers, watermarks, acks and
/// metrics are the engine's. A read is dropped before its end only when the job stops.
pub trait Source: Send + 'static {
    /// The next chunk; `None` when nothing will ever follow. Waits as long as there is nothing to read.
    ///
    /// # Errors
    /// A transient one is tried again with backoff; any other ends the job. A row that can't be read is no error of the
    /// source: it goes into [`Chunk::rejected`], and the rows around it go on.
    fn read(&mut self) -> impl Future<Output = Result<Option<Chunk>>> + Send;
}

/// What a source read at once: rows of one split, and how far it is now.
#[derive(Debug)]
pub struct Chunk {
    /// The rows, in the schema that was planned. Any number; the engine cuts them into batches.
    pub records: RecordBatch,
    /// The part of the input that they came from.
    pub split: Split,
    /// Where to go on behind these rows.
    pub position: Position,
    /// Told once the rows are safe; see [`Ack`].
    pub ack: Option<Ack>,
    /// Rows of the same part of the input that could not be read.
    pub rejected: Vec<Rejected>,
    /// How much of the source's finite input has been read, and how much there is, both in its own units and over all of
    /// its splits: for progress bars.
    pub progress: Option<(u64, u64)>,
    /// How many fields of these rows have no column, and were left out.
    pub unknown_fields: u64,
}

impl Chunk {
    /// Rows that need no ack.
    pub fn new(records: RecordBatch, split: Split, position: Position) -> Self {
        Self { records, split, position, ack: None, rejected: Vec::new(), progress: None, unknown_fields: 0 }
    }

    /// Asks to be told once the rows are safe.
    #[must_use]
    pub fn with_ack(mut self, ack: Ack) -> Self {
        self.ack = Some(ack);
        self
    }

    /// Says how much of a finite input has been read, and how much there is.
    #[must_use]
    pub fn with_progress(mut self, done: u64, total: u64) -> Self {
        self.progress = Some((done, total));
        self
    }

    /// Says how many fields of the rows have no column, and were left out.
    #[must_use]
    pub fn with_unknown_fields(mut self, fields: u64) -> Self {
        self.unknown_fields = fields;
        self
    }

    /// Adds rows that could not be read.
    #[must_use]
    pub fn with_rejected(mut self, rejected: Vec<Rejected>) -> Self {
        self.rejected = rejected;
        self
    }
}

/// Called once, when the epoch that the chunk belongs to has been committed by every sink; dropped uncalled when the
/// job fails before. It holds its own clone of whatever client it needs.
pub struct Ack(Box<dyn FnOnce() -> BoxFuture<'static, Result<()>> + Send>);

impl Ack {
    /// Runs `acknowledge` when the rows are safe.
    pub fn new<F>(acknowledge: impl FnOnce() -> F + Send + 'static) -> Self
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        Self(Box::new(move || acknowledge().boxed()))
    }

    pub(crate) async fn fire(self) -> Result<()> {
        (self.0)().await
    }
}

impl fmt::Debug for Ack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ack")
    }
}

/// A source of any type.
pub struct BoxSource(pub(crate) Box<dyn ErasedSource>);

impl BoxSource {
    /// Hands a source over to the engine.
    pub fn new(source: impl Source) -> Self {
        Self(Box::new(source))
    }
}

impl Source for BoxSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        self.0.read().await
    }
}
