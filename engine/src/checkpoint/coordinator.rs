//! The epoch protocol as a state machine: reports of tasks in, commands to tasks out. It has no clock and no channel.
//!
//! Epoch n begins with a barrier to every source. Each task reports once the barrier has passed it, sinks with the receipt
//! of what they prepared. When all have reported, sinks commit; when all have committed, sources acknowledge. One epoch is
//! under way at a time, in each group: a branch behind a spool lags behind the others, with its own epoch under way, and
//! what every group has committed is acknowledged. A task whose inputs have all ended has finished: it takes part without a barrier in its stream. The
//! last epoch begins when every task has finished, and when it is over the tasks may go.

use std::collections::{BTreeMap, BTreeSet};

pub use super::protocol::{Command, Part, Report, TaskId};
use crate::api::Receipt;
use crate::data::message::Epoch;

#[derive(Debug)]
enum Phase {
    Idle,
    Aligning {
        waiting: BTreeSet<TaskId>,
        receipts: BTreeMap<TaskId, Receipt>,
    },
    /// The checkpoint is being written; whether its owner knows.
    Storing {
        receipts: BTreeMap<TaskId, Receipt>,
        told: bool,
    },
    Committing {
        waiting: BTreeSet<TaskId>,
    },
}

/// Tasks that go from epoch to epoch together.
#[derive(Debug)]
struct Group {
    /// The epoch under way, or the last one that was.
    epoch: Epoch,
    phase: Phase,
}

impl Group {
    fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    fn committed(&self) -> Epoch {
        if self.is_idle() { self.epoch } else { self.epoch.saturating_sub(1) }
    }
}

/// Which tasks go from epoch to epoch together. An isolated branch lags behind the others; what divides it from them are
/// its spools.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    /// The group of each task, by number. Group 0 has the sources. A spool belongs to what it reads.
    pub of: Vec<usize>,
    /// Spools, and the group that each feeds.
    pub spools: Vec<(TaskId, usize)>,
}

/// What an epoch waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Awaited {
    /// The barriers of these tasks.
    Barriers(Vec<TaskId>),
    /// The store of the checkpoints.
    Store,
    /// The commits of these sinks.
    Commits(Vec<TaskId>),
}

/// The state of the protocol.
#[derive(Debug)]
pub struct Coordinator {
    parts: Vec<Part>,
    finished: Vec<bool>,
    divided: Groups,
    groups: Vec<Group>,
    acknowledged: Epoch,
    /// Sources whose acks are firing, and the epoch up to which.
    acknowledging: Option<(Epoch, BTreeSet<TaskId>)>,
    last: bool,
    over: bool,
    /// Whether an epoch is written before it is committed.
    stores: bool,
}

impl Coordinator {
    /// Before the first epoch of these tasks, which go together.
    pub fn new(parts: Vec<Part>) -> Self {
        let together = Groups { of: vec![0; parts.len()], spools: Vec::new() };
        Self::divided(parts, together)
    }

    /// Before the first epoch of these tasks.
    pub fn divided(parts: Vec<Part>, divided: Groups) -> Self {
        let count = divided.of.iter().max().map_or(1, |most| most + 1);
        Self {
            finished: vec![false; parts.len()],
            parts,
            divided,
            groups: (0..count).map(|_| Group { epoch: 0, phase: Phase::Idle }).collect(),
            acknowledged: 0,
            acknowledging: None,
            last: false,
            over: false,
            stores: false,
        }
    }

    /// The same behind an epoch that was committed by an earlier run.
    #[must_use]
    pub fn behind(mut self, epoch: Epoch) -> Self {
        self.groups.iter_mut().for_each(|g| g.epoch = epoch);
        Self { acknowledged: epoch, ..self }
    }

    /// The same with a store: an epoch that every task has reported waits for [`Coordinator::stored`] before it is
    /// committed.
    #[must_use]
    pub fn storing(self) -> Self {
        Self { stores: true, ..self }
    }

    /// The newest epoch that has begun.
    pub fn epoch(&self) -> Epoch {
        self.groups[0].epoch
    }

