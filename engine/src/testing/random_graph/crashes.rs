//! A random graph that keeps checkpoints, in a world that goes down again and again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::shape::Does;
use super::{RandomGraph, Run, Seen, build, listed, oracle};
use crate::api::checkpointing::Timeout;
use crate::api::{Checkpointing, Checkpoints, OnFull, Registry};
use crate::checkpoint::Folder;
use crate::checkpoint::recovery::find;
use crate::engine::Engine;
use crate::error::Kind;
use crate::graph::Graph;
use crate::state::Room;
use crate::testing::simulation::files::{Fault, MemoryFiles};
use crate::testing::simulation::{Outcome, Simulation};

/// The folder of the checkpoints.
const FOLDER: &str = "checkpoints";

impl RandomGraph {
    /// The graph of this seed as one that can be cut off: every sink commits, no edge drops or spools.
    pub fn recovering(seed: u64) -> Self {
        let mut random = Self::new(seed);
        for node in &mut random.shape.nodes {
            node.on_full = OnFull::Block;
            if let Does::Write { transactional, .. } = &mut node.does {
                *transactional = true;
            }
        }
        random.shape.epoch_ms = random.shape.epoch_ms.min(60);
        // What they hold, and what is in a request, is safe in the checkpoint before it is to be seen.
        let holds = random.shape.nodes.iter().any(|n| matches!(n.does, Does::Hold { .. } | Does::Call { .. }));
        let when_acknowledged = (!holds).then(|| std::sync::Arc::new(oracle::expected(&random.shape)));
        // Rows that were shown and not acknowledged when the host went down never are.
        random.seen = Seen { when_acknowledged, lags: true, ..Seen::default() };
        random
    }

    /// Runs it until it ends, cutting it off up to `crashes` times at steps that the seed draws. The host goes down with it:
    /// of what was not synced the seed draws what stays. Some calls of the disk fail; in a third of the starts the lanes
    /// are others; in half of them checkpoints have a timeout that some do not keep. After the crashes nothing fails any more, and the job must come to its end.
    pub fn run_with_crashes(&self, crashes: u64) -> Run {
        let mut draw = SmallRng::seed_from_u64(self.seed ^ 0x00c0_ffee);
        let files = MemoryFiles::default();
        // What a run that was killed has left: the next one removes it.
        files.put(format!("{FOLDER}/random/state/0-0-left.{}", Room::ENDING), "of an earlier run");
        let (mut trace, mut steps) = (0u64, 0);
        for attempt in 0..=crashes {
            let last = attempt == crashes;
            let simulation = Simulation::new(self.seed.wrapping_mul(31).wrapping_add(attempt)).over(files.clone());
            let simulation = simulation.time_max(Duration::from_mins(30));
            // Small graphs take some hundred steps, large ones some thousand.
            let cut = if last { 5_000_000 } else { draw.random_range(24..48) << draw.random_range(0..7) };
            let simulation = simulation.steps_max(cut);
            if !last && draw.random_range(0..3) == 0 {
                let fault = [Fault::Io, Fault::Full, Fault::Short][draw.random_range(0..3)];
                files.fail(files.calls() + draw.random_range(1..120), fault);
            }
            let lanes = (attempt > 0 && draw.random_range(0..3) == 0).then(|| draw.random_range(1..=3));
            let engine = Engine::new(Registry::new()).with_env(simulation.env());
            let mut graph = self.kept_graph(lanes);
            if let Checkpointing::On(checkpoints) = &mut graph.options.checkpoints {
                // Some checkpoints are given up because they take too long, and others take longer than they may.
                checkpoints.timeout = (!last && draw.random_range(0..2) == 0).then(|| {
                    let after = Duration::from_millis(draw.random_range(1..100));
                    Timeout { after, tolerated: draw.random_range(0..3) }
                });
            }
            let outcome = simulation.run(async {
                let plan = engine.plan(graph).await;
                let plan = plan.map_err(|problems| crate::Error::validation(format!("{problems:?}")))?;
                engine.start(plan).await?.wait().await
            });
            let run = simulation.trace();
            trace = trace.rotate_left(7) ^ run.hash();
            steps += run.steps();
            let story = || format!("seed {}, attempt {attempt}\n{}{}", self.seed, self.shape, run.tail(40));
            let ended = match outcome {
                Outcome::Done(Ok(())) => Some(self.check().and_then(|()| nothing_left(&files))),
                Outcome::Done(Err(e)) if last => Some(Err(format!("the job failed: {e:?}"))),
                Outcome::Deadlock(waiting) => Some(Err(format!("deadlock: {}", listed(&waiting)))),
                Outcome::Livelock(waiting) if last => Some(Err(format!("it does not end: {}", listed(&waiting)))),
                Outcome::Done(Err(e)) => {
                    self.seen.note(|notes| notes.timeouts += u64::from(e.kind() == Kind::Timeout));
                    None
                }
                Outcome::Livelock(_) => None,
            };
            if let Some(result) = ended {
                return Run { result, trace, steps, story: story() };
            }
            drop(engine);
            drop(simulation);
            self.seen.note(|notes| notes.crashes += 1);
            files.crash(|| draw.random_bool(0.5));
            if has_ended(&files) {
                // It was cut off when all was done: started again, it would begin anew.
                return Run { result: self.check(), trace, steps, story: format!("seed {}", self.seed) };
            }
        }
        Run { result: Err("no attempt was the last".into()), trace, steps, story: String::new() }
    }

