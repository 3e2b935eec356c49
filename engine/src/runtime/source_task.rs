//! The task of a source: reads chunks, answers the coordinator between two of them, fires acks on commit.

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use futures::future::{Either, select};
use tokio::sync::Semaphore;

use super::channel::{Mailbox, Post};
use super::dead_letter;
use super::emit::Outlets;
use super::shares::{Shares, timed};
use super::supervise::Note;
use crate::api::limits::Retries;
use crate::api::source::Ack;
use crate::api::{BoxSource, Chunk, Outage, Rejected, Source};
use crate::call::retry::{retryable, waits};
use crate::checkpoint::coordinator::{Command, Report, TaskId};
use crate::checkpoint::saved::Saved;
use crate::data::message::{Epoch, Message};
use crate::data::position::{Position, Split};
use crate::data::records::{Credit, Header, Origin, ROWS_MAX, Records, bytes_held};
use crate::data::secret::Secrets;
use crate::env::{Env, points};
use crate::error::{Error, Node, Result};
use crate::graph::OnError;
use crate::metrics::{JobStats, StageStats, Tally};
use crate::plan::DEAD_LETTERS;

/// Chunks whose ack waits for a commit; beyond it the source is not read until one has come.
const UNACKNOWLEDGED_MAX: usize = 4_096;

/// What a source task works with.
pub struct SourceTask {
    /// Its number in the plan.
    pub task: TaskId,
    /// Its id in the spec.
    pub id: Arc<str>,
    /// The source.
    pub source: BoxSource,
    /// How an earlier run had left it.
    pub before: Before,
    /// Whether its positions are saved at barriers.
    pub saves: bool,
    /// What it writes to.
    pub outlets: Outlets,
    /// From the coordinator.
    pub commands: Mailbox<Command>,
    /// To the coordinator.
    pub notes: Post<Note>,
    /// What happens to rows that can't be read.
    pub on_error: OnError,
    /// How many rows may be under way at once, shared by the lanes.
    pub admission: Option<(Arc<Semaphore>, usize)>,
    /// The counters of the lane.
    pub stats: Arc<StageStats>,
    /// The counters of the job.
    pub job: Arc<JobStats>,
    /// What dead letters must not show.
    pub secrets: Secrets,
    /// The world.
    pub env: Env,
}

/// Where an earlier run had come to.
#[derive(Default)]
pub struct Before {
    /// The epoch that it had committed.
    pub epoch: Epoch,
    /// How far the splits of this lane had been read.
    pub splits: BTreeMap<Split, Position>,
    /// Whether there was nothing more to read.
    pub finished: bool,
}

/// What belongs to the next barrier.
struct Ledger {
    /// The epoch of that barrier.
    epoch: Epoch,
    /// The acks of chunks by the epoch that they belong to.
    acks: VecDeque<(Epoch, Ack)>,
    /// How far each split has been read.
    splits: BTreeMap<Split, Position>,
    /// Whether there is nothing more to read.
    finished: bool,
}

struct Counts {
    tally: Tally,
    shares: Shares,
    progress: (u64, u64),
}

enum Read {
    Chunk(Result<Option<Chunk>>),
    Drain,
    Hold,
}

