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
    Aligning { waiting: BTreeSet<TaskId>, receipts: BTreeMap<TaskId, Receipt> },
    Committing { waiting: BTreeSet<TaskId> },
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
        }
    }

    /// The newest epoch that has begun.
    pub fn epoch(&self) -> Epoch {
        self.groups[0].epoch
    }

    /// The newest epoch that the sinks have committed, those of isolated branches excepted.
    pub fn committed(&self) -> Epoch {
        self.groups[0].committed()
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
        self.last = self.finished.iter().all(|f| *f) && self.groups.iter().all(|g| g.committed() == self.epoch());
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
                // Here the manifest becomes durable, before the first commit.
                let receipts = std::mem::take(receipts);
                let waiting = receipts.keys().copied().collect();
                commands.extend(receipts.into_iter().map(|(t, r)| (t, Command::Commit(group.epoch, r))));
                group.phase = Phase::Committing { waiting };
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

    /// A source, a sink, and a sink behind a spool.
    fn divided() -> Coordinator {
        let parts = vec![Part::Source, Part::Stage, Part::Sink, Part::Sink];
        Coordinator::divided(parts, Groups { of: vec![0, 0, 0, 1], spools: vec![(1, 1)] })
    }

    const SPOOL: TaskId = 1;
    const LAGGING: TaskId = 3;

    #[test]
    fn an_isolated_branch_holds_up_the_acks_and_no_commit_of_the_others() {
        let mut c = divided();
        let mut epoch = |n: Epoch| {
            let mut commands = c.begin();
            for task in [SOURCE, SPOOL] {
                commands.extend(c.on(Report::Aligned(task, n, None)));
            }
            commands.extend(c.on(Report::Aligned(SINK, n, Some(receipt()))));
            commands.extend(c.on(Report::Committed(SINK, n)));
            assert_eq!(c.committed(), n);
            commands
        };
        let release = (SPOOL, Command::Release(1));
        assert_eq!(epoch(1), [(SOURCE, Command::Barrier(1)), release, (SINK, Command::Commit(1, receipt()))]);
        // The branch is at its first epoch still, and the next ones go by.
        assert_eq!(epoch(2), [(SOURCE, Command::Barrier(2)), (SINK, Command::Commit(2, receipt()))]);
        let freed = c.on(Report::Aligned(LAGGING, 1, None));
        assert_eq!(freed, [(SOURCE, Command::Acknowledge(1)), (SPOOL, Command::Release(2))]);
        c.on(Report::Acknowledged(SOURCE, 1));
        assert_eq!(c.on(Report::Aligned(LAGGING, 2, None)), [(SOURCE, Command::Acknowledge(2))]);
    }

    #[test]
    fn the_last_epoch_waits_until_isolated_branches_have_finished() {
        let mut c = divided();
        c.begin();
        for task in [SOURCE, SPOOL, SINK] {
            assert_eq!(c.on(Report::Aligned(task, 1, None)), []);
        }
        for task in [SOURCE, SPOOL, SINK] {
            assert_eq!(c.on(Report::Finished(task)), []);
        }
        assert_eq!(c.on(Report::Finished(LAGGING)), [(LAGGING, Command::Prepare(1))]);
        assert_eq!(c.on(Report::Aligned(LAGGING, 1, None)), [(SOURCE, Command::Acknowledge(1))]);
        let last = c.on(Report::Acknowledged(SOURCE, 1));
        assert!(last.contains(&(SOURCE, Command::Barrier(2))) && last.contains(&(LAGGING, Command::Prepare(2))));
        c.on(Report::Aligned(SOURCE, 2, None));
        c.on(Report::Aligned(SINK, 2, None));
        c.on(Report::Aligned(LAGGING, 2, None));
        let exit = c.on(Report::Acknowledged(SOURCE, 2));
        assert_eq!(exit, [SOURCE, SINK, LAGGING].map(|task| (task, Command::Exit)));
        assert!(c.is_over());
    }
}
