//! A plan is started: instances are built, channels laid, tasks spawned.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;

use super::book::{Book, Kept, TaskOf};
use super::build::{Builder, Ready};
use super::channel::{Post, channel, mailbox};
use super::coordinate::Owner;
use super::ledgers::{self, Ledgers};
use super::overdue::Overdue;
use super::supervise::Supervisor;
use super::tolerance::Tolerance;
use crate::api::{Checkpoints, Jobs, Memos, Meter, Trace};
use crate::checkpoint::begin::{Beginning, Planned, Resumed};
use crate::checkpoint::coordinator::{Command, Coordinator, Part};
use crate::checkpoint::recovery::Resume;
use crate::checkpoint::{self, store};
use crate::env::{Env, points};
use crate::error::{Error, Kind, Result};
use crate::graph::Role;
use crate::metrics::{EdgeEntry, EdgeStats, JobStats, StageEntry, StageRole, StageStats};
use crate::plan::{OperatorKind, Plan, PlannedNode, Task, TaskKind};

/// A job that runs. Dropping the handle does not stop it.
pub struct Job {
    stats: Arc<JobStats>,
    resumed: Option<Resumed>,
    stop: Post<()>,
    ended: oneshot::Receiver<Result<()>>,
}

impl Job {
    /// The counters, which change while the job runs.
    pub fn stats(&self) -> &Arc<JobStats> {
        &self.stats
    }

    /// The checkpoint that it goes on from; none at a new beginning.
    pub fn resumed(&self) -> Option<&Resumed> {
        self.resumed.as_ref()
    }

    /// Asks the sources to read no more; what was read drains, a last epoch ends the job. One that keeps checkpoints takes a
    /// last one instead: what its stages hold stays in it, and another run goes on from there. Harmless when repeated.
    pub fn stop(&self) {
        // A full mailbox means that the wish is there already.
        let _ = self.stop.try_send(());
    }

    /// What [`Job::stop`] does, as a value that outlives the borrow.
    pub fn stopper(&self) -> impl Fn() + Send + Sync + 'static {
        let stop = self.stop.clone();
        move || {
            let _ = stop.try_send(());
        }
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// The error that ended the job.
    pub async fn wait(self) -> Result<()> {
        self.ended.await.unwrap_or_else(|_| Err(Error::engine("the job's owner ended without a word")))
    }
}

/// What a plan is started with.
pub struct Start {
    /// The world.
    pub env: Env,
    /// Where answers of calls are kept.
    pub journal: Option<Arc<dyn Memos>>,
    /// What runs pipelines for its stages.
    pub jobs: Option<Arc<dyn Jobs>>,
    /// Who keeps limits with other processes.
    pub meter: Option<Arc<dyn Meter>>,
    /// Who is told of the requests of its calls.
    pub trace: Trace,
    /// For a job that keeps checkpoints: where it begins.
    pub resume: Resume,
}

/// Builds and spawns everything.
///
/// # Errors
/// When a source, stage or sink can't be built; nothing runs then.
pub async fn start(plan: Plan, with: Start) -> Result<Job> {
    let secrets = plan.options.secrets.clone();
    build_and_spawn(plan, with).await.map_err(|error| error.reworded(|text| secrets.conceal(text)))
}

