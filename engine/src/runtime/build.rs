//! The instances of a plan: what each task works with, made of its node, its channels and what it shares with others; one file,
//! because every kind of task takes its part of the same maps.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::align::Inputs;
use super::book::Kept;
use super::call_task::CallTask;
use super::chain::{Chain, Slot, Worker};
use super::chain_task::ChainTask;
use super::channel::{Mailbox, Post, Receiver, Sender};
use super::emit::Outlets;
use super::exchange::Router;
use super::fallback::Fallback;
use super::job::Start;
use super::ledgers::Ledgers;
use super::requests::{RequestKey, Requests};
use super::sink_task::{self, SinkTask, Trying};
use super::source_task::{Before, SourceTask};
use super::spool::{Folder, Spool};
use super::spool_task::SpoolTask;
use super::supervise::{Note, Supervisor};
use crate::api::{
    Bill, BoxSink, BoxSource, BuildContext, CallContext, ConnectContext, Epochs, OnFull, Operator, Outage, SinkContext,
    SourceContext,
};
use crate::call::adaptive::Gate;
use crate::call::metered::Metered;
use crate::call::places::Places;
use crate::call::rate_limit::Limiter;
use crate::call::stack::{Shared, stack};
use crate::checkpoint::coordinator::Command;
use crate::checkpoint::recovery::{Loader, Recovered};
use crate::data::position::Split;
use crate::env::points;
use crate::error::{Error, Result};
use crate::graph::Role;
use crate::metrics::{JobStats, Limit, StageEntry, StageStats, Standing};
use crate::plan::{Channel, Plan, PlannedEdge, PlannedNode, Task, TaskKind};
use crate::state::visitor::{Confine, Owned};
use crate::time::Timestamp;

/// A task that can be spawned.
pub(super) enum Ready {
    Source(Box<SourceTask>),
    Chain(Box<ChainTask>),
    Call(Box<CallTask>),
    Sink(Box<SinkTask>),
    Spool(Box<SpoolTask>),
}

/// What one limiter is for.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Spaced {
    /// A node.
    Node(usize),
    /// Every node that names it.
    Shared(String),
}

/// Builds one task after the other; what they share is made once.
pub(super) struct Builder<'a> {
    plan: &'a Plan,
    with: &'a Start,
    stages: &'a [Vec<StageEntry>],
    stats: &'a Arc<JobStats>,
    senders: HashMap<usize, Sender>,
    receivers: HashMap<usize, Receiver>,
    notes: Post<Note>,
    supervisor: Arc<Supervisor>,
    /// One for all lanes of a call, or for all calls that share it.
    limiters: HashMap<Spaced, Arc<Limiter>>,
    /// The same for those whose limits are adaptive.
    gates: HashMap<Spaced, Arc<Gate>>,
    /// For all calls that share a limit with other processes, by its name.
    metered: HashMap<String, Arc<Metered>>,
    /// One for all spools of the job that are to be in the same place.
    folders: HashMap<PathBuf, Arc<Folder>>,
    /// One for all lanes of a source.
    admissions: HashMap<usize, Arc<Semaphore>>,
    /// One for all lanes of a call or a sink.
    outages: HashMap<usize, Outage>,
    job_key: u64,
    kept: Option<Kept>,
    ledgers: Ledgers,
}

impl<'a> Builder<'a> {
    /// Has the channels of the plan by number, and the counters of its nodes by lane.
    pub(super) fn new(
        plan: &'a Plan,
        with: &'a Start,
        (stages, stats): (&'a [Vec<StageEntry>], &'a Arc<JobStats>),
        (senders, receivers): (HashMap<usize, Sender>, HashMap<usize, Receiver>),
        notes: Post<Note>,
        supervisor: Arc<Supervisor>,
        (kept, ledgers): (Option<Kept>, Ledgers),
    ) -> Self {
        let (limiters, gates, metered) = (HashMap::new(), HashMap::new(), HashMap::new());
        let (folders, admissions, outages) = (HashMap::new(), HashMap::new(), HashMap::new());
        let job_key = with.env.random();
        Self {
            plan,
            with,
            stages,
            stats,
            senders,
            receivers,
            notes,
            supervisor,
            limiters,
            gates,
            metered,
            folders,
            admissions,
            outages,
            job_key,
            kept,
            ledgers,
        }
    }

