//! The task of a sink: writes, prepares at barriers, commits when the coordinator says so.

use std::future::pending;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{Either, select};

use super::align::{Event, Inputs};
use super::channel::{Mailbox, Post};
use super::dead_letter;
use super::emit::Outlets;
use super::shares::Shares;
use super::supervise::Note;
use crate::api::limits::Retries;
use crate::api::{BoxSink, Outage, Outcome, Receipt, Rejected, Sink, Written};
use crate::call::retry::{retryable, waits};
use crate::checkpoint::coordinator::{Command, Report, TaskId};
use crate::data::message::{Epoch, Message};
use crate::data::records::{Records, bytes_held};
use crate::data::secret::Secrets;
use crate::env::{Env, points};
use crate::error::{Error, Kind, Node, Result};
use crate::graph::OnError;
use crate::metrics::{JobStats, StageStats, Tally, nanos};
use crate::plan::DEAD_LETTERS;

/// What a sink task works with.
pub struct SinkTask {
    /// Its number in the plan.
    pub task: TaskId,
    /// Its id in the spec.
    pub id: Arc<str>,
    /// The sink.
    pub sink: BoxSink,
    /// How it is tried again.
    pub trying: Trying,
    /// What it reads.
    pub inputs: Inputs,
    /// Where its rejected rows go.
    pub outlets: Outlets,
    /// From the coordinator.
    pub commands: Mailbox<Command>,
    /// To the coordinator.
    pub notes: Post<Note>,
    /// What happens to rows that the sink does not take.
    pub on_error: OnError,
    /// The counters of the lane.
    pub stats: Arc<StageStats>,
    /// The counters of the job.
    pub job: Arc<JobStats>,
    /// What dead letters must not show.
    pub secrets: Secrets,
    /// The world.
    pub env: Env,
}

enum Heard {
    Command(Command),
    Event(Event),
    /// It may be time to wake the sink.
    Time,
}

impl SinkTask {
    /// Runs until the coordinator lets it go.
    pub async fn run(mut self) -> Result<()> {
        let mut shares = Shares::new(self.env.clone());
        let mut tally = Tally::default();
        let mut ended = false;
        loop {
            match self.next(ended, &mut shares, &mut tally).await? {
                Heard::Event(Event::Records(_, records)) => self.write(records, &mut shares, &mut tally).await?,
                Heard::Event(Event::Watermark(to)) => self.stats.event_time.advance(to),
                Heard::Event(Event::Barrier(epoch)) | Heard::Command(Command::Prepare(epoch)) => {
                    self.prepare(epoch, &mut shares, &mut tally).await?;
                }
                Heard::Event(Event::End) => {
                    ended = true;
                    shares.flush(std::iter::once((&mut tally, &self.stats)));
                    self.outlets.control(&Message::End)?;
                    self.report(Report::Finished(self.task)).await;
                }
                Heard::Time => self.wake(&mut shares, &mut tally).await?,
                Heard::Command(Command::Commit(epoch, receipt)) => self.commit(epoch, &receipt).await?,
                Heard::Command(Command::Exit) => break,
                Heard::Command(_) => return Err(Error::engine("a source's command came to a sink")),
            }
        }
        self.env.reached(points::FINISH);
        self.sink.finish().await.map_err(|e| e.at_node(Node::Sink, &self.id))?;
        self.env.reached(points::FINISHED);
        shares.flush(std::iter::once((&mut tally, &self.stats)));
        Ok(())
    }

    async fn next(&mut self, ended: bool, shares: &mut Shares, tally: &mut Tally) -> Result<Heard> {
        if let Ok(command) = self.commands.try_recv() {
            return Ok(Heard::Command(command));
        }
        let wake_at = self.sink.wake_at().filter(|_| !ended);
        if wake_at.is_some_and(|at| at <= self.env.monotonic()) {
            return Ok(Heard::Time);
        }
        if !ended && let Some(event) = self.inputs.try_next()? {
            return Ok(Heard::Event(event));
        }
        shares.flush(std::iter::once((tally, &self.stats)));
        let gone = |_| Error::new(Kind::Canceled, "the job's owner is gone");
        if ended {
            return self.commands.recv().await.map(Heard::Command).map_err(gone);
        }
        let wait = wake_at.map(|at| at.saturating_sub(self.env.monotonic()).min(Duration::from_mins(1)));
        let time = wait.map_or_else(|| pending().boxed(), |wait| self.env.sleep(wait));
        match select(pin!(self.commands.recv()), select(pin!(self.inputs.next()), time)).await {
            Either::Left((command, _)) => command.map(Heard::Command).map_err(gone),
            Either::Right((Either::Left((event, _)), _)) => event.map(Heard::Event),
            Either::Right((Either::Right(_), _)) => Ok(Heard::Time),
        }
    }

