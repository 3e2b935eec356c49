//! An engine: what it knows, the world it lives in, and the jobs it starts.

mod within;
mod workflow;

use std::sync::Arc;

use crate::api::{Jobs, Memos, Meter, Observer, Registry, Trace};
use crate::checkpoint::Resume;
use crate::diagnostic::Problems;
use crate::env::Env;
use crate::error::Result;
use crate::graph::Graph;
use crate::plan::{self, Asking, Plan};
use crate::runtime::job::{self, Job, Start};
use within::Within;

pub use workflow::{Documents, Workflow};

/// Plans graphs and starts jobs. Everything it needs is a value in it: two engines in one process do not know each other.
#[derive(Clone)]
pub struct Engine {
    registry: Arc<Registry>,
    env: Env,
    journal: Option<Arc<dyn Memos>>,
    meter: Option<Arc<dyn Meter>>,
    trace: Trace,
}

impl Engine {
    /// An engine that knows these stages and connectors, in the real world.
    pub fn new(registry: Registry) -> Self {
        Self { registry: Arc::new(registry), env: Env::system(), journal: None, meter: None, trace: Trace::default() }
    }

    /// The same in another world.
    #[must_use]
    pub fn with_env(mut self, env: Env) -> Self {
        self.env = env;
        self
    }

    /// The same with a place where answers are kept that were paid for, for stages that say `journal`.
    #[must_use]
    pub fn with_journal(mut self, journal: Arc<dyn Memos>) -> Self {
        self.journal = Some(journal);
        self
    }

    /// The same with one who keeps limits that have a name together with other processes.
    #[must_use]
    pub fn with_meter(mut self, meter: Arc<dyn Meter>) -> Self {
        self.meter = Some(meter);
        self
    }

    /// The same with somebody who is told of requests as they are made.
    #[must_use]
    pub fn with_observer(mut self, observer: Arc<dyn Observer>) -> Self {
        self.trace = Trace::to(observer);
        self
    }

    /// What it knows.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Its world.
    pub fn env(&self) -> &Env {
        &self.env
    }

    /// Plans a graph that is to run; changes nothing outside. Servers of sources are asked for columns that are not known
    /// otherwise.
    ///
    /// # Errors
    /// Every problem of the graph.
    pub async fn plan(&self, graph: Graph) -> Result<Plan, Problems> {
        self.plan_asking(graph, Asking::default()).await
    }

    /// The same, asking whom `asking` says.
    ///
    /// # Errors
    /// Every problem of the graph.
    pub async fn plan_asking(&self, graph: Graph, asking: Asking) -> Result<Plan, Problems> {
        plan::plan(graph, &self.env, asking).await
    }

    /// Starts a planned job. Its tasks run on the runtime that the world spawns on.
    ///
    /// # Errors
    /// When something can't be opened; nothing runs then.
    pub async fn start(&self, plan: Plan) -> Result<Job> {
        self.start_from(plan, Resume::default()).await
    }

    /// Starts a planned job; one that keeps checkpoints begins where `resume` says.
    ///
    /// # Errors
    /// When something can't be opened, or what is kept has no place in the job; nothing runs then.
    pub async fn start_from(&self, plan: Plan, resume: Resume) -> Result<Job> {
        let jobs = Some(Arc::new(Within::new(self.clone())) as Arc<dyn Jobs>);
        let (env, journal, meter) = (self.env.clone(), self.journal.clone(), self.meter.clone());
        job::start(plan, Start { env, journal, jobs, meter, trace: self.trace.clone(), resume }).await
    }

    /// Plans, starts and waits.
    ///
    /// # Errors
    /// The problems of the graph as one error, or what ended the job.
    pub async fn run(&self, graph: Graph) -> Result<()> {
        let plan = self.plan(graph).await?;
        self.start(plan).await?.wait().await
    }
}

/// An engine for a program that builds its graphs itself: it knows no kind by name, in the real world.
impl Default for Engine {
    fn default() -> Self {
        Self::new(Registry::new())
    }
}
