//! Fused stages: a plain loop in which neighbours hand each other batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::narrow::{guarded, narrow};
use super::timing::Timing;
use crate::api::{BoxJoin, BoxStage, Cardinality, Output, Progress, Rejected};
use crate::checkpoint::recovery::Loader;
use crate::checkpoint::saved::{SavedPiece, Saver};
use crate::data::records::bytes_held;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::graph::OnError;
use crate::metrics::{StageStats, Tally};
use crate::state::visitor::{Held, StateVisitor};
use crate::time::Timestamp;

/// What runs in a slot.
pub enum Worker {
    /// A stage.
    Stage(BoxStage),
    /// A join; only in the first slot.
    Join(BoxJoin),
}

/// One of the fused stages.
pub struct Slot {
    /// Its id.
    pub id: Arc<str>,
    worker: Worker,
    on_error: OnError,
    cardinality: Cardinality,
    /// The ports that someone outside the chain reads.
    read: Vec<usize>,
    stateful: bool,
    /// Rows that were held when the job began, so that they are accounted for.
    restored: u64,
    /// Batches with the input they came by and the bytes they hold.
    pending: VecDeque<(usize, RecordBatch, u64)>,
    more: bool,
    out: Output,
    /// The counts since the last flush.
    pub tally: Tally,
    /// Batches that were not timed, and how long the last one took that was.
    untimed: u32,
    took: Duration,
    /// The shared counts.
    pub stats: Arc<StageStats>,
}

/// Rows that leave the chain.
pub enum Emission {
    /// Rows of a port of the slot.
    Rows(usize, usize, RecordBatch),
    /// Rejected rows of the slot, for the dead letters.
    Rejected(usize, Vec<Rejected>),
}

/// What a chain is asked to work.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sweep {
    Advance(Timestamp),
    Tick,
    Finish,
}

/// The fused stages of a task. Asked to work something, it proceeds step by step, so that what leaves can be sent on in
/// between: no more than one call's output ever waits.
pub struct Chain {
    /// The stages, in order.
    pub slots: Vec<Slot>,
    /// One past the deepest slot that may have something to do.
    hot: usize,
    sweep: Option<(Sweep, usize)>,
    /// What has left since it was last taken.
    pub outbox: Vec<Emission>,
    env: Env,
    /// The time of the last reading, reused as the start of the next call.
    now: Duration,
    timing: Timing,
}

impl Slot {
    /// A slot for a stage or join.
    pub fn new(
        id: Arc<str>,
        worker: Worker,
        rules: (OnError, Cardinality),
        read: Vec<usize>,
        stats: Arc<StageStats>,
    ) -> Self {
        let mut slot = Self {
            id,
            worker,
            on_error: rules.0,
            cardinality: rules.1,
            read,
            stateful: false,
            restored: 0,
            pending: VecDeque::new(),
            more: false,
            out: Output::default(),
            tally: Tally::default(),
            untimed: 0,
            took: Duration::ZERO,
            stats,
        };
        slot.stateful = slot.held().is_ok_and(|h| h.pieces > 0);
        slot
    }

    fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        self.visit(&mut held).map(|()| held)
    }

    /// Names its pieces of state to a visitor.
    pub fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        match &mut self.worker {
            Worker::Stage(s) => s.visit_state(visitor),
            Worker::Join(j) => j.visit_state(visitor),
        }
    }

    /// Restores its state.
    ///
    /// # Errors
    /// When what was saved does not fit.
    pub fn restore(&mut self, mut loader: Loader<'_>) -> Result<()> {
        self.visit(&mut loader)?;
        loader.check()?;
        self.restored = self.held()?.rows as u64;
        Ok(())
    }

    fn is_busy(&self) -> bool {
        self.more || !self.pending.is_empty()
    }

    fn call(&mut self, input: usize, rows: &RecordBatch) -> Result<Progress> {
        let out = &mut self.out;
        match &mut self.worker {
            Worker::Join(join) => guarded(|| if input == 0 { join.left(rows, out) } else { join.right(rows, out) }),
            Worker::Stage(stage) => {
                let result = guarded(|| stage.process(rows, out));
                match result {
                    Err(error) if !self.stateful => {
                        narrow(&mut **stage, rows, error, out);
                        Ok(Progress::Done)
                    }
                    other => other,
                }
            }
        }
    }

    fn resume(&mut self) -> Result<Progress> {
        let out = &mut self.out;
        match &mut self.worker {
            Worker::Stage(s) => guarded(|| s.resume(out)),
            Worker::Join(j) => guarded(|| j.resume(out)),
        }
    }

    fn sweep(&mut self, sweep: Sweep) -> Result<Progress> {
        let out = &mut self.out;
        match (&mut self.worker, sweep) {
            (Worker::Stage(s), Sweep::Advance(to)) => guarded(|| s.advance(to, out)),
            (Worker::Stage(s), Sweep::Tick) => guarded(|| s.tick(out)),
            (Worker::Stage(s), Sweep::Finish) => guarded(|| s.finish(out)),
            (Worker::Join(j), Sweep::Advance(to)) => guarded(|| j.advance(to, out)),
            (Worker::Join(j), Sweep::Tick) => guarded(|| j.tick(out)),
            (Worker::Join(j), Sweep::Finish) => guarded(|| j.finish(out)),
        }
    }

    fn wake_at(&self) -> Option<Duration> {
        match &self.worker {
            Worker::Stage(s) => s.wake_at(),
            Worker::Join(j) => j.wake_at(),
        }
    }

    /// Notes the time of so many batches, each of which took as long, and of those that were not timed before.
    fn timed(&mut self, took: Duration, batches: u32) {
        self.tally.batches(took, std::mem::take(&mut self.untimed) + batches);
        self.took = took;
    }

    /// Checks that every row is accounted for.
    fn audit(&mut self) -> Result<()> {
        self.timed(self.took, 0);
        let held = self.held()?.rows as u64;
        self.tally.flush(&self.stats);
        self.stats.rows_held.store(held, Relaxed);
        let get = |c: &std::sync::atomic::AtomicU64| c.load(Relaxed);
        let s = &self.stats;
        let (input, output, filtered) = (get(&s.rows_in) + self.restored, get(&s.rows_out), get(&s.rows_filtered));
        let gone = get(&s.rows_rejected) + get(&s.rows_late) + held;
        let balanced = match self.cardinality {
            Cardinality::Many => true,
            // A port that nobody reads filters, whatever the stage promised.
            Cardinality::One | Cardinality::AtMostOne => input == output + filtered + gone,
        };
        if balanced {
            return Ok(());
        }
        Err(Error::engine(format!(
            "rows are unaccounted for: {input} in, {output} out, {filtered} filtered, {gone} rejected, late or held"
        ))
        .at_stage(&self.id))
    }
}

impl Chain {
    /// A chain of these slots.
    pub fn new(mut slots: Vec<Slot>, env: Env) -> Self {
        let now = env.monotonic();
        let passed = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let origin = Timestamp(env.wall().0.saturating_sub(passed));
        for slot in &mut slots {
            slot.out.origin = origin;
        }
        Self { slots, hot: 0, sweep: None, outbox: Vec::new(), env, now, timing: Timing::default() }
    }

    /// Puts rows before the first stage; `input` tells the inputs of a join apart. Then [`Chain::step`] until it is done.
    pub fn rows(&mut self, input: usize, batch: RecordBatch) {
        self.now = self.env.monotonic();
        self.timing.begin();
        let bytes = bytes_held(&batch) as u64;
        self.slots[0].pending.push_back((input, batch, bytes));
        self.hot = self.hot.max(1);
    }

    /// Hands a watermark to each stage in turn.
    pub fn advance(&mut self, to: Timestamp) {
        self.sweep = Some((Sweep::Advance(to), 0));
    }

    /// Wakes the stages whose time has come.
    pub fn tick(&mut self) {
        self.sweep = Some((Sweep::Tick, 0));
    }

    /// Lets each stage in turn say what is left to say.
    pub fn finish(&mut self) {
        self.sweep = Some((Sweep::Finish, 0));
    }

    /// When [`Chain::tick`] is wanted.
    pub fn wake_at(&self) -> Option<Duration> {
        self.slots.iter().filter_map(Slot::wake_at).min()
    }

    /// The last reading of the clock.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Rows held back by all stages, if any keeps state.
    pub fn rows_held(&mut self) -> Result<usize> {
        let mut rows = 0;
        for slot in self.slots.iter_mut().filter(|s| s.stateful) {
            rows += slot.held()?.rows;
        }
        Ok(rows)
    }

    /// Whether any stage keeps state.
    pub fn is_stateful(&self) -> bool {
        self.slots.iter().any(|s| s.stateful)
    }