impl SourceTask {
    /// Runs until the coordinator lets it go.
    pub async fn run(mut self) -> Result<()> {
        let mut counts = Counts { tally: Tally::default(), shares: Shares::new(self.env.clone()), progress: (0, 0) };
        let before = std::mem::take(&mut self.before);
        let (acks, splits, finished) = (VecDeque::new(), before.splits, false);
        let mut ledger = Ledger { epoch: before.epoch + 1, acks, splits, finished };
        let policy = Retries { max_attempts: 6, ..Retries::default() };
        let mut backoff = waits(&policy, self.env.random());
        let outage = Outage::hiding(&self.id, &self.env, self.secrets.clone());
        ledger.finished = before.finished;
        while !ledger.finished {
            let read = self.read(&mut counts, &mut ledger).await?;
            match read {
                Read::Drain | Read::Chunk(Ok(None)) => ledger.finished = true,
                Read::Hold => {
                    self.outlets.flush(&mut counts.shares).await?;
                    self.flush(&mut counts);
                    return self.wait(&mut ledger).await;
                }
                Read::Chunk(Ok(Some(chunk))) => {
                    backoff = waits(&policy, self.env.random());
                    outage.passed();
                    self.emit(chunk, &mut counts, &mut ledger).await?;
                    if counts.shares.is_due(self.env.monotonic()) {
                        self.flush(&mut counts);
                    }
                }
                Read::Chunk(Err(error)) => {
                    let wait = if retryable(&error, &policy) { backoff.next() } else { None };
                    let Some(wait) = wait else { return Err(error.at_node(Node::Source, &self.id)) };
                    self.stats.retries.fetch_add(1, Relaxed);
                    outage.failed(&error, wait);
                    self.env.sleep(wait).await;
                    counts.shares.add_waiting(wait);
                }
            }
        }
        self.outlets.flush(&mut counts.shares).await?;
        self.flush(&mut counts);
        self.outlets.control(&Message::End)?;
        self.report(Report::Finished(self.task)).await;
        self.wait(&mut ledger).await
    }

    /// Reads no more, and obeys until the coordinator lets it go.
    async fn wait(&mut self, ledger: &mut Ledger) -> Result<()> {
        loop {
            let Ok(command) = self.commands.recv().await else { return Ok(()) };
            if command == Command::Exit {
                return Ok(());
            }
            self.obey(command, ledger).await?;
        }
    }

    /// The next chunk. The read stays pending while commands are obeyed: nothing else is ever asked of the source.
    async fn read(&mut self, counts: &mut Counts, ledger: &mut Ledger) -> Result<Read> {
        while ledger.acks.len() >= UNACKNOWLEDGED_MAX {
            match self.commands.recv().await {
                Ok(Command::Drain) | Err(_) => return Ok(Read::Drain),
                Ok(Command::Hold) => return Ok(Read::Hold),
                Ok(command) => {
                    self.outlets.flush(&mut counts.shares).await?;
                    self.obey(command, ledger).await?;
                }
            }
        }
        let Self { source, commands, outlets, notes, task, id, stats, env, saves, .. } = self;
        let mut read = pin!(timed(env, source.read()));
        let mut flushed = false;
        loop {
            // Commands come before data, so that an epoch never waits for a fast source.
            let heard = match commands.try_recv() {
                Ok(command) => Some(command),
                Err(_) if flushed => match select(pin!(commands.recv()), read.as_mut()).await {
                    Either::Left((command, _)) => command.ok(),
                    Either::Right((timed, _)) => {
                        counts.shares.add_waiting(timed.waiting);
                        counts.tally.batch(timed.busy);
                        return Ok(Read::Chunk(timed.output));
                    }
                },
                Err(_) => {
                    if let std::task::Poll::Ready(timed) = futures::poll!(read.as_mut()) {
                        counts.shares.add_waiting(timed.waiting);
                        counts.tally.batch(timed.busy);
                        return Ok(Read::Chunk(timed.output));
                    }
                    // Nothing is there: what was read and counted so far goes on before the wait.
                    outlets.flush(&mut counts.shares).await?;
                    counts.shares.flush(std::iter::once((&mut counts.tally, &*stats)));
                    flushed = true;
                    continue;
                }
            };
            match heard {
                Some(Command::Drain) | None => return Ok(Read::Drain),
                Some(Command::Hold) => return Ok(Read::Hold),
                Some(command) => {
                    outlets.flush(&mut counts.shares).await?;
                    obey(command, ledger, outlets, (notes, env), (*task, id), *saves).await?;
                }
            }
        }
    }

    async fn obey(&mut self, command: Command, ledger: &mut Ledger) -> Result<()> {
        obey(command, ledger, &self.outlets, (&self.notes, &self.env), (self.task, &self.id), self.saves).await
    }