    /// Builds one task.
    pub(super) async fn task(&mut self, id: usize, task: &Task, commands: Mailbox<Command>) -> Result<Ready> {
        let head = task.nodes[0];
        let node = &self.plan.nodes[head];
        let stats = self.stages[head][task.lane].stats.clone();
        let (env, secrets) = (self.with.env.clone(), self.plan.options.secrets.clone());
        if let TaskKind::Spool(edge) = task.kind {
            return self.spool(id, task, edge, commands).map_err(|e| e.at_node(node.is(), &node.id));
        }
        let outlets = self.outlets(task);
        let inputs = self.inputs(task);
        let at = |e: Error| e.at_node(node.is(), &node.id);
        Ok(match task.kind {
            TaskKind::Spool(_) => return Err(Error::engine("a spool is built on its own")),
            TaskKind::Source => {
                let (source, before) = self.source(node, task.lane).await.map_err(at)?;
                Ready::Source(Box::new(SourceTask {
                    task: id,
                    id: node.id.clone(),
                    source,
                    before,
                    saves: self.kept.is_some(),
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
                    secrets,
                    env,
                }))
            }
            TaskKind::Sink => {
                let trying = Trying { env: env.clone(), outage: self.outage(head), stats: stats.clone() };
                Ready::Sink(Box::new(SinkTask {
                    task: id,
                    id: node.id.clone(),
                    sink: self.sink(node, task.lane, &trying).await.map_err(at)?,
                    trying,
                    inputs,
                    outlets,
                    commands,
                    notes: self.notes.clone(),
                    on_error: node.on_error,
                    stats,
                    job: self.stats.clone(),
                    secrets,
                    env,
                }))
            }
            TaskKind::Chain => {
                let slots = task
                    .nodes
                    .iter()
                    .enumerate()
                    .map(|(i, n)| self.slot(task, i, *n, &outlets))
                    .collect::<Result<_>>()?;
                let chain = Chain::new(slots, env.clone());
                Ready::Chain(Box::new(ChainTask {
                    task: id,
                    lane: task.lane,
                    finished_before: self.has_finished(node, task.lane),
                    saves: self.kept.is_some(),
                    chain,
                    inputs,
                    outlets,
                    notes: self.notes.clone(),
                    secrets,
                    env,
                }))
            }
            TaskKind::Call => self.call(id, task, (inputs, outlets), stats)?,
        })
    }

    /// Lets whoever looks at the job see what its requests are limited by.
    pub(super) fn tell_limits(&self) {
        let limit = |(spaced, limiter): (&Spaced, &Arc<Limiter>)| {
            let name = match spaced {
                Spaced::Node(node) => self.plan.nodes[*node].id.clone(),
                Spaced::Shared(name) => name.as_str().into(),
            };
            let (limiter, gate) = (limiter.clone(), self.gates.get(spaced).cloned());
            let stands = move || {
                let mut standing = limiter.standing();
                if let Some(Standing { in_flight, paused, buckets }) = gate.as_ref().map(|gate| gate.standing()) {
                    standing.in_flight = in_flight;
                    standing.paused = standing.paused.max(paused);
                    standing.buckets.extend(buckets);
                }
                standing
            };
            Limit { name, stands: Box::new(stands) }
        };
        let mut limits: Vec<Limit> = self.limiters.iter().map(limit).collect();
        limits.sort_by(|a, b| a.name.cmp(&b.name));
        // It is told once: a job is built once.
        let _told = self.stats.limits.set(limits);
    }

    /// What is told of the outages of a node.
    fn outage(&mut self, node: usize) -> Outage {
        let (id, env, secrets) = (&self.plan.nodes[node].id, &self.with.env, &self.plan.options.secrets);
        self.outages.entry(node).or_insert_with(|| Outage::hiding(id, env, secrets.clone())).clone()
    }