    /// Takes a snapshot of the state of all stages, in a lane.
    pub fn save(&mut self, lane: usize) -> Result<Vec<SavedPiece>> {
        let mut pieces = Vec::new();
        for slot in self.slots.iter_mut().filter(|s| s.stateful) {
            let id = slot.id.clone();
            slot.visit(&mut Saver { node: &id, lane, into: &mut pieces }).map_err(|e| e.at_stage(&id))?;
        }
        Ok(pieces)
    }

    /// Checks that every row of every stage is accounted for.
    pub fn audit(&mut self) -> Result<()> {
        self.slots.iter_mut().try_for_each(Slot::audit)
    }

    /// One call into one stage: the deepest one that has something to do, so that nothing piles up between two. Returns
    /// whether there is more to do.
    pub fn step(&mut self) -> Result<bool> {
        while self.hot > 0 {
            let deepest = self.hot - 1;
            if self.slots[deepest].is_busy() {
                self.work(deepest)?;
                return Ok(true);
            }
            self.hot = deepest;
        }
        match self.sweep {
            Some((sweep, next)) if next < self.slots.len() => {
                self.sweep = Some((sweep, next + 1));
                let due =
                    sweep != Sweep::Tick || self.slots[next].wake_at().is_some_and(|at| at <= self.env.monotonic());
                if due {
                    self.now = self.env.monotonic();
                    self.timing.wake();
                    self.slots[next].out.now = self.now;
                    let progress = self.slots[next].sweep(sweep);
                    self.settle(next, progress, None)?;
                }
                Ok(true)
            }
            _ => {
                self.sweep = None;
                Ok(false)
            }
        }
    }

    fn work(&mut self, i: usize) -> Result<()> {
        let slot = &mut self.slots[i];
        slot.out.now = self.now;
        if slot.more {
            let progress = slot.resume();
            return self.settle(i, progress, None);
        }
        let Some((input, rows, bytes)) = slot.pending.pop_front() else { return Ok(()) };
        slot.tally.rows_in += rows.num_rows() as u64;
        slot.tally.bytes_in += bytes;
        let progress = slot.call(input, &rows);
        self.settle(i, progress, Some((&rows, bytes)))
    }

    /// Counts what a call said about the rows that came, and passes it on.
    fn settle(&mut self, i: usize, progress: Result<Progress>, came: Option<(&RecordBatch, u64)>) -> Result<()> {
        let (before, rest) = self.slots.split_at_mut(i + 1);
        let slot = &mut before[i];
        if self.timing.is_on() {
            let then = self.env.monotonic();
            let took = then.saturating_sub(self.now);
            self.timing.took(took);
            slot.timed(took, 1);
            self.now = then;
        } else {
            slot.untimed += 1;
        }
        slot.more = progress.map_err(|e| e.at_stage(&slot.id))? == Progress::More;
        self.hot = self.hot.max(i + 1);
        slot.tally.rows_filtered += slot.out.filtered as u64;
        slot.tally.rows_late += slot.out.late as u64;
        for (port, batch) in slot.out.batches.drain(..) {
            let next = rest.first_mut().filter(|_| port == 0);
            if next.is_none() && !slot.read.contains(&port) {
                // Rows of a port that nobody reads are dropped on purpose.
                slot.tally.rows_filtered += batch.num_rows() as u64;
                continue;
            }
            slot.tally.rows_out += batch.num_rows() as u64;
            // Many stages hand on what came; its columns are not measured again.
            let bytes = match came {
                Some((rows, bytes)) if same_columns(rows, &batch) => bytes,
                _ => bytes_held(&batch) as u64,
            };
            slot.tally.bytes_out += bytes;
            match next {
                Some(next) => {
                    next.pending.push_back((0, batch, bytes));
                    self.hot = self.hot.max(i + 2);
                }
                None => self.outbox.push(Emission::Rows(i, port, batch)),
            }
        }
        if !slot.out.rejected.is_empty() {
            let rejected = std::mem::take(&mut slot.out.rejected);
            slot.tally.rows_rejected += rejected.iter().map(Rejected::count).sum::<usize>() as u64;
            match slot.on_error {
                OnError::Fail => return Err(super::dead_letter::first_error(rejected).at_stage(&slot.id)),
                OnError::Drop => {}
                OnError::DeadLetter => self.outbox.push(Emission::Rejected(i, rejected)),
            }
        }
        slot.out.clear();
        Ok(())
    }
}

/// Whether two batches are made of the very same columns.
fn same_columns(a: &RecordBatch, b: &RecordBatch) -> bool {
    a.num_columns() == b.num_columns() && a.columns().iter().zip(b.columns()).all(|(a, b)| Arc::ptr_eq(a, b))
}

#[cfg(test)]
mod tests;
