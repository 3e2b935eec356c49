//! The source: requests become chunks, whose acks become answers.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Ack, Chunk, Rejected, Source, SourceContext};
use bourn_engine::data::position::{Position, Split};
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use futures::channel::oneshot;
use futures::future::{join_all, select};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;

use super::request::{Delivery, Door, Safe};
use super::rows::Reading;
use super::{AckWhen, HttpServer, listen};
use crate::codec::json::Columns;

/// How long a commit waits for its answers to leave: those of clients that do not listen any more are not waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// Reads what was sent.
pub struct ServerSource {
    env: Env,
    queue: mpsc::Receiver<Delivery>,
    stop: watch::Sender<bool>,
    schema: SchemaRef,
    split: Split,
    /// How many requests were read.
    requests: u64,
    /// The batches of a large request that are still to come, and what comes with the last one.
    rest: VecDeque<RecordBatch>,
    last: Gathered,
    /// The listener and its connections. Acks hold them too: an answer may leave after the last read.
    tasks: Arc<JoinSet<()>>,
}

/// What belongs to some requests beside their rows.
#[derive(Default)]
struct Gathered {
    rejected: Vec<Rejected>,
    answers: Vec<oneshot::Sender<Safe>>,
}

impl ServerSource {
    pub fn start(config: &HttpServer, listener: TcpListener, split: Split, context: SourceContext) -> Self {
        let SourceContext { env, schema, .. } = context;
        // A connection has one request at a time.
        let (send, queue) = mpsc::channel(listen::CONNECTIONS_MAX);
        let (stop, stopping) = watch::channel(false);
        let door = Door {
            env: env.clone(),
            path: config.path.clone(),
            token: config.token.clone(),
            timeout: config.timeout.0,
            body_max: usize::try_from(config.max_body.0).unwrap_or(usize::MAX),
            reading: Reading {
                format: config.format,
                bad_rows: config.bad_rows,
                columns: Columns::new(schema.clone(), &[]),
            },
            committed: config.ack == AckWhen::Committed,
            room: Arc::new(Semaphore::new(usize::try_from(config.buffer.0).unwrap_or(usize::MAX))),
            queue: send,
            stopping: stopping.clone(),
        };
        let tasks = Arc::new(listen::start(listener, Arc::new(door), stopping));
        let (rest, last) = (VecDeque::new(), Gathered::default());
        Self { env, queue, stop, schema, split, requests: 0, rest, last, tasks }
    }

    /// Takes no more, and gives back what it has not read: those who sent it are told to send it again.
    fn stop(&mut self) {
        self.stop.send_replace(true);
        self.queue.close();
        while self.queue.try_recv().is_ok() {}
    }

    async fn next(&mut self) -> Result<Chunk> {
        if self.rest.is_empty() {
            let gone = || Error::engine("the listener has ended");
            let first = self.queue.recv().await.ok_or_else(gone)?;
            self.gather(first)?;
        }
        self.chunk()
    }

    /// Takes a request, and small ones behind it as far as they are there and fit into one batch.
    fn gather(&mut self, first: Delivery) -> Result<()> {
        self.take(first);
        while !self.rest.is_empty() && self.rest.iter().map(RecordBatch::num_rows).sum::<usize>() < ROWS_MAX / 2 {
            let Ok(next) = self.queue.try_recv() else { break };
            self.take(next);
        }
        let rows: usize = self.rest.iter().map(RecordBatch::num_rows).sum();
        if self.rest.len() > 1 && rows <= ROWS_MAX {
            let together = concat_batches(&self.schema, &self.rest)?;
            self.rest = VecDeque::from([together]);
        }
        Ok(())
    }

    fn take(&mut self, delivery: Delivery) {
        self.requests += 1;
        self.rest.extend(delivery.rows.batches);
        self.last.rejected.extend(delivery.rows.rejected);
        self.last.answers.extend(delivery.answer);
    }

    fn chunk(&mut self) -> Result<Chunk> {
        let records = self.rest.pop_front().unwrap_or_else(|| RecordBatch::new_empty(self.schema.clone()));
        let chunk = Chunk::new(records, self.split.clone(), Position::of(&self.requests)?);
        if !self.rest.is_empty() {
            return Ok(chunk);
        }
        // The ack comes with the last rows of a request: those before it are in this epoch or an earlier one.
        let Gathered { rejected, answers } = std::mem::take(&mut self.last);
        let chunk = chunk.with_rejected(rejected);
        if answers.is_empty() {
            return Ok(chunk);
        }
        let (env, tasks) = (self.env.clone(), self.tasks.clone());
        Ok(chunk.with_ack(Ack::new(move || async move {
            let left = answers.into_iter().filter_map(|answer| {
                let (told, left) = oneshot::channel();
                answer.send(Safe(told)).ok().map(|()| left)
            });
            // The last commit of a job must not end it before its answers have left.
            let left: Vec<_> = left.collect();
            select(join_all(left), env.sleep(PATIENCE)).await;
            drop(tasks);
            Ok(())
        })))
    }
}

impl Source for ServerSource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        // A read is dropped before its end only when the job stops.
        let mut reading = Reads { source: self, done: false };
        let chunk = pin!(reading.source.next()).await;
        reading.done = true;
        chunk.map(Some)
    }
}

/// A read under way.
struct Reads<'a> {
    source: &'a mut ServerSource,
    done: bool,
}

impl Drop for Reads<'_> {
    fn drop(&mut self) {
        if !self.done {
            self.source.stop();
        }
    }
}

impl Drop for ServerSource {
    fn drop(&mut self) {
        self.stop();
    }
}