    /// The newest epoch that the sinks have committed, those of isolated branches excepted.
    pub fn committed(&self) -> Epoch {
        self.groups[0].committed()
    }

    /// The newest epoch that sources have acknowledged.
    pub fn acknowledged(&self) -> Epoch {
        self.acknowledged
    }

    /// What the epoch under way waits for; nothing when there is none.
    pub fn awaited(&self) -> Option<Awaited> {
        let tasks = |waiting: &BTreeSet<TaskId>| waiting.iter().copied().collect();
        match &self.groups[0].phase {
            Phase::Idle => None,
            Phase::Aligning { waiting, .. } => Some(Awaited::Barriers(tasks(waiting))),
            Phase::Storing { .. } => Some(Awaited::Store),
            Phase::Committing { waiting } => Some(Awaited::Commits(tasks(waiting))),
        }
    }

    /// Whether the epoch under way is the last one.
    pub fn is_last(&self) -> bool {
        self.last
    }

    /// Whether a task has said all that it had to say.
    pub fn has_finished(&self, task: TaskId) -> bool {
        self.finished[task]
    }

    /// The epoch that must be written now, with the receipts of its sinks. It is told once.
    pub fn to_store(&mut self) -> Option<(Epoch, BTreeMap<TaskId, Receipt>)> {
        let group = &mut self.groups[0];
        match &mut group.phase {
            Phase::Storing { receipts, told } if !*told => {
                *told = true;
                Some((group.epoch, receipts.clone()))
            }
            _ => None,
        }
    }

    /// The epoch of [`Coordinator::to_store`] is written.
    pub fn stored(&mut self) -> Vec<(TaskId, Command)> {
        let mut commands = Vec::new();
        if let Phase::Storing { receipts, .. } = &mut self.groups[0].phase {
            let receipts = std::mem::take(receipts);
            commit(&mut self.groups[0], receipts, &mut commands);
        }
        commands.extend(self.proceed());
        commands
    }

    /// Whether another epoch may begin: none is under way, but for those that isolated branches lag behind with.
    pub fn is_idle(&self) -> bool {
        !self.over && self.groups[0].is_idle() && self.acknowledging.is_none()
    }

    /// Whether the last epoch has ended.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Begins an epoch, unless one is under way.
    pub fn begin(&mut self) -> Vec<(TaskId, Command)> {
        if !self.is_idle() {
            return Vec::new();
        }
        let mut commands = self.begin_group(0);
        commands.extend(self.proceed());
        commands
    }

    /// Begins the next epoch of a group.
    fn begin_group(&mut self, number: usize) -> Vec<(TaskId, Command)> {
        let epoch = self.groups[number].epoch + 1;
        let feeding = self.divided.spools.iter().filter(|(_, fed)| *fed == number);
        let mut commands: Vec<_> = feeding.map(|(spool, _)| (*spool, Command::Release(epoch))).collect();
        let mut waiting = BTreeSet::new();
        for (task, part) in self.parts.iter().enumerate().filter(|(t, _)| self.divided.of[*t] == number) {
            match part {
                Part::Source => commands.push((task, Command::Barrier(epoch))),
                Part::Sink if self.finished[task] => commands.push((task, Command::Prepare(epoch))),
                // A stage that has finished holds nothing that could change.
                Part::Stage if self.finished[task] => continue,
                Part::Stage | Part::Sink => {}
            }
            waiting.insert(task);
        }
        self.groups[number] = Group { epoch, phase: Phase::Aligning { waiting, receipts: BTreeMap::new() } };
        commands
    }

