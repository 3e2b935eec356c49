//! Sources and sinks of structs.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{columns, values};

use bourn_engine::api::Rejected;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::diagnostic::Problems;
use bourn_engine::embed::{Part, Received, from_parts, into_sink_of, into_stream_of};
use bourn_engine::{Error, Result};

/// A source that reads a stream of values of `T`, whose fields are the columns.
///
/// The rows that are there at once make a batch; the first of them never waits for more. Otherwise as
/// [`from_stream`](bourn_engine::embed::from_stream). A value that does not fit the columns goes where `on_error` says, alone.
pub fn from_rows<T, S, E>(stream: S) -> BoxConnector
where
    T: Serialize + DeserializeOwned + Send + 'static,
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<Error> + Send + 'static,
{
    rows(columns::of::<T>(), stream)
}

/// The same with the columns said, for a `T` whose type does not say them.
pub fn from_rows_as<T, S, E>(columns: SchemaRef, stream: S) -> BoxConnector
where
    T: Serialize + Send + 'static,
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<Error> + Send + 'static,
{
    rows(Ok(columns), stream)
}

fn rows<T, S, E>(columns: Result<SchemaRef, Problems>, stream: S) -> BoxConnector
where
    T: Serialize + Send + 'static,
    S: Stream<Item = Result<T, E>> + Send + 'static,
    E: Into<Error> + Send + 'static,
{
    let planned = columns.clone();
    let parts = stream.ready_chunks(ROWS_MAX).flat_map(move |chunk| {
        let mut good = Vec::with_capacity(chunk.len());
        let mut fault = None;
        for row in chunk {
            match row {
                Ok(row) => good.push(row),
                // The job ends here; what came before is still to be read.
                Err(error) => {
                    fault = Some(Err(error.into()));
                    break;
                }
            }
        }
        let part = planned.clone().map_err(Error::from).and_then(|columns| part(&good, &columns));
        futures::stream::iter([part].into_iter().chain(fault))
    });
    from_parts("rows", columns, parts)
}

fn part<T: Serialize>(values: &[T], columns: &SchemaRef) -> Result<Part> {
    let (rows, faults) = values::write(values, columns)?;
    let rejected = faults.into_iter().map(|(n, error)| {
        let text = serde_json::to_string(&values[n]).unwrap_or_else(|e| format!("a row without a JSON form: {e}"));
        Rejected::text(text, error)
    });
    Ok(Part { rows, rejected: rejected.collect() })
}

/// A sink, and the stream of its rows as values of `T`.
///
/// As [`into_stream`](bourn_engine::embed::into_stream). A row that is no `T` goes where `on_error` says, alone; a column that `T`
/// can't do without and the rows do not have is a problem of the plan.
pub fn into_rows<T: DeserializeOwned + Send + 'static>() -> (BoxConnector, Rows<T>) {
    let (sink, received) = into_stream_of("rows", columns::check::<T>, read::<T>);
    (sink, Rows { received, ready: VecDeque::new() })
}

/// A sink that writes its rows, as values of `T`, into `sink`: as [`into_sink`](bourn_engine::embed::into_sink).
pub fn into_row_sink<T, S>(sink: S) -> BoxConnector
where
    T: DeserializeOwned + Send + 'static,
    S: futures::Sink<T> + Send + 'static,
    S::Error: Into<Error>,
{
    into_sink_of("row_sink", columns::check::<T>, read::<T>, sink)
}

fn read<T: DeserializeOwned>(rows: &RecordBatch) -> Result<(Vec<T>, Vec<Rejected>)> {
    let (mut good, mut rejected) = (Vec::with_capacity(rows.num_rows()), Vec::new());
    for (n, row) in values::read::<T>(rows)?.into_iter().enumerate() {
        match row {
            Ok(row) => good.push(row),
            Err(error) => rejected.push(Rejected::rows(rows.slice(n, 1), error)),
        }
    }
    Ok((good, rejected))
}

/// The rows that reach a sink of a program; see [`into_rows`].
pub struct Rows<T> {
    received: Received<Vec<T>>,
    ready: VecDeque<T>,
}

// No row is ever pinned.
impl<T> Unpin for Rows<T> {}

impl<T> Stream for Rows<T> {
    type Item = Result<T>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(row) = self.ready.pop_front() {
                return Poll::Ready(Some(Ok(row)));
            }
            match self.received.poll_next_unpin(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(Some(Ok(rows))) => self.ready = rows.into(),
            }
        }
    }
}
