//! A source from a stream of a program.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, Stream, StreamExt};

use super::planned::as_planned;
use crate::api::connector::{Capabilities, ConnectContext, Replay, SourceContext};
use crate::api::erased::ErasedConnector;
use crate::api::registry::BoxConnector;
use crate::api::{BoxSource, Chunk, Rejected, Source};
use crate::data::position::{Position, Split};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};

/// A source that reads a stream of batches with these columns, such as the reading end of a channel.
///
/// The next batch is asked for when there is room for it. The end of the stream is the end of the input. An error of the
/// stream ends the job with that error and is not tried again; a job that ends or is stopped drops the stream, by which
/// the writing end of a channel hears of it. A stream can be read once: a second start of the graph is an error.
///
/// Rows that were under way are lost in a crash ([`Replay::Nothing`]); a source that can do better implements
/// [`Source`](crate::api::Source).
pub fn from_stream<S, E>(columns: SchemaRef, stream: S) -> BoxConnector
where
    S: Stream<Item = Result<RecordBatch, E>> + Send + 'static,
    E: Into<Error>,
{
    let planned = columns.clone();
    let parts = stream.map(move |batch| {
        let batch = as_planned(batch.map_err(Into::into)?, &planned, "the stream")?;
        Ok(Part { rows: batch, rejected: Vec::new() })
    });
    from_parts("stream", Ok(columns), parts)
}

/// What a stream gives at once; see [`from_parts`].
pub struct Part {
    /// Rows with the planned columns.
    pub rows: RecordBatch,
    /// Rows that could not be brought into columns.
    pub rejected: Vec<Rejected>,
}

type Parts = Pin<Box<dyn Stream<Item = Result<Part>> + Send>>;

/// A source like [`from_stream`] whose rows come in another form. Without columns it is a problem of the plan.
pub fn from_parts(
    kind: &'static str,
    columns: Result<SchemaRef, Problems>,
    parts: impl Stream<Item = Result<Part>> + Send + 'static,
) -> BoxConnector {
    BoxConnector(Arc::new(FromStream { kind, columns, parts: Mutex::new(Some(Box::pin(parts))) }))
}

struct FromStream {
    kind: &'static str,
    columns: Result<SchemaRef, Problems>,
    /// Taken by the one job that reads it.
    parts: Mutex<Option<Parts>>,
}

impl ErasedConnector for FromStream {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, false)
    }

    fn schema<'a>(&'a self, _: &'a ConnectContext) -> BoxFuture<'a, Result<SchemaRef, Problems>> {
        ready(self.columns.clone()).boxed()
    }

    fn source(&self, context: SourceContext) -> BoxFuture<'_, Result<BoxSource>> {
        let Some((split, _)) = context.splits.into_iter().next() else {
            return ready(Ok(BoxSource::new(Reading { parts: None, split: Split::new("stream"), read: 0 }))).boxed();
        };
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner).take();
        let source = match parts {
            None => Err(Error::validation("the stream has been read: a graph that reads one can be started once")),
            parts => Ok(BoxSource::new(Reading { parts, split, read: 0 })),
        };
        ready(source).boxed()
    }

    fn describe(&self) -> serde_json::Value {
        "a stream of the program".into()
    }
}

struct Reading {
    /// None for a lane that has nothing to read.
    parts: Option<Parts>,
    split: Split,
    read: u64,
}

impl Source for Reading {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(parts) = &mut self.parts else { return Ok(None) };
        let Some(part) = parts.next().await else { return Ok(None) };
        // What a stream gives after an error is anyone's guess: trying again could take an error for the end.
        let part = part.map_err(Error::permanent)?;
        self.read += 1;
        let position = Position::of(&self.read)?;
        Ok(Some(Chunk::new(part.rows, self.split.clone(), position).with_rejected(part.rejected)))
    }
}
