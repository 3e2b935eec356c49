//! The owner of a job's tasks: drives the epoch protocol, and ends the job when they end or one fails.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::future::{Either, pending, select};

use super::book::Book;
use super::channel::{Mailbox, Post, is_closed};
use super::overdue::{Late, Overdue};
use super::supervise::{Note, Supervisor};
use super::tolerance::Tolerance;
use crate::checkpoint::coordinator::{Command, Coordinator, Part, TaskId};
use crate::data::message::Epoch;
use crate::data::secret::Secrets;
use crate::data::units::Interval;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::metrics::{JobStats, nanos};

/// What the owner works with.
pub struct Owner {
    /// The protocol.
    pub coordinator: Coordinator,
    /// What each task does in it.
    pub parts: Vec<Part>,
    /// From the tasks.
    pub notes: Mailbox<Note>,
    /// To the tasks; those of stages are never used.
    pub commands: Vec<Post<Command>>,
    /// From the job's handle: stop gracefully.
    pub stop: Mailbox<()>,
    /// How often an epoch ends.
    pub epoch_every: Option<Duration>,
    /// Writes checkpoints, if the job keeps any.
    pub book: Option<Book>,
    /// Watches how long checkpoints take.
    pub overdue: Overdue,
    /// How many rows may fail.
    pub tolerance: Option<Tolerance>,
    /// The tasks.
    pub supervisor: Arc<Supervisor>,
    /// The world.
    pub env: Env,
    /// What an error must not show.
    pub secrets: Secrets,
    /// Where epochs are counted.
    pub stats: Arc<JobStats>,
}

/// The way on from a pause.
const PAUSED: &str = "the job is paused, and goes on where it stopped when it is started with a larger `budget`";

enum Heard {
    Note(Note),
    Stop,
    Time,
    /// It is time to look at the checkpoint under way.
    Late,
    Stored(Result<()>),
}

/// How far a job that keeps checkpoints has come in stopping, so that another run can go on from here.
enum Stopping {
    No,
    /// No source reads any more; the last epoch has not begun.
    Asked,
    /// It has begun.
    LastEpoch(Epoch),
    /// It is over, and the tasks are ended where they are.
    Over,
    /// No barrier can pass any more: the tasks are ended, and the checkpoint before is the last one.
    CutOff,
}

impl Owner {
    /// Runs until every task has ended.
    pub async fn run(mut self) -> Result<()> {
        let mut running = self.parts.len();
        let mut failure: Option<Error> = None;
        let mut next_epoch = self.epoch_every.map(|every| self.env.monotonic() + every);
        let mut stopping = Stopping::No;
        // Too many rows have failed, or a checkpoint too often.
        let mut gave_up = false;
        while running > 0 {
            let before = self.coordinator.epoch();
            let heard = self.hear(next_epoch, gave_up).await?;
            self.stats.stopped.fetch_or(matches!(heard, Heard::Stop), Relaxed);
            let mut commands = match heard {
                Heard::Stop if self.book.is_some() => {
                    stopping = Stopping::Asked;
                    self.sources().map(|t| (t, Command::Hold)).collect()
                }
                Heard::Stop => self.sources().map(|t| (t, Command::Drain)).collect(),
                Heard::Time => {
                    next_epoch = self.epoch_every.map(|every| self.env.monotonic() + every);
                    self.coordinator.begin()
                }
                Heard::Late => {
                    if let Err(error) = self.complain() {
                        self.supervisor.abort();
                        (failure, gave_up) = (failure.or(Some(error)), true);
                    }
                    Vec::new()
                }
                Heard::Note(Note::Saved(task, saved)) => {
                    if let Some(book) = &mut self.book {
                        book.saved(task, saved);
                    }
                    Vec::new()
                }
                Heard::Note(Note::Report(report)) => {
                    let committed = self.coordinator.committed();
                    let commands = self.coordinator.on(report);
                    self.count(committed);
                    commands
                }
                Heard::Stored(Ok(())) => {
                    let committed = self.coordinator.committed();
                    let commands = self.coordinator.stored();
                    self.count(committed);
                    commands
                }
                Heard::Stored(Err(error)) => {
                    self.supervisor.abort();
                    failure = Some(error);
                    Vec::new()
                }
                Heard::Note(Note::Ended(_, result)) => {
                    running -= 1;
                    let over = matches!(stopping, Stopping::Over | Stopping::CutOff);
                    if let Err(error) =
                        result.or_else(|e| if over && e.kind() == Kind::Canceled { Ok(()) } else { Err(e) })
                    {
                        // A neighbour's end is a consequence; its cause is on its way.
                        if !is_closed(&error) {
                            self.supervisor.abort();
                        }
                        let better = failure.as_ref().is_none_or(|f| rank(&error) > rank(f));
                        failure = if better { Some(error) } else { failure };
                    }
                    Vec::new()
                }
            };
            // Before anything of these rows is committed.
            let is_over = self.coordinator.is_last();
            if let Some(error) = self.tolerance.as_ref().and_then(|tolerance| tolerance.exceeded(is_over)) {
                self.supervisor.abort();
                commands.clear();
                (failure, self.tolerance, gave_up) = (failure.or(Some(error)), None, true);
            }
            self.go_on_stopping(&mut stopping, &mut commands);
            let cut_off = matches!(stopping, Stopping::CutOff);
            if self.coordinator.epoch() != before {
                self.overdue.begin(self.env.monotonic());
            }
            let book = self.book.as_mut().filter(|_| !gave_up && !cut_off);
            if let (Some((epoch, receipts)), Some(book)) = (self.coordinator.to_store(), book) {
                let finished = |task| self.coordinator.has_finished(task);
                book.seal(epoch, receipts, (self.coordinator.is_last(), finished), &self.env);
            }
            for (task, command) in commands {
                // A task that is gone has left a note of it.
                let _ = self.commands[task].send(command).await;
            }
        }
        if let Some(mut book) = self.book.take() {
            if failure.is_none() && !matches!(stopping, Stopping::CutOff) {
                failure = book.settle(self.coordinator.committed(), &self.env).await.err();
            }
            book.close(&self.env).await;
        }
        let paused = self.stats.paused.get().map(|why| Error::new(Kind::Budget, format!("{why}: {PAUSED}")));
        failure.or(paused).map_or(Ok(()), |error| Err(error.reworded(|text| self.secrets.conceal(text))))
    }