async fn build_and_spawn(plan: Plan, with: Start) -> Result<Job> {
    if let Some(open) = plan.open().next() {
        let message = format!("the columns of `{}` are open: plan the job again, asking {}", open.source, open.asks);
        return Err(Error::unsupported(message));
    }
    let stages = stage_stats(&plan);
    let edges = edge_stats(&plan);
    let stats = Arc::new(JobStats {
        pipeline: plan.name.clone(),
        stages: stages.iter().flat_map(|s| s.iter().cloned()).collect(),
        edges: edges.iter().map(|(_, e)| e.clone()).collect(),
        ..JobStats::default()
    });
    let (mut senders, mut receivers) = (HashMap::new(), HashMap::new());
    for (rows, (id, edge)) in plan.tasks.iter().flat_map(|t| &t.inlets).map(|c| c.rows).zip(&edges) {
        let (sender, receiver) = channel(rows, edge.stats.clone());
        senders.insert(*id, sender);
        receivers.insert(*id, receiver);
    }
    // A task has at most one report of each kind under way, so a post into this mailbox never waits for long.
    let (notes, inbox) = mailbox(4 * plan.tasks.len() + 4);
    let supervisor = Arc::new(Supervisor::new(with.env.clone(), notes.clone()));
    let (stop, stops) = mailbox(1);
    let ledgers = Ledgers::open(&plan, &with, stop.clone(), stats.clone()).await?;
    let memos = ledgers.memos();
    let beginning = match plan.checkpoints.clone() {
        Some(checkpoints) => Some(begin(&plan, checkpoints, &with).await?),
        None => None,
    };
    let kept = beginning.as_ref().map(Kept::of);
    let recovers = beginning.as_ref().is_some_and(|b| b.recovered.is_some());
    if recovers {
        with.env.reached(points::RECOVER);
    }
    let channels = (senders, receivers);
    let builder = Builder::new(&plan, &with, (&stages, &stats), channels, notes, supervisor.clone(), (kept, ledgers));
    let tell = announce(&plan);
    let built = build(&plan, builder).await;
    let Built { parts, commands, ready } = match built {
        Ok(built) => built,
        Err(e) => {
            if let Some(Beginning { keeper, .. }) = beginning {
                with.env.blocking(move || keeper.close()).await?;
            }
            return Err(e);
        }
    };
    let mut coordinator = Coordinator::divided(parts.clone(), plan.groups.clone());
    let (mut resumed, mut book) = (None, None);
    if let Some(beginning) = beginning {
        if let Some((recovered, told)) = beginning.recovered {
            recovered.forget_parts();
            coordinator = coordinator.behind(told.epoch);
            resumed = Some(told);
        }
        coordinator = coordinator.storing();
        let task = |(task, part): (&Task, &Part)| TaskOf {
            part: *part,
            nodes: task.nodes.iter().map(|n| plan.nodes[*n].id.clone()).collect(),
            lane: task.lane,
        };
        let tasks = plan.tasks.iter().zip(&parts).map(task).collect();
        book = Some(Book::new(beginning.keeper, planned(&plan), tasks, stats.clone()));
    }
    if recovers {
        with.env.reached(points::RECOVERED);
    }
    let owner = Owner {
        coordinator,
        parts,
        book,
        notes: inbox,
        commands,
        stop: stops,
        epoch_every: plan.epoch_every,
        overdue: Overdue::new(plan.checkpoints.as_ref().and_then(|c| c.timeout)),
        tolerance: plan.options.tolerated.map(|most| Tolerance { most, stats: stats.clone() }),
        supervisor: supervisor.clone(),
        env: with.env.clone(),
        secrets: plan.options.secrets.clone(),
        stats: stats.clone(),
    };
    for (id, work) in ready.into_iter().enumerate() {
        let name = &plan.tasks[id].name;
        match work {
            Ready::Source(t) => supervisor.spawn(id, name, t.run()),
            Ready::Chain(t) => supervisor.spawn(id, name, t.run()),
            Ready::Call(t) => supervisor.spawn(id, name, t.run()),
            Ready::Sink(t) => supervisor.spawn(id, name, t.run()),
            Ready::Spool(t) => supervisor.spawn(id, name, t.run()),
        }
    }
    let (end, ended) = oneshot::channel();
    let owner = ledgers::settled(owner.run(), memos, stats.clone());
    Supervisor::spawn_owner(&with.env, "owner", async move {
        let result = owner.await;
        // Nobody may wait for either.
        let _ = tell.send(result.as_ref().err().map(Error::summary));
        let _ = end.send(result);
    });
    Ok(Job { stats, resumed, stop, ended })
}

/// Every task, ready to be spawned.
struct Built {
    parts: Vec<Part>,
    commands: Vec<Post<Command>>,
    ready: Vec<Ready>,
}