    /// Runs it on a disk that breaks at its `nth` call: one call fails, or with `None` the host goes down there. A job that
    /// does not end well is started again on a sound disk, which has of what was not synced nothing, and must come to its
    /// end then. Returns how many calls the first run made.
    ///
    /// # Errors
    /// When a row is not where it must be, or something is left behind.
    pub fn run_on_a_broken_disk(&self, nth: u64, fault: Option<Fault>) -> Result<u64, String> {
        let files = MemoryFiles::default();
        match fault {
            Some(fault) => files.fail(nth, fault),
            None => files.down(nth),
        }
        let first = self.attempt(&files, 0);
        let calls = files.calls();
        let well = first.is_ok();
        if !well {
            self.seen.note(|notes| notes.crashes += 1);
            files.crash(|| false);
        }
        if !well && !has_ended(&files) {
            self.attempt(&files, 1).map_err(|e| format!("started again, the job failed: {e:?}"))?;
        }
        self.check().and_then(|()| nothing_left(&files)).map(|()| calls)
    }

    fn attempt(&self, files: &MemoryFiles, number: u64) -> crate::Result<()> {
        let simulation = Simulation::new(self.seed.wrapping_mul(31).wrapping_add(number)).over(files.clone());
        let simulation = simulation.time_max(Duration::from_mins(30)).steps_max(5_000_000);
        let engine = Engine::new(Registry::new()).with_env(simulation.env());
        let outcome = simulation.run(async {
            let plan = engine.plan(self.kept_graph(None)).await;
            let plan = plan.map_err(|problems| crate::Error::validation(format!("{problems:?}")))?;
            engine.start(plan).await?.wait().await
        });
        match outcome {
            Outcome::Done(result) => result,
            Outcome::Deadlock(waiting) => Err(crate::Error::engine(format!("deadlock: {}", listed(&waiting)))),
            Outcome::Livelock(waiting) => Err(crate::Error::engine(format!("it does not end: {}", listed(&waiting)))),
        }
    }

    /// The graph with checkpoints, and with so many lanes where lanes can change.
    fn kept_graph(&self, lanes: Option<usize>) -> Graph {
        let mut shape = self.shape.clone();
        for node in &mut shape.nodes {
            // What a join counts is kept by lane.
            if let Some(lanes) = lanes.filter(|_| node.does != Does::Join) {
                node.lanes = match &node.does {
                    Does::Read { splits, .. } => lanes.min(splits.len()),
                    _ => lanes,
                };
            }
        }
        let mut graph = build::graph(&shape, &self.seen);
        graph.options.checkpoints = Checkpointing::On(Checkpoints::in_folder(FOLDER));
        // In half of the graphs everything by key goes to the disk between two batches.
        graph.options.state_bytes = self.seed.is_multiple_of(2).then_some(0);
        graph
    }
}

/// Whether the newest checkpoint is the last one of a run, and everything of it is committed.
fn has_ended(files: &MemoryFiles) -> bool {
    let world = Simulation::new(0).over(files.clone());
    let found = find(&Folder::new(world.env(), Path::new(FOLDER), "random"));
    found.is_ok_and(|found| found.complete.last().is_some_and(|m| m.last && found.settled.contains(&m.epoch)))
}

/// When a job has ended, three checkpoints and what they need are all that is there.
fn nothing_left(files: &MemoryFiles) -> Result<(), String> {
    let with =
        |ending: &str| files.paths().into_iter().filter(|p| p.extension().is_some_and(|e| e == ending)).collect();
    let (manifests, parts): (Vec<PathBuf>, Vec<PathBuf>) = (with("json"), with("part"));
    let state: Vec<PathBuf> = with(Room::ENDING);
    if manifests.len() > 3 || !parts.is_empty() || !state.is_empty() {
        return Err(format!("{manifests:?} {parts:?} {state:?} are left"));
    }
    Ok(())
}
