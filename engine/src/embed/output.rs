//! A sink that a program reads as a stream.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::channel::{mpsc, oneshot};
use futures::future::{BoxFuture, ready};
use futures::{FutureExt, SinkExt, Stream, StreamExt};

use crate::api::connector::{Capabilities, ConnectContext, Delivery, SinkContext};
use crate::api::erased::{ErasedConnector, JobEnd};
use crate::api::registry::BoxConnector;
use crate::api::{BoxSink, Receipt, Rejected, Sink, Written};
use crate::data::message::Epoch;
use crate::diagnostic::Problems;
use crate::error::{Error, Kind, Result};

/// A sink, and the stream of its batches.
///
/// At most two batches wait between them: a program that does not read holds the pipeline up, so read while the job runs,
/// and wait for the job behind it. The stream ends when the job has ended well; when the job fails, its error is the last
/// item. Dropping the stream before ends the job with an error of kind [`Kind::Canceled`].
pub fn into_stream() -> (BoxConnector, Batches) {
    let (sink, rows) = into_stream_of("stream", |_| Ok(()), |rows| Ok((rows.clone(), Vec::new())));
    (sink, Batches(rows))
}

/// The batches that reach a sink of a program; see [`into_stream`].
pub struct Batches(Received<RecordBatch>);

impl Stream for Batches {
    type Item = Result<RecordBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_next_unpin(cx)
    }
}

/// What a batch is for the reader, and the rows of it that can't be that.
pub type Read<M> = fn(&RecordBatch) -> Result<(M, Vec<Rejected>)>;

/// Whether a reader can take rows with these columns; asked at planning.
pub type Check = fn(&SchemaRef) -> Result<(), Problems>;

/// A sink like that of [`into_stream`], which hands what `read` makes of each batch to the stream.
pub fn into_stream_of<M: Send + 'static>(
    kind: &'static str,
    check: Check,
    read: Read<M>,
) -> (BoxConnector, Received<M>) {
    let (messages, received) = mpsc::channel(1);
    let (end, coming) = oneshot::channel();
    let open = Mutex::new(Some(messages));
    let sink = IntoStream { kind, check, read, open, end: Mutex::new(Some(end)) };
    (BoxConnector(Arc::new(sink)), Received { received, end: End::Unknown(coming) })
}

struct IntoStream<M> {
    kind: &'static str,
    check: Check,
    read: Read<M>,
    /// Taken by the lanes of the one job that writes.
    open: Mutex<Option<mpsc::Sender<M>>>,
    end: Mutex<Option<oneshot::Sender<JobEnd>>>,
}

impl<M: Send + 'static> ErasedConnector for IntoStream<M> {
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
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let messages = if context.lane + 1 == context.lanes { open.take() } else { open.clone() };
        let again = || Error::validation("the stream has been written: a graph that writes one can be started once");
        ready(messages.ok_or_else(again).map(|messages| BoxSink::new(Writing { messages, read: self.read }))).boxed()
    }

    fn describe(&self) -> serde_json::Value {
        "a stream of the program".into()
    }

    fn started(&self, job: JobEnd) {
        if let Some(end) = self.end.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // The reader may have gone before the start.
            let _ = end.send(job);
        }
    }
}

struct Writing<M> {
    messages: mpsc::Sender<M>,
    read: Read<M>,
}

impl<M: Send + 'static> Sink for Writing<M> {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let (message, rejected) = (self.read)(rows)?;
        // Not `send`, which waits until there is room for a message more.
        self.messages.feed(message).await.map_err(|_| Error::new(Kind::Canceled, "the program reads no more"))?;
        Ok(Written { rejected })
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

/// What reaches a sink of a program; see [`into_stream_of`].
pub struct Received<M> {
    received: mpsc::Receiver<M>,
    end: End,
}

enum End {
    /// No job has been started.
    Unknown(oneshot::Receiver<JobEnd>),
    /// It runs.
    Running(JobEnd),
    /// It has ended, and the error is not told yet.
    Ended(Option<Error>),
}

impl<M> Stream for Received<M> {
    type Item = Result<M>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            // Whatever has become of the job, what it has written comes first.
            if let Poll::Ready(Some(message)) = self.received.poll_next_unpin(cx) {
                return Poll::Ready(Some(Ok(message)));
            }
            self.end = match &mut self.end {
                End::Ended(error) => return Poll::Ready(error.take().map(Err)),
                End::Unknown(coming) => match coming.poll_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(job)) => End::Running(job),
                    Poll::Ready(Err(_)) => {
                        End::Ended(Some(Error::new(Kind::Canceled, "the job of this stream was never started")))
                    }
                },
                End::Running(job) => match job.poll_unpin(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(error) => End::Ended(error.as_ref().as_ref().map(Error::summary)),
                },
            };
        }
    }
}