async fn build(plan: &Plan, mut builder: Builder<'_>) -> Result<Built> {
    let (mut parts, mut commands, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for (id, task) in plan.tasks.iter().enumerate() {
        // Barrier, prepare, commit, acknowledge, drain and exit: each at most once under way.
        let (post, mailbox) = mailbox(8);
        commands.push(post);
        parts.push(match task.kind {
            TaskKind::Source => Part::Source,
            TaskKind::Chain | TaskKind::Call | TaskKind::Spool(_) => Part::Stage,
            TaskKind::Sink => Part::Sink,
        });
        ready.push(builder.task(id, task, mailbox).await?);
    }
    builder.tell_limits();
    Ok(Built { parts, commands, ready })
}

/// Finds out where the job begins.
async fn begin(plan: &Plan, checkpoints: Checkpoints, with: &Start) -> Result<Beginning> {
    let (env, job, resume) = (with.env.clone(), plan.name.clone(), with.resume.clone());
    let (nodes, run, state) = (planned(plan), format!("{:016x}", env.random()), plan.state_folder());
    let work = move || {
        let store = store::open(&checkpoints.at, &job, &env)?;
        let beginning = checkpoint::begin::begin(store, &job, &resume, (&nodes, checkpoints.keep), run)?;
        let keeper = match state {
            Some(folder) => beginning.keeper.with_state(env, folder)?,
            None => beginning.keeper,
        };
        Ok(Beginning { keeper, ..beginning })
    };
    with.env.blocking(work).await?
}

/// Sources, stages and sinks as a checkpoint knows them.
fn planned(plan: &Plan) -> BTreeMap<String, Planned> {
    let of = |node: &PlannedNode| {
        let config = match &node.role {
            Role::Source(c) | Role::Sink(c) => c.0.describe(),
            Role::Stage(s) => s.0.describe(),
        };
        let config = blake3::hash(config.to_string().as_bytes()).to_hex()[..16].to_owned();
        (node.id.to_string(), Planned { kind: node.kind().to_owned(), lanes: node.lanes, config })
    };
    plan.nodes.iter().map(of).collect()
}

/// Lets the sources and sinks know of the end that is to come: its error, or none. What is never told counts as an error.
fn announce(plan: &Plan) -> oneshot::Sender<Option<Error>> {
    let (tell, told) = oneshot::channel();
    let gone = |_| Some(Error::new(Kind::Canceled, "the job could not be started, or its runtime has ended"));
    let end = told.map(move |told: Result<Option<Error>, _>| Arc::new(told.unwrap_or_else(gone))).boxed().shared();
    for node in &plan.nodes {
        if let Role::Source(connector) | Role::Sink(connector) = &node.role {
            [connector].into_iter().chain(&node.fallback).for_each(|c| c.0.started(end.clone()));
        }
    }
    tell
}

fn stage_stats(plan: &Plan) -> Vec<Vec<StageEntry>> {
    let entry = |node: &PlannedNode, lane| StageEntry {
        stage: node.id.clone(),
        kind: node.kind(),
        role: match node.operator {
            OperatorKind::Source => StageRole::Source,
            OperatorKind::Sink => StageRole::Sink,
            _ => StageRole::Stage,
        },
        lane,
        stats: Arc::new(StageStats::default()),
    };
    plan.nodes.iter().map(|node| (0..node.lanes).map(|lane| entry(node, lane)).collect()).collect()
}

/// The counters of each channel by its number, in the order of the tasks' inlets.
fn edge_stats(plan: &Plan) -> Vec<(usize, EdgeEntry)> {
    let inlets = plan.tasks.iter().flat_map(|t| t.inlets.iter().map(move |c| (t, c)));
    inlets
        .map(|(task, c)| {
            let stats = Arc::new(EdgeStats::of(c.bytes as u64));
            (c.id, EdgeEntry { stage: plan.nodes[task.nodes[0]].id.clone(), lane: task.lane, stats })
        })
        .collect()
}

/// Whether an error says that the job was stopped rather than that it failed.
pub fn is_canceled(error: &Error) -> bool {
    error.kind() == Kind::Canceled
}
