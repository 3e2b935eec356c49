//! The epoch protocol as a state machine: reports of tasks in, commands to tasks out. It has no clock and no channel.
//!
//! Epoch n begins with a barrier to every source. Each task reports once the barrier has passed it, sinks with the receipt
//! of what they prepared. When all have reported, sinks commit; when all have committed, sources acknowledge. One epoch is
//! under way at a time. A task whose inputs have all ended has finished: it takes part without a barrier in its stream. The
//! last epoch begins when every task has finished, and when it is over the tasks may go.

use std::collections::{BTreeMap, BTreeSet};

use crate::api::Receipt;
use crate::data::message::Epoch;

/// The number of a task in the plan.
pub type TaskId = usize;

/// What a task does in the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// It puts barriers into its stream, and acknowledges.
    Source,
    /// It aligns and forwards barriers.
    Stage,
    /// It prepares and commits.
    Sink,
}

/// What a task says to the coordinator.
#[derive(Clone, Debug, PartialEq)]
pub enum Report {
    /// The barrier has passed, or a finished task was asked; a sink adds the receipt of what it prepared.
    Aligned(TaskId, Epoch, Option<Receipt>),
    /// The receipt of this epoch is committed.
    Committed(TaskId, Epoch),
    /// The acks of this epoch have fired.
    Acknowledged(TaskId, Epoch),
    /// All inputs have ended, and what was left to say has left.
    Finished(TaskId),
}

/// What the coordinator says to a task.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To a source: put the barrier into your stream between two chunks, or report at once if you have finished.
    Barrier(Epoch),
    /// To a sink that has finished: prepare what you hold.
    Prepare(Epoch),
    /// To a sink: make this visible.
    Commit(Epoch, Receipt),
    /// To a source: every sink has committed the rows of this epoch.
    Acknowledge(Epoch),
    /// To a source: read no more; what was read drains.
    Drain,
    /// To a source or sink: the last epoch is over.
    Exit,
}

#[derive(Debug)]
enum Phase {
    Idle,
    Aligning { waiting: BTreeSet<TaskId>, receipts: BTreeMap<TaskId, Receipt> },
    Committing { waiting: BTreeSet<TaskId> },
    Acknowledging { waiting: BTreeSet<TaskId> },
    Over,
}

/// The state of the protocol.
#[derive(Debug)]
pub struct Coordinator {
    parts: Vec<Part>,
    finished: Vec<bool>,
    epoch: Epoch,
    last: bool,
    phase: Phase,
}

impl Coordinator {
    /// Before the first epoch of these tasks.
    pub fn new(parts: Vec<Part>) -> Self {
        Self { finished: vec![false; parts.len()], parts, epoch: 0, last: false, phase: Phase::Idle }
    }

