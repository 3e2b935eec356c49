//! The owner's part in checkpoints: gathers what tasks hand over, and has it written beside the data.

use std::collections::BTreeMap;
use std::future::{pending, ready};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};

use crate::api::Receipt;
use crate::api::limits::Retries;
use crate::call::retry::waits;
use crate::checkpoint::begin::{Beginning, Planned};
use crate::checkpoint::coordinator::{Awaited, Part, TaskId};
use crate::checkpoint::keeper::{Keeper, Sealed};
use crate::checkpoint::manifest::Node;
use crate::checkpoint::recovery::Recovered;
use crate::checkpoint::saved::{Saved, SavedPiece};
use crate::data::message::Epoch;
use crate::env::{Env, points};
use crate::error::{Error, Result};
use crate::metrics::JobStats;
use crate::state::visitor::Chunk;

/// How long the end of a job that failed waits for a checkpoint that is being written.
const FAREWELL: Duration = Duration::from_secs(5);

/// What a task of the plan is, for a checkpoint.
#[derive(Clone, Debug)]
pub struct TaskOf {
    /// What it does in the protocol.
    pub part: Part,
    /// The ids of its nodes.
    pub nodes: Vec<Arc<str>>,
    /// Its lane.
    pub lane: usize,
}

/// What a job that keeps checkpoints begins with.
pub struct Kept {
    /// The name of its run.
    pub run: String,
    /// What it goes on from.
    pub recovered: Option<Arc<Recovered>>,
}

impl Kept {
    /// What the tasks are built with.
    pub fn of(beginning: &Beginning) -> Self {
        let recovered = beginning.recovered.as_ref().map(|(recovered, _)| recovered.clone());
        Self { run: beginning.run.clone(), recovered }
    }
}

/// What comes of writing: the keeper back, and how much it wrote.
type Writing = BoxFuture<'static, (Option<Keeper>, Result<u64>)>;
/// What comes of sweeping: the keeper back.
type Sweeping = BoxFuture<'static, Option<Keeper>>;

/// Which pieces there are, and of how many chunks: one that has lost a chunk has changed too.
type Shape = BTreeMap<(Arc<str>, usize, String), usize>;

/// The checkpoints of a running job.
pub struct Book {
    /// Away while it writes or sweeps.
    keeper: Option<Keeper>,
    /// What messages call its store.
    place: String,
    writing: Option<Writing>,
    sweeping: Option<Sweeping>,
    nodes: BTreeMap<String, Planned>,
    tasks: Vec<TaskOf>,
    /// What tasks have handed over of the epoch under way.
    saved: BTreeMap<TaskId, Saved>,
    /// What was written last, to see whether there is anything new.
    before: Option<(BTreeMap<String, Node>, Shape)>,
    stats: Arc<JobStats>,
}

impl Book {
    /// Nothing is written yet.
    pub fn new(keeper: Keeper, nodes: BTreeMap<String, Planned>, tasks: Vec<TaskOf>, stats: Arc<JobStats>) -> Self {
        Self {
            place: keeper.place(),
            keeper: Some(keeper),
            writing: None,
            sweeping: None,
            nodes,
            tasks,
            saved: BTreeMap::new(),
            before: None,
            stats,
        }
    }

    /// Takes what a task has handed over.
    pub fn saved(&mut self, task: TaskId, saved: Saved) {
        self.saved.insert(task, saved);
    }

    /// Every task has reported: begins to write. `finished` tells the tasks that have said all that they had to say.
    pub fn seal(
        &mut self,
        epoch: Epoch,
        mut receipts: BTreeMap<TaskId, Receipt>,
        (last, finished): (bool, impl Fn(TaskId) -> bool),
        env: &Env,
    ) {
        let new = |(id, p): (&String, &Planned)| {
            let node = Node { kind: p.kind.clone(), lanes: p.lanes, config: p.config.clone(), ..Node::default() };
            (id.clone(), node)
        };
        let mut nodes: BTreeMap<String, Node> = self.nodes.iter().map(new).collect();
        let (mut pieces, mut saved) = (Vec::new(), std::mem::take(&mut self.saved));
        for (id, task) in self.tasks.iter().enumerate() {
            let handed = saved.remove(&id);
            let is_finished = match (&handed, task.part) {
                (Some(handed), Part::Source) => handed.finished,
                // It has finished behind its barrier, or not at all.
                (Some(_), _) => false,
                (None, _) => finished(id),
            };
            for node in &task.nodes {
                let Some(node) = nodes.get_mut(&**node) else { continue };
                if is_finished && task.part != Part::Sink {
                    node.finished.push(task.lane);
                }
                node.receipts.extend(receipts.remove(&id).map(|r| (task.lane, r)));
                if let Some(handed) = &handed {
                    node.splits.extend(handed.splits.iter().map(|(s, p)| (s.name().to_owned(), p.clone())));
                }
            }
            pieces.extend(handed.into_iter().flat_map(|h| h.pieces));
        }
        let changed = |piece: &SavedPiece| piece.content.0.iter().any(|c| matches!(c, Chunk::Changed(..)));
        let shape: Shape =
            pieces.iter().map(|p| ((p.node.clone(), p.lane, p.name.clone()), p.content.0.len())).collect();
        let now = (nodes, shape);
        if !last && self.before.as_ref() == Some(&now) && !pieces.iter().any(changed) {
            // An epoch in which nothing has happened costs nothing: the checkpoint before it is as good.
            let keeper = self.take();
            self.writing = Some(async move { (keeper.await, Ok(0)) }.boxed());
            return;
        }
        let sealed = Sealed { epoch, at: env.wall(), last, nodes: now.0.clone(), pieces };
        self.before = Some(now);
        let (keeper, env) = (self.take(), env.clone());
        let writing = async move {
            match keeper.await {
                Some(keeper) => write(keeper, sealed, env).await,
                None => (None, Err(Error::engine("who writes checkpoints is gone"))),
            }
        };
        self.writing = Some(writing.boxed());
    }