    /// Begins the last epoch of a job that was asked to stop, and ends the tasks behind it.
    fn go_on_stopping(&mut self, stopping: &mut Stopping, commands: &mut Vec<(TaskId, Command)>) {
        match *stopping {
            // A stage that reads nothing more waits for its answers, which do not come: what was safe before stays so.
            Stopping::Asked | Stopping::LastEpoch(_) if self.pauses() && self.has_read_all() => {
                commands.clear();
                *stopping = Stopping::CutOff;
                self.supervisor.abort();
            }
            Stopping::Asked if self.coordinator.is_idle() && !self.coordinator.is_last() => {
                commands.extend(self.coordinator.begin());
                *stopping = Stopping::LastEpoch(self.coordinator.epoch());
            }
            Stopping::LastEpoch(epoch) if self.coordinator.acknowledged() >= epoch => {
                *stopping = Stopping::Over;
                self.supervisor.abort();
            }
            _ => {}
        }
    }

    /// Says what a checkpoint waits for that takes long. To give it up and begin another one would help nobody: the next barrier
    /// comes behind the same rows.
    ///
    /// # Errors
    /// When it has taken longer than it may, too often.
    fn complain(&mut self) -> Result<()> {
        let (Some(book), Some(awaited)) = (&self.book, self.coordinator.awaited()) else { return Ok(()) };
        let now = self.env.monotonic();
        let Some(late) = self.overdue.look(now) else { return Ok(()) };
        let waited = Interval(Duration::from_secs(now.saturating_sub(self.overdue.began()).as_secs()));
        let said =
            format!("checkpoint {} has waited {waited} for {}", self.coordinator.epoch(), book.waits_for(&awaited));
        match late {
            Late::Waits => tracing::warn!("{said}; nothing is safe behind the one before it"),
            Late::TimedOut(times) => {
                self.stats.checkpoint_timeouts.fetch_add(1, Relaxed);
                tracing::warn!("{said}; that is longer than its `timeout`, for the {times}. time");
            }
            Late::TooOften(times) => {
                self.stats.checkpoint_timeouts.fetch_add(1, Relaxed);
                let message = format!(
                    "{said}, {times} times its `timeout`: it is given up, and the next run goes on behind the one before it"
                );
                return Err(Error::new(Kind::Timeout, message));
            }
        }
        Ok(())
    }

    /// Counts an epoch that has come to its end.
    fn count(&mut self, committed: Epoch) {
        if self.coordinator.committed() > committed {
            self.stats.epochs.fetch_add(1, Relaxed);
            self.stats.epoch_duration.record(nanos(self.env.monotonic().saturating_sub(self.overdue.began())));
            if let Some(book) = &mut self.book {
                book.committed(&self.env);
            }
        }
    }

    async fn hear(&mut self, next_epoch: Option<Duration>, gave_up: bool) -> Result<Heard> {
        let watches = self.book.is_some() && !gave_up && self.coordinator.awaited().is_some();
        let late_at = watches.then(|| self.overdue.at());
        let until = async |at: Option<Duration>| match at {
            Some(at) => self.env.sleep(at.saturating_sub(self.env.monotonic())).await,
            None => pending().await,
        };
        let time = async {
            match select(pin!(until(next_epoch)), pin!(until(late_at))).await {
                Either::Left(_) => Heard::Time,
                Either::Right(_) => Heard::Late,
            }
        };
        // The stop comes once; its mailbox closes when the job's handle is dropped, which is no stop.
        let stop = async {
            match self.stop.recv().await {
                Ok(()) => {}
                Err(_) => pending().await,
            }
        };
        let stored = async {
            match &mut self.book {
                Some(book) => book.stored().await,
                None => pending().await,
            }
        };
        let others = pin!(async {
            match select(pin!(stop), select(pin!(time), pin!(stored))).await {
                Either::Left(_) => Heard::Stop,
                Either::Right((Either::Left((time, _)), _)) => time,
                Either::Right((Either::Right((stored, _)), _)) => Heard::Stored(stored),
            }
        });
        match select(pin!(self.notes.recv()), others).await {
            Either::Left((note, _)) => Ok(Heard::Note(note.map_err(|_| Error::engine("the tasks' notes are closed"))?)),
            Either::Right((heard, _)) => Ok(heard),
        }
    }

    /// Whether a stage has stopped the job, since its budget is spent.
    fn pauses(&self) -> bool {
        self.stats.paused.get().is_some()
    }

    /// Whether a source has ended, so that what reads it gets no barrier from it.
    fn has_read_all(&self) -> bool {
        self.sources().any(|task| self.coordinator.has_finished(task))
    }

    fn sources(&self) -> impl Iterator<Item = TaskId> + '_ {
        self.parts.iter().enumerate().filter(|(_, p)| **p == Part::Source).map(|(t, _)| t)
    }
}

/// Which of two errors tells more of why the job ended.
fn rank(error: &Error) -> u8 {
    match error.kind() {
        Kind::Canceled if is_closed(error) => 0,
        Kind::Canceled => 1,
        _ => 2,
    }
}