    /// The epoch under way, or the last one that was.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Whether no epoch is under way and another may begin.
    pub fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether the last epoch has ended.
    pub fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }

    /// Begins an epoch, unless one is under way.
    pub fn begin(&mut self) -> Vec<(TaskId, Command)> {
        if !self.is_idle() {
            return Vec::new();
        }
        self.epoch += 1;
        self.last = self.finished.iter().all(|f| *f);
        let mut commands = Vec::new();
        let mut waiting = BTreeSet::new();
        for (task, part) in self.parts.iter().enumerate() {
            match part {
                Part::Source => commands.push((task, Command::Barrier(self.epoch))),
                Part::Sink if self.finished[task] => commands.push((task, Command::Prepare(self.epoch))),
                // A stage that has finished holds nothing that could change.
                Part::Stage if self.finished[task] => continue,
                Part::Stage | Part::Sink => {}
            }
            waiting.insert(task);
        }
        self.phase = Phase::Aligning { waiting, receipts: BTreeMap::new() };
        commands.extend(self.proceed());
        commands
    }

    /// Takes a report. One that belongs to no epoch under way is ignored.
    pub fn on(&mut self, report: Report) -> Vec<(TaskId, Command)> {
        let mut commands = Vec::new();
        match (report, &mut self.phase) {
            (Report::Aligned(task, epoch, receipt), Phase::Aligning { waiting, receipts })
                if epoch == self.epoch && waiting.contains(&task) =>
            {
                waiting.remove(&task);
                receipts.extend(receipt.map(|r| (task, r)));
            }
            (Report::Committed(task, epoch), Phase::Committing { waiting })
            | (Report::Acknowledged(task, epoch), Phase::Acknowledging { waiting })
                if epoch == self.epoch =>
            {
                waiting.remove(&task);
            }
            (Report::Finished(task), phase) => {
                self.finished[task] = true;
                if let Phase::Aligning { waiting, .. } = phase
                    && waiting.contains(&task)
                {
                    // Its inputs ended before the barrier came by: no barrier will.
                    match self.parts[task] {
                        Part::Sink => commands.push((task, Command::Prepare(self.epoch))),
                        Part::Stage => {
                            waiting.remove(&task);
                        }
                        // A source answers its command whether it has finished or not.
                        Part::Source => {}
                    }
                }
            }
            _ => {}
        }
        commands.extend(self.proceed());
        commands
    }

    /// Moves on as far as the reports allow.
    fn proceed(&mut self) -> Vec<(TaskId, Command)> {
        let mut commands = Vec::new();
        loop {
            match &mut self.phase {
                Phase::Aligning { waiting, receipts } if waiting.is_empty() => {
                    // Here the manifest becomes durable, before the first commit.
                    let receipts = std::mem::take(receipts);
                    let waiting = receipts.keys().copied().collect();
                    commands.extend(receipts.into_iter().map(|(t, r)| (t, Command::Commit(self.epoch, r))));
                    self.phase = Phase::Committing { waiting };
                }
                Phase::Committing { waiting } if waiting.is_empty() => {
                    let sources = self.tasks(|p| p == Part::Source);
                    commands.extend(sources.iter().map(|t| (*t, Command::Acknowledge(self.epoch))));
                    self.phase = Phase::Acknowledging { waiting: sources };
                }
                Phase::Acknowledging { waiting } if waiting.is_empty() => {
                    if self.last {
                        self.phase = Phase::Over;
                        commands.extend(self.tasks(|p| p != Part::Stage).into_iter().map(|t| (t, Command::Exit)));
                    } else {
                        self.phase = Phase::Idle;
                    }
                }
                Phase::Idle if self.finished.iter().all(|f| *f) => {
                    commands.extend(self.begin());
                    return commands;
                }
                _ => return commands,
            }
        }
    }

    fn tasks(&self, of: impl Fn(Part) -> bool) -> BTreeSet<TaskId> {
        self.parts.iter().enumerate().filter(|(_, p)| of(**p)).map(|(t, _)| t).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: TaskId = 0;
    const STAGE: TaskId = 1;
    const SINK: TaskId = 2;

    fn coordinator() -> Coordinator {
        Coordinator::new(vec![Part::Source, Part::Stage, Part::Sink])
    }

    fn receipt() -> Receipt {
        Receipt::of(&"part-1").unwrap()
    }

    #[test]
    fn sinks_commit_only_when_every_task_has_reported_and_sources_acknowledge_after_that() {
        let mut c = coordinator();
        assert_eq!(c.begin(), [(SOURCE, Command::Barrier(1))]);
        assert_eq!(c.begin(), []);
        assert_eq!(c.on(Report::Aligned(SOURCE, 1, None)), []);
        assert_eq!(c.on(Report::Aligned(SINK, 1, Some(receipt()))), []);
        assert_eq!(c.on(Report::Aligned(STAGE, 1, None)), [(SINK, Command::Commit(1, receipt()))]);
        assert_eq!(c.on(Report::Committed(SINK, 0)), []);
        assert_eq!(c.on(Report::Committed(SINK, 1)), [(SOURCE, Command::Acknowledge(1))]);
        assert!(!c.is_idle());
        assert_eq!(c.on(Report::Acknowledged(SOURCE, 1)), []);
        assert!(c.is_idle());
    }

    #[test]
    fn a_task_that_finishes_while_an_epoch_is_under_way_still_takes_part() {
        let mut c = coordinator();
        c.begin();
        c.on(Report::Finished(SOURCE));
        c.on(Report::Aligned(SOURCE, 1, None));
        assert_eq!(c.on(Report::Finished(STAGE)), []);
        assert_eq!(c.on(Report::Finished(SINK)), [(SINK, Command::Prepare(1))]);
        assert_eq!(c.on(Report::Aligned(SINK, 1, None)), [(SOURCE, Command::Acknowledge(1))]);
        // That was not yet the last one: it began before the tasks had finished.
        let last = c.on(Report::Acknowledged(SOURCE, 1));
        assert_eq!(last, [(SOURCE, Command::Barrier(2)), (SINK, Command::Prepare(2))]);
        c.on(Report::Aligned(SOURCE, 2, None));
        c.on(Report::Aligned(SINK, 2, None));
        let exit = c.on(Report::Acknowledged(SOURCE, 2));
        assert_eq!(exit, [(SOURCE, Command::Exit), (SINK, Command::Exit)]);
        assert!(c.is_over());
    }
}
