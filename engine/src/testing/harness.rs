//! A stage driven by hand, without a runtime: batches in, and what it says by port.

pub mod rows;
mod snapshot;

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde_json::Value;

use crate::api::{
    BoxCall, BoxJoin, BoxStage, BuildContext, Join, Limits, Operator, Output, Progress, Rejected, Stage, StageConfig,
};
use crate::error::{Error, Result};
use crate::state::StateVisitor;
use crate::state::visitor::Held;
use crate::testing::simulation::Simulation;
use crate::time::Timestamp;
pub use rows::{batch, batch_of, json, rows_of};
pub use snapshot::Snapshot;
use snapshot::{Load, Save};

/// How often a stage may ask to go on in one call before it counts as endless.
const RESUMES_MAX: usize = 100_000;

/// A stage or join with everything that it has said so far.
///
/// ```
/// use bourn_engine::api::{Output, Progress, Stage};
/// use bourn_engine::testing::harness::{Harness, json};
/// use bourn_engine::rows;
///
/// struct Twice;
/// impl Stage for Twice {
///     fn process(
///         &mut self,
///         rows: &arrow::record_batch::RecordBatch,
///         out: &mut Output,
///     ) -> bourn_engine::Result<Progress> {
///         out.emit(rows.clone());
///         out.emit(rows.clone());
///         Ok(Progress::Done)
///     }
/// }
///
/// let mut stage = Harness::of(Twice);
/// stage.process(&rows![{"id": 1}])?;
/// assert_eq!(stage.said.rows(0), [json!({"id": 1}), json!({"id": 1})]);
/// # Ok::<(), bourn_engine::Error>(())
/// ```
pub struct Harness {
    running: Running,
    now: Duration,
    /// What it has said so far.
    pub said: Said,
    /// The most rows that one call has put into its output.
    pub largest: usize,
    /// Whether a call did not come to an end.
    pub endless: bool,
}

enum Running {
    Stage(BoxStage),
    Join(BoxJoin),
}

/// What a stage has said.
#[derive(Debug, Default)]
pub struct Said {
    /// Batches by port, 0 the main one.
    pub ports: Vec<Vec<RecordBatch>>,
    /// Rejected rows.
    pub rejected: Vec<Rejected>,
    /// Rows dropped on purpose.
    pub filtered: usize,
    /// Rows dropped because they were late.
    pub late: usize,
}

impl Said {
    /// The rows that left by a port, as JSON.
    pub fn rows(&self, port: usize) -> Vec<Value> {
        self.ports.get(port).into_iter().flatten().flat_map(rows_of).collect()
    }

    /// How many rows left by a port.
    pub fn count(&self, port: usize) -> usize {
        self.ports.get(port).into_iter().flatten().map(RecordBatch::num_rows).sum()
    }

    /// How many rows left by all ports.
    pub fn emitted(&self) -> usize {
        (0..self.ports.len()).map(|port| self.count(port)).sum()
    }

    /// How many rows were rejected.
    pub fn rejections(&self) -> usize {
        self.rejected.iter().map(Rejected::count).sum()
    }

    fn take(&mut self, out: &mut Output) {
        for (port, rows) in out.batches.drain(..) {
            if self.ports.len() <= port {
                self.ports.resize_with(port + 1, Vec::new);
            }
            self.ports[port].push(rows);
        }
        self.rejected.append(&mut out.rejected);
        self.filtered += out.filtered;
        self.late += out.late;
    }
}

impl Harness {
    /// The stage or join that a configuration builds for these inputs, in a simulated world.
    ///
    /// # Errors
    /// What planning or building says, and when it builds a call.
    pub fn new(config: &impl StageConfig, inputs: &[SchemaRef]) -> Result<Self> {
        match build(config, inputs)? {
            Operator::Stage(stage) => Ok(Self::from(Running::Stage(stage))),
            Operator::Join(join) => Ok(Self::from(Running::Join(join))),
            Operator::Call(..) => Err(Error::unsupported("it builds a call; see `harness::call`")),
        }
    }

    /// A stage that was made by hand.
    pub fn of(stage: impl Stage) -> Self {
        Self::from(Running::Stage(BoxStage::new(stage)))
    }

    /// A join that was made by hand.
    pub fn of_join(join: impl Join) -> Self {
        Self::from(Running::Join(BoxJoin::new(join)))
    }

    fn from(running: Running) -> Self {
        Self { running, now: Duration::ZERO, said: Said::default(), largest: 0, endless: false }
    }