    fn call(
        &mut self,
        id: usize,
        task: &Task,
        (inputs, outlets): (Inputs, Outlets),
        stats: Arc<StageStats>,
    ) -> Result<Ready> {
        let head = task.nodes[0];
        let node = &self.plan.nodes[head];
        let (env, secrets) = (self.with.env.clone(), self.plan.options.secrets.clone());
        let at = |e: Error| e.at_stage(&node.id);
        let Operator::Call(call, limits) = self.build(node, task.lane).map_err(at)? else {
            return Err(Error::engine("what was planned as a call is none any more").at_stage(&node.id));
        };
        let mut requests = Requests::new(node.inputs[0].clone());
        if let Some(loader) = self.loader(node, task.lane) {
            requests.load(loader).map_err(at)?;
        }
        let outage = self.outage(head);
        let spaced = node.rate_limit.as_ref().map_or(Spaced::Node(head), |(name, _)| Spaced::Shared(name.clone()));
        let limits = node.rate_limit.as_ref().map(|(_, shared)| *shared).unwrap_or_default().of(limits);
        let gate = limits.are_adaptive().then(|| {
            let gate = self.gates.entry(spaced.clone()).or_insert_with(|| Arc::new(Gate::new(&limits, &env)));
            gate.join(limits.in_flight);
            gate.clone()
        });
        let metered = self.metered(node);
        let limiter = self.limiters.entry(spaced).or_insert_with(|| Arc::new(Limiter::new(limits.rate, &env)));
        let (journal, purses) = self.ledgers.of(node);
        let places = Arc::new(Places::new(limits.in_flight));
        let shared = Shared {
            places: places.clone(),
            limiter: limiter.clone(),
            gate,
            metered,
            outage,
            journal: journal.clone(),
            purses: purses.clone(),
            runs: self.plan.options.purses.clone().filter(|_| node.accounts.tokens),
            pause: self.ledgers.pause(),
            stats: stats.clone(),
        };
        Ok(Ready::Call(Box::new(CallTask {
            task: id,
            lane: task.lane,
            saves: self.kept.is_some(),
            requests,
            id: node.id.clone(),
            call: stack(call, &limits, shared),
            limits,
            places,
            purses,
            cardinality: node.cardinality,
            context: CallContext {
                env: env.clone(),
                stage: node.id.clone(),
                idempotency_key: "".into(),
                attempt: 1,
                deadline: std::time::Duration::MAX,
                ingested: Timestamp::MIN,
                journal,
                feedback: None,
                bill: Bill::default(),
                trace: self.with.trace.clone(),
            },
            key: RequestKey::of(node, self.job_key ^ (id as u64)),
            inputs,
            outlets,
            notes: self.notes.clone(),
            on_error: node.on_error,
            supervisor: self.supervisor.clone(),
            stats,
            secrets,
            env,
        })))
    }

    /// The buckets of a node's limit that other processes keep too.
    fn metered(&mut self, node: &PlannedNode) -> Option<Arc<Metered>> {
        let (meter, (name, limits)) = (self.with.meter.as_ref()?, node.rate_limit.as_ref()?);
        let made = || Arc::new(Metered::new(meter.clone(), name, limits, &self.with.env));
        Some(self.metered.entry(name.clone()).or_insert_with(made).clone())
    }

    /// The queue on the disk before a lane of an isolated node. Its cap is a share of what the node may have.
    fn spool(&mut self, id: usize, task: &Task, edge: usize, commands: Mailbox<Command>) -> Result<Ready> {
        let (edge, env) = (&self.plan.edges[edge], self.with.env.clone());
        let OnFull::Isolate(isolation) = &edge.on_full else { return Err(Error::engine("this edge has no spool")) };
        let folder = if let Some(folder) = self.folders.get(&isolation.path) {
            folder.clone()
        } else {
            let folder = Arc::new(Folder::claim(&env, &isolation.path, &self.plan.name)?);
            self.folders.insert(isolation.path.clone(), folder.clone());
            folder
        };
        let isolated = |e: &&PlannedEdge| matches!(e.on_full, OnFull::Isolate(_));
        let shares = self.plan.edges_to(edge.to).filter(isolated).count() * self.plan.nodes[edge.to].lanes;
        let reader = &self.plan.nodes[edge.to];
        let name = format!("{}.{}.{}", reader.id, edge.input, task.lane);
        let spool = Spool::new(env.clone(), folder, name, isolation.disk.0 / shares.max(1) as u64);
        let out = task.outlets.iter().flat_map(|o| &o.channels).find_map(|c| self.senders.remove(c));
        let out = out.ok_or_else(|| Error::engine("a spool has one reader"))?;
        let mut take = |c: &Channel| (0, self.receivers.remove(&c.id).expect("a channel has one reader"));
        let inputs = Inputs::new(task.inlets.iter().map(&mut take).collect());
        let (id_of_reader, notes) = (reader.id.clone(), self.notes.clone());
        let spool = Some(spool);
        Ok(Ready::Spool(Box::new(SpoolTask { task: id, id: id_of_reader, inputs, out, spool, commands, notes, env })))
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
        let mut slot = Slot::new(node.id.clone(), worker, (node.on_error, node.cardinality), read, stats);
        if let Some(room) = self.plan.state_room(&self.with.env, n, task.lane) {
            slot.visit(&mut Confine(room))?;
        }
        if let Some(loader) = self.loader(node, task.lane) {
            slot.restore(loader).map_err(|e| e.context("its saved state").at_stage(&node.id))?;
        }
        Ok(slot)
    }

    fn recovered(&self) -> Option<&Arc<Recovered>> {
        self.kept.as_ref()?.recovered.as_ref()
    }

