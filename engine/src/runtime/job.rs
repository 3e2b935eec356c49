//! A plan is started: instances are built, channels laid, tasks spawned.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use futures::channel::oneshot;
use tokio::sync::Semaphore;

use super::align::Inputs;
use super::call_task::{CallTask, RequestKey};
use super::chain::{Chain, Slot, Worker};
use super::chain_task::ChainTask;
use super::channel::{Mailbox, Post, Receiver, Sender, channel, mailbox};
use super::coordinate::Owner;
use super::emit::Outlets;
use super::exchange::Router;
use super::sink_task::SinkTask;
use super::source_task::SourceTask;
use super::supervise::{Note, Supervisor};
use crate::api::call::Memo;
use crate::api::{BoxSink, BoxSource, BuildContext, CallContext, ConnectContext, Operator, SinkContext, SourceContext};
use crate::call::rate_limit::Limiter;
use crate::call::stack::{Shared, stack};
use crate::checkpoint::coordinator::{Command, Coordinator, Part};
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::graph::Role;
use crate::metrics::{EdgeEntry, EdgeStats, JobStats, StageEntry, StageRole, StageStats};
use crate::plan::{OperatorKind, Plan, PlannedNode, Task, TaskKind};

/// A job that runs. Dropping the handle does not stop it.
pub struct Job {
    stats: Arc<JobStats>,
    stop: Post<()>,
    ended: oneshot::Receiver<Result<()>>,
}

impl Job {
    /// The counters, which change while the job runs.
    pub fn stats(&self) -> &Arc<JobStats> {
        &self.stats
    }

    /// Asks the sources to read no more; what was read drains, a last epoch ends the job. Harmless when repeated.
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
    /// Durable results of calls.
    pub journal: Option<Arc<dyn Memo>>,
}

/// Builds and spawns everything.
///
/// # Errors
/// When a source, stage or sink can't be built; nothing runs then.
pub async fn start(plan: Plan, with: Start) -> Result<Job> {
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
    let mut builder = Builder {
        plan: &plan,
        with: &with,
        stages: &stages,
        stats: &stats,
        senders,
        receivers,
        notes,
        supervisor: supervisor.clone(),
        limiters: HashMap::new(),
        admissions: HashMap::new(),
        job_key: with.env.random(),
    };
    let tell = announce(&plan);
    let (mut parts, mut commands, mut ready) = (Vec::new(), Vec::new(), Vec::new());
    for (id, task) in plan.tasks.iter().enumerate() {
        // Barrier, prepare, commit, acknowledge, drain and exit: each at most once under way.
        let (post, mailbox) = mailbox(8);
        commands.push(post);
        parts.push(match task.kind {
            TaskKind::Source => Part::Source,
            TaskKind::Chain | TaskKind::Call => Part::Stage,
            TaskKind::Sink => Part::Sink,
        });
        ready.push(builder.task(id, task, mailbox).await?);
    }
    let (stop, stops) = mailbox(1);
    let owner = Owner {
        coordinator: Coordinator::new(parts.clone()),
        parts,
        notes: inbox,
        commands,
        stop: stops,
        epoch_every: plan.epoch_every,
        supervisor: supervisor.clone(),
        env: with.env.clone(),
        stats: stats.clone(),
    };
    for (id, work) in ready.into_iter().enumerate() {
        let name = &plan.tasks[id].name;
        match work {
            Ready::Source(t) => supervisor.spawn(id, name, t.run()),
            Ready::Chain(t) => supervisor.spawn(id, name, t.run()),
            Ready::Call(t) => supervisor.spawn(id, name, t.run()),
            Ready::Sink(t) => supervisor.spawn(id, name, t.run()),
        }
    }
    let (end, ended) = oneshot::channel();
    Supervisor::spawn_owner(&with.env, "owner", async move {
        let result = owner.run().await;
        // Nobody may wait for either.
        let _ = tell.send(result.as_ref().err().map(Error::summary));
        let _ = end.send(result);
    });
    Ok(Job { stats, stop, ended })
}

