//! Graphs drawn from a seed, the rows that each of their sinks must get, and a run of one in a simulated world.

mod build;
mod connectors;
mod crashes;
mod draw;
mod oracle;
mod shape;
mod stages;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::api::Registry;
use crate::data::message::Epoch;
use crate::engine::Engine;
use crate::graph::Graph;
use crate::metrics::JobStats;
use crate::testing::simulation::{Outcome, Simulation};
pub use oracle::Expected;
pub use shape::{Does, Shape};

/// How often each row is somewhere.
pub type Rows = BTreeMap<i64, u64>;

/// A graph of sources, 2 to 12 stages and sinks with everything that bends a stream: fan-outs, merges and diamonds,
/// lanes and exchanges by key, edges that drop or spool, joins, slow and flaky calls in order and free, rows rejected one by one and found by
/// bisection, splits that end early, sinks that are slow and that stage their rows. Half of the seeds have a diamond.
///
/// ```
/// use bourn_engine::testing::random_graph::RandomGraph;
///
/// let run = RandomGraph::new(7).run();
/// assert_eq!(run.result, Ok(()), "{}", run.story);
/// ```
pub struct RandomGraph {
    seed: u64,
    shape: Shape,
    seen: Seen,
}

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    /// Whether the job ended well, and every row is where it must be.
    pub result: Result<(), String>,
    /// Equal for two runs of one seed.
    pub trace: u64,
    /// Steps of the simulation.
    pub steps: u64,
    /// The graph in words and the last steps, for the message of a test that failed.
    pub story: String,
}

/// What the sinks and sources of a graph have noted.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    notes: Arc<Mutex<Notes>>,
    /// What must be visible of a row when it is acknowledged; none if a stage may hold rows over an epoch.
    when_acknowledged: Option<Arc<Expected>>,
    /// Whether a branch may lag behind the epochs of the others, so that acks come some epochs after commits.
    lags: bool,
}

/// See [`Seen`].
#[derive(Clone, Debug, Default)]
pub struct Notes {
    /// Visible rows by sink.
    pub sinks: BTreeMap<String, Rows>,
    /// Visible dead letters by the stage that rejected the row.
    pub dead_letters: BTreeMap<String, Rows>,
    /// Chunks that sources have read.
    pub chunks: u64,
    /// Chunks that were acknowledged.
    pub acks: u64,
    /// How often the job was cut off.
    pub crashes: u64,
    /// How often a run ended because a checkpoint took too long.
    pub timeouts: u64,
    /// What sinks have prepared, by sink, lane and epoch.
    staged: BTreeMap<(String, usize, Epoch), connectors::Placed>,
    /// Promises that the engine broke to a sink or source.
    pub faults: Vec<String>,
    acknowledged: BTreeSet<i64>,
    /// Rows with the epoch whose commit showed them, until they are acknowledged.
    shown: Vec<(Epoch, i64)>,
}