    /// Whether it is a join.
    pub fn joins(&self) -> bool {
        matches!(self.running, Running::Join(_))
    }

    /// One batch by the first input.
    ///
    /// # Errors
    /// What the stage says. What it had put into its output is dropped, as the engine does.
    pub fn process(&mut self, rows: &RecordBatch) -> Result<()> {
        self.process_from(0, rows)
    }

    /// One batch by an input of a join: 0 is left, 1 right.
    ///
    /// # Errors
    /// As [`Harness::process`].
    pub fn process_from(&mut self, input: usize, rows: &RecordBatch) -> Result<()> {
        self.call(|running, out| match (running, input) {
            (Running::Stage(stage), _) => stage.process(rows, out),
            (Running::Join(join), 0) => join.left(rows, out),
            (Running::Join(join), _) => join.right(rows, out),
        })
    }

    /// One batch as the engine gives it to a stage without state: after an error again in halves, until the rows at
    /// fault are alone. These count as rejected.
    pub fn process_bisecting(&mut self, rows: &RecordBatch) {
        match self.process(rows) {
            Ok(()) => {}
            Err(error) if rows.num_rows() <= 1 => self.said.rejected.push(Rejected::rows(rows.clone(), error)),
            Err(_) => {
                let half = rows.num_rows() / 2;
                self.process_bisecting(&rows.slice(0, half));
                self.process_bisecting(&rows.slice(half, rows.num_rows() - half));
            }
        }
    }

    /// No row earlier than `watermark` follows.
    ///
    /// # Errors
    /// What the stage says.
    pub fn advance(&mut self, watermark: Timestamp) -> Result<()> {
        self.call(|running, out| match running {
            Running::Stage(stage) => stage.advance(watermark, out),
            Running::Join(join) => join.advance(watermark, out),
        })
    }

    /// Lets time pass, and ticks whenever the stage wants it within that time.
    ///
    /// # Errors
    /// What the stage says, and when a tick does not move [`Stage::wake_at`].
    pub fn pass(&mut self, duration: Duration) -> Result<()> {
        let end = self.now + duration;
        while let Some(at) = self.wake_at().filter(|at| *at <= end) {
            self.now = self.now.max(at);
            self.call(|running, out| match running {
                Running::Stage(stage) => stage.tick(out),
                Running::Join(join) => join.tick(out),
            })?;
            if self.wake_at().is_some_and(|next| next <= self.now) {
                return Err(Error::engine(format!("after the tick at {at:?} it wants to be woken at once again")));
            }
        }
        self.now = end;
        Ok(())
    }

    /// When the stage wants its next tick.
    pub fn wake_at(&self) -> Option<Duration> {
        match &self.running {
            Running::Stage(stage) => stage.wake_at(),
            Running::Join(join) => join.wake_at(),
        }
    }

    /// The input has ended.
    ///
    /// # Errors
    /// What the stage says.
    pub fn finish(&mut self) -> Result<()> {
        self.call(|running, out| match running {
            Running::Stage(stage) => stage.finish(out),
            Running::Join(join) => join.finish(out),
        })
    }

    /// What its state holds.
    ///
    /// # Errors
    /// What the stage says.
    pub fn held(&mut self) -> Result<Held> {
        let mut held = Held::default();
        self.visit(&mut held)?;
        Ok(held)
    }

    /// Its state, as a checkpoint would save it.
    ///
    /// # Errors
    /// What the pieces say.
    pub fn snapshot(&mut self) -> Result<Snapshot> {
        let mut save = Save(Vec::new());
        self.visit(&mut save)?;
        Ok(save.0)
    }

    /// Puts a saved state in place of the present one, as a recovery would.
    ///
    /// # Errors
    /// What the pieces say, and when one was not saved.
    pub fn restore(&mut self, snapshot: Snapshot) -> Result<()> {
        self.visit(&mut Load(snapshot))
    }

    fn visit(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        match &mut self.running {
            Running::Stage(stage) => stage.visit_state(visitor),
            Running::Join(join) => join.visit_state(visitor),
        }
    }

