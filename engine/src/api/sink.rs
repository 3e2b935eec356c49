//! Where rows go.

use std::future::Future;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::erased::ErasedSink;
use super::output::Rejected;
use crate::data::message::Epoch;
use crate::error::Result;

/// Writes the rows of one lane, made by [`Connector::sink`](super::Connector::sink).
///
/// The engine calls one method at a time, in this order: any number of `write`, then `prepare` for each epoch, then
/// `commit` of what it returned (rows of the next epoch may be written in between), a `tick` wherever one is wanted, and at
/// the end of the job a last `prepare` and `commit`. A job that ended well calls `finish` behind them; one that failed just
/// drops the sink.
pub trait Sink: Send + 'static {
    /// Takes 1 to 8,192 rows. They may stay in a buffer until `prepare`.
    ///
    /// # Errors
    /// A transient one is tried again with the same rows, so a sink that wrote a part of them must bear to see that part
    /// again. Any other goes where `on_error` says with all rows of the batch, or ends the job.
    fn write(&mut self, rows: &RecordBatch) -> impl Future<Output = Result<Written>> + Send;

    /// Everything before this belongs to `epoch`: flushes it, and makes it durable as far as the sink can. A sink that
    /// stages rows (a temporary name, an open transaction) returns a receipt by which they can be made visible, also by
    /// another process after a crash; one whose rows are visible at once returns `None`.
    ///
    /// # Errors
    /// Ends the job.
    fn prepare(&mut self, epoch: Epoch) -> impl Future<Output = Result<Option<Receipt>>> + Send;

    /// Makes prepared rows visible. Idempotent: the engine asks again until it hears [`Outcome::Committed`].
    ///
    /// # Errors
    /// Transient ones are tried again; any other ends the job without an ack.
    fn commit(&mut self, receipt: &Receipt) -> impl Future<Output = Result<Outcome>> + Send {
        let _ = receipt;
        async { Ok(Outcome::Committed) }
    }

    /// The monotonic time at which [`Sink::tick`] is wanted, whether or not rows come; asked after every other call, up to the
    /// end of the rows.
    fn wake_at(&self) -> Option<Duration> {
        None
    }

    /// The time of [`Sink::wake_at`] has come: a file is to be ended, say.
    ///
    /// # Errors
    /// Ends the job.
    fn tick(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// Closes what stayed open over all epochs, such as the footer of a file. Called at most once, behind the last
    /// commit of a job that ended well; nothing is asked of the sink after it.
    ///
    /// # Errors
    /// Ends the job as failed.
    fn finish(&mut self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }
}

/// What became of the rows of a `write`.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows that this sink will never take, each with its reason. The others are taken.
    pub rejected: Vec<Rejected>,
}

impl Written {
    /// All rows were taken.
    pub fn all() -> Self {
        Self::default()
    }
}

/// What became of a commit. An unknown outcome is never taken for a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The rows are visible, once.
    Committed,
    /// They never will be.
    Aborted,
    /// The sink can't tell. The engine asks again, then stops loudly.
    Unknown,
}

/// By what a prepared epoch can be committed, also by another process. Kept as JSON in the manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt(String);

impl Receipt {
    /// The receipt that `value` describes.
    ///
    /// # Errors
    /// When `value` has no JSON form.
    pub fn of(value: &impl Serialize) -> Result<Self> {
        Ok(Self(serde_json::to_string(value)?))
    }

    /// Its JSON, for people.
    pub fn json(&self) -> &str {
        &self.0
    }

    /// What [`Receipt::of`] was given.
    ///
    /// # Errors
    /// When another type wrote it.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T> {
        Ok(serde_json::from_str(&self.0)?)
    }
}

/// A sink of any type.
pub struct BoxSink(pub(crate) Box<dyn ErasedSink>);

impl BoxSink {
    /// Hands a sink over to the engine.
    pub fn new(sink: impl Sink) -> Self {
        Self(Box::new(sink))
    }
}

impl Sink for BoxSink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.0.write(rows).await
    }
    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        self.0.prepare(epoch).await
    }
    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        self.0.commit(receipt).await
    }
    fn wake_at(&self) -> Option<Duration> {
        self.0.wake_at()
    }
    async fn tick(&mut self) -> Result<()> {
        self.0.tick().await
    }
    async fn finish(&mut self) -> Result<()> {
        self.0.finish().await
    }
}