enum Ready {
    Source(Box<SourceTask>),
    Chain(Box<ChainTask>),
    Call(Box<CallTask>),
    Sink(Box<SinkTask>),
}

struct Builder<'a> {
    plan: &'a Plan,
    with: &'a Start,
    stages: &'a [Vec<StageEntry>],
    stats: &'a Arc<JobStats>,
    senders: HashMap<usize, Sender>,
    receivers: HashMap<usize, Receiver>,
    notes: Post<Note>,
    supervisor: Arc<Supervisor>,
    /// One for all lanes of a call.
    limiters: HashMap<usize, Arc<Limiter>>,
    /// One for all lanes of a source.
    admissions: HashMap<usize, Arc<Semaphore>>,
    job_key: u64,
}

impl Builder<'_> {
    async fn task(&mut self, id: usize, task: &Task, commands: Mailbox<Command>) -> Result<Ready> {
        let head = task.nodes[0];
        let node = &self.plan.nodes[head];
        let stats = self.stages[head][task.lane].stats.clone();
        let env = self.with.env.clone();
        let outlets = self.outlets(task);
        let inputs = self.inputs(task);
        let at = |e: Error| e.at_stage(&node.id);
        Ok(match task.kind {
            TaskKind::Source => Ready::Source(Box::new(SourceTask {
                task: id,
                id: node.id.clone(),
                source: self.source(node, task.lane).await.map_err(at)?,
                outlets,
                commands,
                notes: self.notes.clone(),
                on_error: node.on_error,
                admission: node.admission.map(|rows| {
                    let permits = self.admissions.entry(head).or_insert_with(|| Arc::new(Semaphore::new(rows)));
                    (permits.clone(), rows)
                }),
                stats,
                job: self.stats.clone(),
                env,
            })),
            TaskKind::Sink => Ready::Sink(Box::new(SinkTask {
                task: id,
                id: node.id.clone(),
                sink: self.sink(node, task.lane).await.map_err(at)?,
                inputs,
                outlets,
                commands,
                notes: self.notes.clone(),
                on_error: node.on_error,
                stats,
                job: self.stats.clone(),
                env,
            })),
            TaskKind::Chain => {
                let slots = task
                    .nodes
                    .iter()
                    .enumerate()
                    .map(|(i, n)| self.slot(task, i, *n, &outlets))
                    .collect::<Result<_>>()?;
                let chain = Chain::new(slots, env.clone());
                Ready::Chain(Box::new(ChainTask { task: id, chain, inputs, outlets, notes: self.notes.clone(), env }))
            }
            TaskKind::Call => {
                let Operator::Call(call, limits) = self.build(node, task.lane).map_err(at)? else {
                    return Err(Error::engine("what was planned as a call is none any more").at_stage(&node.id));
                };
                let limiter = self.limiters.entry(head).or_insert_with(|| Arc::new(Limiter::new(limits.rate, &env)));
                let journal = self.with.journal.clone();
                let shared = Shared { limiter: limiter.clone(), journal: journal.clone(), stats: stats.clone() };
                Ready::Call(Box::new(CallTask {
                    task: id,
                    id: node.id.clone(),
                    call: stack(call, &limits, shared),
                    limits,
                    cardinality: node.cardinality,
                    context: CallContext {
                        env: env.clone(),
                        stage: node.id.clone(),
                        idempotency_key: "".into(),
                        attempt: 1,
                        deadline: std::time::Duration::MAX,
                        journal,
                    },
                    key: request_key(node, self.job_key ^ (id as u64)),
                    inputs,
                    outlets,
                    notes: self.notes.clone(),
                    on_error: node.on_error,
                    supervisor: self.supervisor.clone(),
                    stats,
                    env,
                }))
            }
        })
    }

    fn slot(&self, task: &Task, index: usize, n: usize, outlets: &Outlets) -> Result<Slot> {
        let node = &self.plan.nodes[n];
        let worker = match self.build(node, task.lane).map_err(|e| e.at_stage(&node.id))? {
            Operator::Stage(stage) => Worker::Stage(stage),
            Operator::Join(join) => Worker::Join(join),
            Operator::Call(..) => {
                return Err(Error::engine("what was planned as a stage is a call now").at_stage(&node.id));
            }
        };
        let read = (0..=node.ports.len()).filter(|port| outlets.is_read(index, *port)).collect();
        let stats = self.stages[n][task.lane].stats.clone();
        Ok(Slot::new(node.id.clone(), worker, (node.on_error, node.cardinality), read, stats))
    }

    fn build(&self, node: &PlannedNode, lane: usize) -> Result<Operator> {
        let Role::Stage(config) = &node.role else { return Err(Error::engine("only stages are built")) };
        config.0.build(&BuildContext {
            env: self.with.env.clone(),
            id: node.id.to_string(),
            lane,
            lanes: node.lanes,
            inputs: node.inputs.clone(),
            mock: self.plan.options.mock,
        })
    }

    async fn source(&self, node: &PlannedNode, lane: usize) -> Result<BoxSource> {
        let Role::Source(connector) = &node.role else { return Err(Error::engine("only sources read")) };
        let context = ConnectContext { env: self.with.env.clone(), id: node.id.to_string() };
        let splits = connector.0.splits(&context).await?;
        let mine =
            splits.into_iter().enumerate().filter(|(i, _)| i % node.lanes == lane).map(|(_, s)| (s, None)).collect();
        let schema = node.outputs[0].clone();
        connector.0.source(SourceContext { env: context.env, id: context.id, splits: mine, schema }).await
    }

    async fn sink(&self, node: &PlannedNode, lane: usize) -> Result<BoxSink> {
        let Role::Sink(connector) = &node.role else { return Err(Error::engine("only sinks write")) };
        // The sink of the dead letters may have no reader's edge when nothing can fail.
        let schema = node.inputs.first().unwrap_or(&crate::data::columns::DEAD_LETTER).clone();
        let (env, id) = (self.with.env.clone(), node.id.to_string());
        connector.0.sink(SinkContext { env, id, lane, lanes: node.lanes, schema }).await
    }

    fn outlets(&mut self, task: &Task) -> Outlets {
        let mut outlets = Outlets::default();
        for outlet in &task.outlets {
            let mut take = |id: &usize| self.senders.remove(id).expect("a channel has one writer");
            let senders = outlet.channels.iter().map(&mut take).collect();
            outlets.add(outlet.node, outlet.port, Router::new(outlet.exchange.clone(), senders));
        }
        outlets
    }

    fn inputs(&mut self, task: &Task) -> Inputs {
        let mut take = |id: usize| self.receivers.remove(&id).expect("a channel has one reader");
        let inputs = Inputs::new(task.inlets.iter().map(|c| (c.input, take(c.id))).collect());
        match self.plan.relabels(task.nodes[0]) {
            Some(schema) => inputs.read_as(schema.clone()),
            None => inputs,
        }
    }
}

/// Lets the sources and sinks know of the end that is to come: its error, or none. What is never told counts as an error.
fn announce(plan: &Plan) -> oneshot::Sender<Option<Error>> {
    let (tell, told) = oneshot::channel();
    let gone = |_| Some(Error::new(Kind::Canceled, "the job could not be started, or its runtime has ended"));
    let end = told.map(move |told: Result<Option<Error>, _>| Arc::new(told.unwrap_or_else(gone))).boxed().shared();
    for node in &plan.nodes {
        if let Role::Source(connector) | Role::Sink(connector) = &node.role {
            connector.0.started(end.clone());
        }
    }
    tell
}

/// What the keys of a stage's requests are made from: its kind and configuration, so that a changed stage asks anew.
fn request_key(node: &PlannedNode, unique: u64) -> RequestKey {
    let Role::Stage(config) = &node.role else { return RequestKey { stage: String::new(), unique } };
    RequestKey { stage: format!("{} {} {}", node.id, config.0.kind(), config.0.describe()), unique }
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