    fn call(&mut self, first: impl FnOnce(&mut Running, &mut Output) -> Result<Progress>) -> Result<()> {
        let mut out = Output::at(self.now);
        let mut progress = first(&mut self.running, &mut out)?;
        for _ in 0..RESUMES_MAX {
            self.largest = self.largest.max(out.batches.iter().map(|(_, rows)| rows.num_rows()).sum());
            self.said.take(&mut out);
            if progress == Progress::Done {
                return Ok(());
            }
            out.clear();
            progress = match &mut self.running {
                Running::Stage(stage) => stage.resume(&mut out)?,
                Running::Join(join) => join.resume(&mut out)?,
            };
        }
        self.endless = true;
        Err(Error::engine(format!("it asked to go on {RESUMES_MAX} times and did not come to an end")))
    }
}

/// The call that a configuration builds for this input, with its limits, in a simulated world.
///
/// # Errors
/// What planning or building says, and when it builds something else.
pub fn call(config: &impl StageConfig, input: &SchemaRef) -> Result<(BoxCall, Limits)> {
    match build(config, std::slice::from_ref(input))? {
        Operator::Call(call, limits) => Ok((call, limits)),
        _ => Err(Error::unsupported("it builds no call; see `Harness::new`")),
    }
}

fn build(config: &impl StageConfig, inputs: &[SchemaRef]) -> Result<Operator> {
    config.schema(inputs).map_err(|problems| {
        let messages: Vec<_> = problems.0.iter().map(|p| p.message.clone()).collect();
        Error::validation(messages.join("; "))
    })?;
    let env = Simulation::new(0).env();
    config.build(&BuildContext { mock: true, ..BuildContext::of(env, "stage", inputs.to_vec()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows;
    use crate::state::{Buffer, Value as StateValue};

    /// Holds rows back until three are there, and a tick or the end lets the rest go.
    #[derive(Default)]
    struct Threes {
        rows: Buffer,
        woken: StateValue<u32>,
        wake: Option<Duration>,
    }

    impl Stage for Threes {
        fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
            self.rows.push(rows.clone());
            self.wake = Some(out.now() + Duration::from_secs(1));
            self.resume(out)
        }
        fn resume(&mut self, out: &mut Output) -> Result<Progress> {
            if self.rows.rows() >= 3 {
                self.rows.take(3).into_iter().for_each(|b| out.emit(b));
            }
            Ok(if self.rows.rows() >= 3 { Progress::More } else { Progress::Done })
        }
        fn wake_at(&self) -> Option<Duration> {
            self.wake
        }
        fn tick(&mut self, out: &mut Output) -> Result<Progress> {
            self.wake = None;
            self.woken.update(|n| *n += 1);
            self.finish(out)
        }
        fn finish(&mut self, out: &mut Output) -> Result<Progress> {
            self.rows.take(usize::MAX).into_iter().for_each(|b| out.emit(b));
            Ok(Progress::Done)
        }
        fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
            visitor.piece("rows", &mut self.rows)?;
            visitor.piece("woken", &mut self.woken)
        }
    }

    #[test]
    fn more_is_resumed_time_ticks_and_a_snapshot_goes_on_elsewhere() {
        let mut stage = Harness::of(Threes::default());
        stage.process(&rows![{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, {"n": 5}, {"n": 6}, {"n": 7}]).unwrap();
        assert_eq!((stage.said.count(0), stage.held().unwrap().rows, stage.largest), (6, 1, 3));
        let mut other = Harness::of(Threes::default());
        other.restore(stage.snapshot().unwrap()).unwrap();
        other.finish().unwrap();
        assert_eq!(other.said.rows(0), rows_of(&rows![{"n": 7}]));
        stage.pass(Duration::from_millis(999)).unwrap();
        assert_eq!(stage.said.count(0), 6);
        stage.pass(Duration::from_millis(1)).unwrap();
        assert_eq!((stage.said.count(0), stage.wake_at()), (7, None));
    }

    #[test]
    fn an_error_drops_what_was_said_in_that_call_and_bisection_finds_the_row() {
        struct NoSevens;
        impl Stage for NoSevens {
            fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
                out.emit(rows.clone());
                let seven = rows_of(rows).iter().any(|r| r["n"] == 7);
                if seven { Err(Error::validation("a seven")) } else { Ok(Progress::Done) }
            }
        }
        let mut stage = Harness::of(NoSevens);
        let rows = rows![{"n": 5}, {"n": 6}, {"n": 7}, {"n": 8}];
        assert!(stage.process(&rows).is_err());
        assert_eq!(stage.said.emitted(), 0);
        stage.process_bisecting(&rows);
        assert_eq!((stage.said.count(0), stage.said.rejections()), (3, 1));
    }
}