    /// What a checkpoint waits for, in words.
    pub fn waits_for(&self, awaited: &Awaited) -> String {
        match awaited {
            Awaited::Barriers(tasks) => self.names(tasks),
            Awaited::Store => format!("its store, {}", self.place),
            Awaited::Commits(tasks) => format!("the commit of {}", self.names(tasks)),
        }
    }

    /// The nodes of these tasks, each with how many of its lanes: `slow` (2 lanes).
    fn names(&self, tasks: &[TaskId]) -> String {
        let mut lanes: BTreeMap<&str, usize> = BTreeMap::new();
        for node in tasks.iter().filter_map(|task| self.tasks.get(*task)).flat_map(|task| &task.nodes) {
            *lanes.entry(node).or_default() += 1;
        }
        let name = |(node, lanes): (&str, usize)| match lanes {
            1 => format!("`{node}`"),
            _ => format!("`{node}` ({lanes} lanes)"),
        };
        lanes.into_iter().map(name).collect::<Vec<_>>().join(", ")
    }

    /// The keeper, as soon as it is back.
    fn take(&mut self) -> Sweeping {
        match self.sweeping.take() {
            Some(sweeping) => sweeping,
            None => ready(self.keeper.take()).boxed(),
        }
    }

    /// Ends when a checkpoint is written; meanwhile what nobody needs is removed.
    ///
    /// Cancel safety: what is being written stays here until it is.
    pub async fn stored(&mut self) -> Result<()> {
        if let (None, Some(sweeping)) = (&self.writing, &mut self.sweeping) {
            self.keeper = sweeping.await;
            self.sweeping = None;
        }
        let Some(writing) = &mut self.writing else { return pending().await };
        let (keeper, result) = writing.await;
        self.writing = None;
        self.keeper = keeper;
        let bytes = result?;
        if bytes > 0 {
            self.stats.checkpoint_bytes.fetch_add(bytes, Relaxed);
            self.stats.checkpoints.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// An epoch is committed: what no checkpoint needs any more goes.
    pub fn committed(&mut self, env: &Env) {
        let Some(mut keeper) = self.keeper.take() else { return };
        let world = env.clone();
        let sweep = move || {
            if let Err(e) = keeper.sweep(&world) {
                tracing::warn!("{}: an old checkpoint could not be removed: {e}", keeper.place());
            }
            keeper
        };
        let env = env.clone();
        self.sweeping = Some(async move { env.blocking(sweep).await.ok() }.boxed());
    }

    /// The job has ended well: notes that nothing is left to commit.
    pub async fn settle(&mut self, epoch: Epoch, env: &Env) -> Result<()> {
        let Some(mut keeper) = self.take().await else { return Ok(()) };
        let mut waits = waits(&Retries { max_attempts: 5, ..Retries::default() }, env.random());
        loop {
            let world = env.clone();
            let (back, settled) = env
                .blocking(move || {
                    world.reached(points::SETTLE);
                    let settled = keeper.settle().and_then(|()| {
                        world.reached(points::SETTLED);
                        keeper.sweep(&world)
                    });
                    (keeper, settled)
                })
                .await?;
            keeper = back;
            let Err(error) = settled else {
                self.keeper = Some(keeper);
                return Ok(());
            };
            let Some(wait) = waits.next() else {
                let error = failed(epoch, &keeper.place(), &error);
                self.keeper = Some(keeper);
                return Err(error);
            };
            env.sleep(wait).await;
        }
    }

    /// The job is over: lets others in.
    pub async fn close(mut self, env: &Env) {
        if let Some(writing) = self.writing.take()
            && let Either::Left(((keeper, _), _)) = select(writing, env.sleep(FAREWELL)).await
        {
            self.keeper = keeper;
        }
        if let Some(keeper) = self.take().await {
            // What has panicked holds nothing any more.
            let _ = env.blocking(move || keeper.close()).await;
        }
    }
}

/// Writes a checkpoint; tries again when the disk fails, then gives up loudly.
async fn write(keeper: Keeper, sealed: Sealed, env: Env) -> (Option<Keeper>, Result<u64>) {
    let epoch = sealed.epoch;
    let mut keeper = keeper;
    let mut sealed = Some(sealed);
    let mut waits = waits(&Retries { max_attempts: 5, ..Retries::default() }, env.random());
    loop {
        let (next, world) = (sealed.take(), env.clone());
        let written = env
            .blocking(move || {
                if let Some(sealed) = next {
                    keeper.take(sealed);
                }
                let written = keeper.write(&world);
                (keeper, written)
            })
            .await;
        let (back, error) = match written {
            Ok((keeper, Ok(bytes))) => return (Some(keeper), Ok(bytes)),
            Ok((keeper, Err(error))) => (keeper, error),
            Err(lost) => return (None, Err(lost)),
        };
        keeper = back;
        let place = keeper.place();
        // What has no form at rest never gets one.
        let Some(wait) = waits.next().filter(|_| keeper.has_pending()) else {
            return (Some(keeper), Err(failed(epoch, &place, &error)));
        };
        tracing::warn!("checkpoint {epoch} could not be written to {place}, trying again: {error}");
        env.sleep(wait).await;
    }
}

fn failed(epoch: Epoch, place: &str, error: &Error) -> Error {
    Error::new(error.kind(), format!("checkpoint {epoch} could not be written to {place}: {}", error.message()))
}