impl Seen {
    fn note<T>(&self, note: impl FnOnce(&mut Notes) -> T) -> T {
        note(&mut self.notes.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that these rows are acknowledged: now every sink must show them, since their epoch is committed.
    fn acknowledge(&self, ids: std::ops::Range<i64>) {
        self.note(|notes| {
            notes.acks += 1;
            notes.acknowledged.extend(ids.clone());
            let Some(expected) = &self.when_acknowledged else { return };
            let early = ids.clone().find_map(|id| expected.missing(id, notes).map(|place| (id, place)));
            if let Some((id, place)) = early {
                notes.faults.push(format!("row {id} was acknowledged before {place} showed it"));
            }
        });
    }

    /// Notes that the commit of `epoch` shows these rows. Those that earlier epochs have shown are acknowledged by now:
    /// one that is not has overtaken the barrier before it.
    fn commit(&self, epoch: Epoch, ids: impl Iterator<Item = i64>) {
        if self.lags {
            return;
        }
        self.note(|notes| {
            let Notes { shown, acknowledged, faults, .. } = notes;
            shown.retain(|(_, id)| !acknowledged.contains(id));
            if let Some((before, id)) = shown.iter().find(|(before, _)| *before < epoch) {
                faults.push(format!("row {id} belongs behind epoch {before}, and was committed with it"));
            }
            shown.extend(ids.map(|id| (epoch, id)));
        });
    }

    /// A copy of the notes.
    pub fn notes(&self) -> Notes {
        self.note(|notes| notes.clone())
    }
}

impl RandomGraph {
    /// The graph of this seed.
    pub fn new(seed: u64) -> Self {
        let shape = draw::shape(seed);
        let holds = shape.nodes.iter().any(|n| matches!(n.does, Does::Hold { .. }));
        let when_acknowledged = (!holds).then(|| Arc::new(oracle::expected(&shape)));
        let notebook = Seen { when_acknowledged, lags: shape.isolates(), ..Seen::default() };
        Self { seed, shape, seen: notebook }
    }

    /// What it is made of.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// The graph, with channels that hold one row. Its sinks write into [`RandomGraph::seen`].
    pub fn graph(&self) -> Graph {
        build::graph(&self.shape, &self.seen)
    }

    /// What its sinks and sources have noted so far.
    pub fn seen(&self) -> Notes {
        self.seen.notes()
    }

    /// What must be seen when it has run, computed without the engine.
    pub fn expected(&self) -> Expected {
        oracle::expected(&self.shape)
    }

    /// Compares what was seen with what must be.
    ///
    /// # Errors
    /// Every sink that differs, with a row.
    pub fn check(&self) -> Result<(), String> {
        self.expected().compare(&self.seen())
    }

    async fn start(&self, engine: &Engine) -> crate::Result<Arc<JobStats>> {
        let plan = engine.plan(self.graph()).await;
        let plan = plan.map_err(|problems| crate::Error::validation(format!("{problems:?}")))?;
        let job = engine.start(plan).await?;
        let stats = job.stats().clone();
        job.wait().await.map(|()| stats)
    }

    /// Whether what was read before each node came in, or was dropped on the way and counted.
    fn account(&self, stats: &JobStats) -> Result<(), String> {
        for node in self.shape.nodes.iter().filter(|n| !n.does.is_source()) {
            let parted = node.inputs.iter().any(|(from, _)| matches!(self.shape.nodes[*from].does, Does::Part { .. }));
            let left = node.inputs.iter().map(|(from, _)| stats.total(&self.shape.nodes[*from].id, |s| &s.rows_out));
            let (left, entered) = (left.sum::<u64>(), stats.total(&node.id, |s| &s.rows_in));
            let dropped = stats.dropped(&node.id);
            // What a stage with two ports counts as out is the sum of both.
            if !parted && left != entered + dropped {
                return Err(format!(
                    "{left} rows left for `{}`, {entered} entered and {dropped} were dropped",
                    node.id
                ));
            }
        }
        Ok(())
    }

    /// Runs it in a simulated world with a schedule drawn from the seed.
    pub fn run(&self) -> Run {
        let simulation = Simulation::new(self.seed).time_max(Duration::from_mins(10));
        let engine = Engine::new(Registry::new()).with_env(simulation.env());
        let outcome = simulation.run(self.start(&engine));
        let result = match outcome {
            Outcome::Done(Ok(stats)) => self.check().and_then(|()| self.account(&stats)),
            Outcome::Done(Err(e)) => Err(format!("the job failed: {e:?}")),
            Outcome::Deadlock(waiting) => Err(format!("deadlock: {}", listed(&waiting))),
            Outcome::Livelock(waiting) => Err(format!("it does not end: {}", listed(&waiting))),
        };
        let spooled = simulation.files().paths().into_iter().find(|p| p.extension().is_some_and(|e| e == "spool"));
        let result = result.and_then(|()| match spooled {
            Some(file) => Err(format!("{} is left", file.display())),
            None => Ok(()),
        });
        let left = simulation.alive();
        let result = result.and_then(|()| {
            if left.is_empty() { Ok(()) } else { Err(format!("tasks outlive the job: {}", listed(&left))) }
        });
        let trace = simulation.trace();
        let story = format!("seed {}\n{}{}", self.seed, self.shape, trace.tail(40));
        Run { result, trace: trace.hash(), steps: trace.steps(), story }
    }
}

fn listed(items: &[impl fmt::Display]) -> String {
    items.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_graph_and_half_have_a_diamond() {
        let shapes: Vec<String> = (0..200).map(|seed| RandomGraph::new(seed).shape.to_string()).collect();
        let again: Vec<String> = (0..200).map(|seed| RandomGraph::new(seed).shape.to_string()).collect();
        assert_eq!(shapes, again);
        let diamonds = (0..200).filter(|seed| RandomGraph::new(*seed).shape.has_diamond()).count();
        assert!((100..190).contains(&diamonds), "{diamonds}");
        let stages: Vec<usize> = (0..200).map(|seed| RandomGraph::new(seed).shape.stages()).collect();
        assert!(stages.iter().all(|n| (2..=12).contains(n)), "{stages:?}");
        assert!(stages.contains(&2) && stages.contains(&12));
    }

    #[test]
    fn a_lost_a_repeated_and_a_foreign_row_are_noticed() {
        let random = (0..50).map(RandomGraph::new).find(|g| g.expected().sinks.values().any(|rows| rows.len() > 2));
        let random = random.expect("some graph has a sink with rows");
        let expected = random.expected();
        let good =
            || Notes { sinks: expected.sinks.clone(), dead_letters: expected.dead_letters.clone(), ..Notes::default() };
        assert_eq!(expected.compare(&good()), Ok(()));
        let sink = expected.sinks.iter().find(|(_, rows)| rows.len() > 2).map(|(id, _)| id.clone()).unwrap();
        let row = *expected.sinks[&sink].keys().next().unwrap();
        let changed = |change: &dyn Fn(&mut Rows)| {
            let mut notes = good();
            change(notes.sinks.get_mut(&sink).unwrap());
            expected.compare(&notes).unwrap_err()
        };
        assert!(changed(&|rows| *rows.get_mut(&row).unwrap() = 0).contains("is there 0 times"));
        assert!(changed(&|rows| *rows.get_mut(&row).unwrap() += 1).contains(&format!("row {row}")));
        assert!(changed(&|rows| rows.extend([(-1, 1)])).contains("row -1"));
        let unacknowledged = Notes { chunks: 2, acks: 1, ..good() };
        assert!(expected.compare(&unacknowledged).unwrap_err().contains("2 chunks were read and 1 acknowledged"));
    }
}