    async fn emit(&mut self, chunk: Chunk, counts: &mut Counts, ledger: &mut Ledger) -> Result<()> {
        let Chunk { records, split, position, ack, rejected, progress, unknown_fields } = chunk;
        self.stats.unknown_fields.fetch_add(unknown_fields, Relaxed);
        ledger.acks.extend(ack.map(|a| (ledger.epoch, a)));
        if self.saves {
            ledger.splits.insert(split.clone(), position.clone());
        }
        if let Some(progress) = progress {
            self.job.input_done.fetch_add(progress.0.saturating_sub(counts.progress.0), Relaxed);
            self.job.input_total.fetch_add(progress.1.saturating_sub(counts.progress.1), Relaxed);
            counts.progress = progress;
        }
        let (ingested, origin) = (self.env.wall(), Arc::new(Origin { split, position }));
        let rows = records.num_rows();
        let refused: usize = rejected.iter().map(Rejected::count).sum();
        counts.tally.rows_in += (rows + refused) as u64;
        counts.tally.rows_rejected += refused as u64;
        counts.tally.rows_out += rows as u64;
        counts.tally.bytes_out += bytes_held(&records) as u64;
        if !rejected.is_empty() {
            match self.on_error {
                OnError::Fail => return Err(dead_letter::first_error(rejected).at_node(Node::Source, &self.id)),
                OnError::Drop => {}
                OnError::DeadLetter => {
                    let batch = dead_letter::batch(&self.id, &rejected, Some(&origin), (ingested, &self.secrets))?;
                    let header = Header { ingested, origin: Some(origin.clone()), credit: None };
                    self.outlets.send(0, DEAD_LETTERS, Records { batch, header }, &mut counts.shares).await?;
                }
            }
        }
        // With an admission the batches are a share of it, so that credits come back before the last row of all is done.
        let piece = self.admission.as_ref().map_or(ROWS_MAX, |(_, most)| most.div_ceil(16).clamp(1, ROWS_MAX));
        for start in (0..rows).step_by(piece) {
            let count = piece.min(rows - start);
            let batch = if count == rows { records.clone() } else { records.slice(start, count) };
            let credit = match &self.admission {
                None => None,
                Some((permits, most)) => {
                    let n = u32::try_from(count.min(*most)).unwrap_or(u32::MAX);
                    let permit = counts.shares.backpressured(permits.clone().acquire_many_owned(n)).await;
                    let permit = permit.map_err(|_| Error::engine("the admission is closed"))?;
                    Some(Arc::new(Credit::new(permit)))
                }
            };
            let header = Header { ingested, origin: Some(origin.clone()), credit };
            self.outlets.send(0, 0, Records { batch, header }, &mut counts.shares).await?;
        }
        Ok(())
    }

    fn flush(&self, counts: &mut Counts) {
        counts.shares.flush(std::iter::once((&mut counts.tally, &self.stats)));
    }

    async fn report(&mut self, report: Report) {
        report_to(&self.notes, report).await;
    }
}

async fn report_to(notes: &Post<Note>, report: Report) {
    // The owner is gone only when the job is.
    let _ = notes.send(Note::Report(report)).await;
}

async fn obey(
    command: Command,
    ledger: &mut Ledger,
    outlets: &Outlets,
    (notes, env): (&Post<Note>, &Env),
    (task, id): (TaskId, &str),
    saves: bool,
) -> Result<()> {
    match command {
        Command::Barrier(epoch) => {
            if saves {
                let handed = Saved { splits: ledger.splits.clone(), finished: ledger.finished, ..Saved::default() };
                // The owner is gone only when the job is.
                let _ = notes.send(Note::Saved(task, handed)).await;
            }
            if !ledger.finished {
                outlets.control(&Message::Barrier(epoch))?;
            }
            ledger.epoch = epoch + 1;
            report_to(notes, Report::Aligned(task, epoch, None)).await;
        }
        Command::Acknowledge(epoch) => {
            env.reached(points::ACKNOWLEDGE);
            while ledger.acks.front().is_some_and(|(of, _)| *of <= epoch) {
                let Some((_, ack)) = ledger.acks.pop_front() else { break };
                ack.fire().await.map_err(|e| e.context("acknowledging").at_node(Node::Source, id))?;
            }
            env.reached(points::ACKNOWLEDGED);
            report_to(notes, Report::Acknowledged(task, epoch)).await;
        }
        Command::Drain | Command::Hold | Command::Exit => {}
        Command::Prepare(_) | Command::Commit(..) | Command::Release(_) => {
            return Err(Error::engine("a command came to a source that is none of its"));
        }
    }
    Ok(())
}
