//! A sink from a `futures::Sink` of a program.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, SinkExt};

use super::output::{Check, Read};
use crate::api::connector::{Capabilities, ConnectContext, Delivery, SinkContext};
use crate::api::erased::ErasedConnector;
use crate::api::registry::BoxConnector;
use crate::api::{BoxSink, Receipt, Sink, Written};
use crate::data::message::Epoch;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};

/// A sink that writes its batches into `sink`, such as the writing end of a channel.
///
/// It waits until `sink` is ready, flushes it at the end of each epoch and closes it behind the last one. An error of
/// `sink` ends the job with that error and is not tried again; a job that fails drops `sink` unclosed. It has one lane and
/// can be written by one job.
pub fn into_sink<S>(sink: S) -> BoxConnector
where
    S: futures::Sink<RecordBatch> + Send + 'static,
    S::Error: Into<Error>,
{
    into_sink_of("sink", |_| Ok(()), |rows| Ok((vec![rows.clone()], Vec::new())), sink)
}

type Writer<M> = Pin<Box<dyn futures::Sink<M, Error = Error> + Send>>;

/// A sink like [`into_sink`], which writes what `read` makes of each batch, item by item.
pub fn into_sink_of<M, S>(kind: &'static str, check: Check, read: Read<Vec<M>>, sink: S) -> BoxConnector
where
    M: Send + 'static,
    S: futures::Sink<M> + Send + 'static,
    S::Error: Into<Error>,
{
    let sink: Writer<M> = Box::pin(sink.sink_map_err(Into::into));
    BoxConnector(Arc::new(IntoSink { kind, check, read, sink: Mutex::new(Some(sink)) }))
}

struct IntoSink<M> {
    kind: &'static str,
    check: Check,
    read: Read<Vec<M>>,
    /// Taken by the one job that writes.
    sink: Mutex<Option<Writer<M>>>,
}

impl<M: Send + 'static> ErasedConnector for IntoSink<M> {
    fn kind(&self) -> &'static str {
        self.kind
    }

    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }

    fn check_sink<'a>(&'a self, schema: &'a SchemaRef, _: &'a ConnectContext) -> BoxFuture<'a, Result<(), Problems>> {
        ready((self.check)(schema)).boxed()
    }

    fn sink(&self, context: SinkContext) -> BoxFuture<'_, Result<BoxSink>> {
        if context.lanes > 1 {
            return ready(Err(Error::unsupported("a sink of the program has one lane"))).boxed();
        }
        let sink = self.sink.lock().unwrap_or_else(PoisonError::into_inner).take();
        let again = || Error::validation("the sink has been written: a graph that writes one can be started once");
        ready(sink.ok_or_else(again).map(|sink| BoxSink::new(Writing { sink, read: self.read }))).boxed()
    }

    fn describe(&self) -> serde_json::Value {
        "a sink of the program".into()
    }
}

struct Writing<M> {
    sink: Writer<M>,
    read: Read<Vec<M>>,
}

impl<M: Send + 'static> Sink for Writing<M> {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let (messages, rejected) = (self.read)(rows)?;
        for message in messages {
            // Whether a failed sink holds the message is anyone's guess: trying again could write it twice.
            self.sink.feed(message).await.map_err(Error::permanent)?;
        }
        Ok(Written { rejected })
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        self.sink.flush().await.map_err(Error::permanent)?;
        Ok(None)
    }

    async fn finish(&mut self) -> Result<()> {
        self.sink.close().await.map_err(Error::permanent)
    }
}