    /// Takes a report. One that belongs to no epoch under way is ignored.
    pub fn on(&mut self, report: Report) -> Vec<(TaskId, Command)> {
        let mut commands = Vec::new();
        match report {
            Report::Aligned(task, epoch, receipt) => {
                let group = &mut self.groups[self.divided.of[task]];
                if let Phase::Aligning { waiting, receipts } = &mut group.phase
                    && epoch == group.epoch
                    && waiting.remove(&task)
                {
                    receipts.extend(receipt.map(|r| (task, r)));
                }
            }
            Report::Committed(task, epoch) => {
                let group = &mut self.groups[self.divided.of[task]];
                if let Phase::Committing { waiting } = &mut group.phase
                    && epoch == group.epoch
                {
                    waiting.remove(&task);
                }
            }
            Report::Acknowledged(task, epoch) => {
                if let Some((_, waiting)) = self.acknowledging.as_mut().filter(|(of, _)| *of == epoch) {
                    waiting.remove(&task);
                }
            }
            Report::Finished(task) => {
                self.finished[task] = true;
                let group = &mut self.groups[self.divided.of[task]];
                if let Phase::Aligning { waiting, .. } = &mut group.phase
                    && waiting.contains(&task)
                {
                    // Its inputs ended before the barrier came by: no barrier will.
                    match self.parts[task] {
                        Part::Sink => commands.push((task, Command::Prepare(group.epoch))),
                        Part::Stage => {
                            waiting.remove(&task);
                        }
                        // A source answers its command whether it has finished or not.
                        Part::Source => {}
                    }
                }
            }
        }
        commands.extend(self.proceed());
        commands
    }

    /// Moves on as far as the reports allow.
    fn proceed(&mut self) -> Vec<(TaskId, Command)> {
        let mut commands = Vec::new();
        loop {
            let before = commands.len();
            let mut moved = false;
            for number in 0..self.groups.len() {
                moved |= self.proceed_group(number, &mut commands);
            }
            moved |= self.acknowledge(&mut commands);
            let all_finished = self.is_idle() && self.finished.iter().all(|f| *f);
            if all_finished && self.groups.iter().all(|g| g.committed() == self.epoch()) && !self.last {
                self.last = true;
                commands.extend(self.begin_group(0));
            }
            if !moved && commands.len() == before {
                return commands;
            }
        }
    }

    fn proceed_group(&mut self, number: usize, commands: &mut Vec<(TaskId, Command)>) -> bool {
        let newest = self.epoch();
        let group = &mut self.groups[number];
        match &mut group.phase {
            Phase::Aligning { waiting, receipts } if waiting.is_empty() => {
                let receipts = std::mem::take(receipts);
                if self.stores {
                    // The manifest becomes durable before the first commit.
                    group.phase = Phase::Storing { receipts, told: false };
                } else {
                    commit(group, receipts, commands);
                }
                true
            }
            Phase::Committing { waiting } if waiting.is_empty() => {
                group.phase = Phase::Idle;
                true
            }
            Phase::Idle if group.epoch < newest => {
                commands.extend(self.begin_group(number));
                true
            }
            _ => false,
        }
    }

    /// Acknowledges what every group has committed, isolated branches too: a row is safe when it is safe everywhere.
    fn acknowledge(&mut self, commands: &mut Vec<(TaskId, Command)>) -> bool {
        if let Some((epoch, _)) = self.acknowledging.take_if(|(_, waiting)| waiting.is_empty()) {
            self.acknowledged = epoch;
            if self.last && epoch == self.epoch() {
                self.over = true;
                commands.extend(self.tasks(|p| p != Part::Stage).into_iter().map(|t| (t, Command::Exit)));
            }
            return true;
        }
        let everywhere = self.groups.iter().map(Group::committed).min().unwrap_or_default();
        if self.acknowledging.is_some() || everywhere == self.acknowledged {
            return false;
        }
        let sources = self.tasks(|p| p == Part::Source);
        commands.extend(sources.iter().map(|t| (*t, Command::Acknowledge(everywhere))));
        self.acknowledging = Some((everywhere, sources));
        true
    }

    fn tasks(&self, of: impl Fn(Part) -> bool) -> BTreeSet<TaskId> {
        self.parts.iter().enumerate().filter(|(_, p)| of(**p)).map(|(t, _)| t).collect()
    }
}

/// Every task of a group has reported: its sinks commit.
fn commit(group: &mut Group, receipts: BTreeMap<TaskId, Receipt>, commands: &mut Vec<(TaskId, Command)>) {
    let waiting = receipts.keys().copied().collect();
    commands.extend(receipts.into_iter().map(|(t, r)| (t, Command::Commit(group.epoch, r))));
    group.phase = Phase::Committing { waiting };
}

#[cfg(test)]
mod tests;