    /// Wakes the sink, unless its time is far off and waited for in parts.
    async fn wake(&mut self, shares: &mut Shares, tally: &mut Tally) -> Result<()> {
        if self.sink.wake_at().is_some_and(|at| at <= self.env.monotonic()) {
            shares.outside(tally, self.sink.tick()).await.map_err(|e| e.at_node(Node::Sink, &self.id))?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        Records { batch, header }: Records,
        shares: &mut Shares,
        tally: &mut Tally,
    ) -> Result<()> {
        let rows = batch.num_rows();
        tally.rows_in += rows as u64;
        tally.bytes_in += bytes_held(&batch) as u64;
        let start = self.env.monotonic();
        let written = shares.outside(tally, write_or_retry(&mut self.sink, &batch, &self.trying)).await;
        let now = self.env.monotonic();
        tally.latency.record(nanos(now.saturating_sub(start)));
        let rejected = match written {
            Ok(Written { rejected }) => rejected,
            // A sink that can't write at all is the job's problem; one that can't write these rows is theirs.
            Err(error) if error.kind() == Kind::Validation => vec![Rejected::rows(batch, error)],
            Err(error) => return Err(error.at_node(Node::Sink, &self.id)),
        };
        let refused: usize = rejected.iter().map(Rejected::count).sum();
        tally.rows_rejected += refused as u64;
        tally.rows_out += rows.saturating_sub(refused) as u64;
        self.job.latency.record(nanos(self.env.wall().since(header.ingested)));
        if shares.is_due(now) {
            shares.flush(std::iter::once((&mut *tally, &self.stats)));
        }
        if rejected.is_empty() {
            return Ok(());
        }
        match self.on_error {
            OnError::Fail => {
                let error = dead_letter::first_error(rejected).at_node(Node::Sink, &self.id);
                Err(dead_letter::placed(error, header.origin.as_deref()))
            }
            OnError::Drop => Ok(()),
            OnError::DeadLetter => {
                let batch = dead_letter::batch(
                    &self.id,
                    &rejected,
                    header.origin.as_deref(),
                    (self.env.wall(), &self.secrets),
                )?;
                self.outlets.send(0, DEAD_LETTERS, Records { batch, header }, shares).await
            }
        }
    }

    async fn prepare(&mut self, epoch: Epoch, shares: &mut Shares, tally: &mut Tally) -> Result<()> {
        self.env.reached(points::PREPARE);
        let receipt =
            shares.outside(tally, self.sink.prepare(epoch)).await.map_err(|e| e.at_node(Node::Sink, &self.id))?;
        self.env.reached(points::PREPARED);
        // The dead letters of this sink belong to the same epoch. After its end the edge has nothing to align any more.
        self.barrier(epoch)?;
        self.report(Report::Aligned(self.task, epoch, receipt)).await;
        Ok(())
    }

    fn barrier(&self, epoch: Epoch) -> Result<()> {
        if self.inputs.is_over() { Ok(()) } else { self.outlets.control(&Message::Barrier(epoch)) }
    }

    async fn commit(&mut self, epoch: Epoch, receipt: &Receipt) -> Result<()> {
        self.env.reached(points::COMMIT);
        commit(&mut self.sink, receipt, &self.trying).await.map_err(|e| e.at_node(Node::Sink, &self.id))?;
        self.env.reached(points::COMMITTED);
        self.report(Report::Committed(self.task, epoch)).await;
        Ok(())
    }

    async fn report(&mut self, report: Report) {
        // The owner is gone only when the job is.
        let _ = self.notes.send(Note::Report(report)).await;
    }
}

/// Commits, and asks again until the sink says that it has.
///
/// # Errors
/// When it has thrown the rows away, or can't tell.
pub async fn commit(sink: &mut BoxSink, receipt: &Receipt, trying: &Trying) -> Result<()> {
    let mut waits = waits(&Retries { max_attempts: 6, ..Retries::default() }, trying.env.random());
    loop {
        let unsure = match sink.commit(receipt).await {
            Ok(Outcome::Committed) => {
                trying.outage.passed();
                return Ok(());
            }
            Ok(Outcome::Aborted) => return Err(Error::engine("the sink has thrown away what it had prepared")),
            Ok(Outcome::Unknown) => {
                Error::new(Kind::Io, "the outcome of a commit is unknown: it is not taken for a success")
            }
            Err(e) if retryable(&e, &Retries::default()) => e,
            Err(e) => return Err(e),
        };
        let Some(wait) = waits.next() else { return Err(unsure) };
        trying.outage.failed(&unsure, wait);
        trying.env.sleep(wait).await;
    }
}

/// What it takes to try again.
#[derive(Clone)]
pub struct Trying {
    /// The world.
    pub env: Env,
    /// Where it is told that nothing helps for a while.
    pub outage: Outage,
    /// Where tries are counted.
    pub stats: Arc<StageStats>,
}

/// Writes, and tries again what may pass later.
pub async fn write_or_retry(
    sink: &mut BoxSink,
    batch: &arrow::record_batch::RecordBatch,
    trying: &Trying,
) -> Result<Written> {
    let policy = Retries { max_attempts: 6, ..Retries::default() };
    let mut backoff = None;
    loop {
        match sink.write(batch).await {
            Err(error) if retryable(&error, &policy) => {
                let waits = backoff.get_or_insert_with(|| waits(&policy, trying.env.random()));
                let Some(wait) = waits.next() else { return Err(error) };
                trying.stats.retries.fetch_add(1, Relaxed);
                trying.outage.failed(&error, wait);
                trying.env.sleep(wait).await;
            }
            written => {
                if written.is_ok() {
                    trying.outage.passed();
                }
                return written;
            }
        }
    }
}