    fn loader<'b>(&'b self, node: &'b PlannedNode, lane: usize) -> Option<Loader<'b>> {
        let owned = Owned { lane, lanes: node.lanes };
        Some(self.recovered()?.loader(&node.id, owned, node.is_keyed()))
    }

    fn has_finished(&self, node: &PlannedNode, lane: usize) -> bool {
        self.recovered().is_some_and(|r| r.is_finished(&node.id, lane, node.lanes))
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
            jobs: self.with.jobs.clone(),
        })
    }

    /// A source and where an earlier run had left it.
    async fn source(&self, node: &PlannedNode, lane: usize) -> Result<(BoxSource, Before)> {
        let Role::Source(connector) = &node.role else { return Err(Error::engine("only sources read")) };
        let context = ConnectContext { env: self.with.env.clone(), id: node.id.to_string(), lanes: 1 };
        let splits = connector.0.splits(&context).await?;
        let mut before = Before::default();
        if let Some(recovered) = self.recovered() {
            (before.epoch, before.finished) = (recovered.manifest.epoch, self.has_finished(node, lane));
            before.splits = recovered.splits(&node.id);
            // The others are of other lanes. Those that are gone stay known, should they come back.
            let lane_of = |split: &Split| splits.iter().position(|s| s == split).map_or(0, |i| i % node.lanes);
            before.splits.retain(|split, _| lane_of(split) == lane);
        }
        let mine = splits.iter().enumerate().filter(|(i, _)| i % node.lanes == lane);
        let splits = mine.map(|(_, split)| (split.clone(), before.splits.get(split).cloned())).collect();
        let schema = node.outputs[0].clone();
        let source = connector.0.source(SourceContext { env: context.env, id: context.id, splits, schema }).await?;
        Ok((source, before))
    }

    async fn sink(&self, node: &PlannedNode, lane: usize, trying: &Trying) -> Result<BoxSink> {
        let Role::Sink(connector) = &node.role else { return Err(Error::engine("only sinks write")) };
        // The sink of the dead letters may have no reader's edge when nothing can fail.
        let schema = node.inputs.first().unwrap_or(&crate::data::columns::DEAD_LETTER).clone();
        let (env, id) = (self.with.env.clone(), node.id.to_string());
        let epochs = self.epochs(node);
        let context = || SinkContext {
            env: env.clone(),
            id: id.clone(),
            lane,
            lanes: node.lanes,
            schema: schema.clone(),
            epochs: epochs.clone(),
        };
        let mut sinks = vec![connector.0.sink(context()).await?];
        let receipts = epochs.iter().flat_map(|e| &e.receipts);
        for (_, receipt) in receipts.filter(|(of, _)| of % node.lanes == lane) {
            // What an earlier run had prepared and written down, and perhaps not committed.
            env.reached(points::COMMIT_AGAIN);
            let committed = sink_task::commit(&mut sinks[0], receipt, trying).await;
            committed.map_err(|e| e.context("committing what a checkpoint has"))?;
            env.reached(points::COMMITTED_AGAIN);
        }
        for (number, other) in node.fallback.iter().enumerate() {
            let sink = other.0.sink(context()).await;
            sinks.push(sink.map_err(|e| e.context(format!("fallback {}", number + 1)))?);
        }
        match sinks.pop() {
            Some(only) if sinks.is_empty() => Ok(only),
            last => {
                sinks.extend(last);
                Ok(BoxSink::new(Fallback::new(sinks, trying)))
            }
        }
    }

    /// What a sink is told of checkpoints. One with a fallback is told nothing: what went where is not kept.
    fn epochs(&self, node: &PlannedNode) -> Option<Epochs> {
        let (kept, checkpoints) = (self.kept.as_ref()?, self.plan.checkpoints.as_ref()?);
        if !node.fallback.is_empty() {
            return None;
        }
        let recovered = kept.recovered.as_ref();
        Some(Epochs {
            run: kept.run.clone(),
            behind: recovered.map_or(0, |r| r.manifest.epoch),
            receipts: recovered.map(|r| r.receipts(&node.id)).unwrap_or_default(),
            folder: checkpoints.staged(&self.plan.name),
        })
    }

    fn outlets(&mut self, task: &Task) -> Outlets {
        let mut outlets = Outlets::default();
        for outlet in &task.outlets {
            let mut take = |id: &usize| self.senders.remove(id).expect("a channel has one writer");
            let senders = outlet.channels.iter().map(&mut take).collect();
            let router = Router::new(outlet.exchange.clone(), senders);
            outlets.add(outlet.node, outlet.port, if outlet.drops { router.dropping() } else { router });
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
