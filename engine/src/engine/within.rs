//! Jobs that a stage of another job runs: whole pipelines, each to its end.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::BoxFuture;
use hashbrown::HashMap;

use super::Engine;
use crate::api::{Checkpointing, JobRequest, Jobs};
use crate::error::{Error, Result};
use crate::metrics::JobStats;
use crate::spec::{Request, Spec};
use crate::workflow;

/// Runs pipelines in the world of an engine.
pub(super) struct Within {
    engine: Engine,
    /// The ends of jobs that nobody waits for and that were not over when the last one was given up, by the key of their request.
    left: Mutex<HashMap<Arc<str>, BoxFuture<'static, Result<()>>>>,
}

impl Within {
    pub(super) fn new(engine: Engine) -> Self {
        Self { engine, left: Mutex::default() }
    }

    fn left(&self) -> MutexGuard<'_, HashMap<Arc<str>, BoxFuture<'static, Result<()>>>> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the end of a job; when it is given up before that, the job is asked to stop and its end is kept.
    async fn end(&self, key: &Arc<str>, stop: impl Fn() + Send, ended: BoxFuture<'static, Result<()>>) -> Result<()> {
        let mut waiting = Waiting { within: self, key, stop, ended: Some(ended) };
        let Some(ended) = &mut waiting.ended else { return Ok(()) };
        let result = ended.await;
        waiting.ended = None;
        result
    }

    async fn start_and_end(&self, request: JobRequest) -> Result<Arc<JobStats>> {
        let JobRequest { file, text, included, variables, key, mock } = request;
        // Two of them at once would write the same twice, or wait for each other's locks.
        let before = self.left().remove(&key);
        if let Some(before) = before {
            // What became of it does not matter: it is done again.
            let _ = self.end(&key, || {}, before).await;
        }
        let engine = self.engine.clone().with_env(self.engine.env.with_variables(variables));
        let loading = Request { included, ..Request::default() };
        let loaded = loading.load_to_run(&text, &file, engine.registry(), engine.env()).await;
        let loaded = loaded.map_err(|told| {
            let told: Vec<_> = told.iter().map(ToString::to_string).collect();
            Error::validation(told.join("; "))
        })?;
        let Spec::Pipeline(spec) = &loaded.spec else {
            return Err(Error::validation(format!("{file} is no pipeline")));
        };
        let mut graph = workflow::compile_pipeline(&loaded, spec, None);
        graph.options.mock = mock;
        if !matches!(graph.options.checkpoints, Checkpointing::Off) {
            let request = &blake3::hash(key.as_bytes()).to_hex()[..16];
            graph.name = format!("{}-{request}", graph.name);
        }
        let dead_letters = graph.options.dead_letters.clone();
        let is_tolerated = graph.options.tolerated.is_some();
        let plan = engine.plan(graph).await?;
        let job = engine.start(plan).await?;
        let stats = job.stats().clone();
        let stop = job.stopper();
        self.end(&key, stop, job.wait().boxed()).await?;
        if let Some(reason) = stats.paused.get() {
            return Err(Error::validation(format!("{file} has paused itself: {reason}")));
        }
        if !is_tolerated && stats.gets_nothing_through(dead_letters.as_deref()) {
            let (met, rejected) = (stats.rows_met(), stats.rows_rejected());
            return Err(Error::validation(format!(
                "no row of {file} has got through: {rejected} of {met} were rejected"
            )));
        }
        Ok(stats)
    }
}

impl fmt::Debug for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Within")
    }
}

impl Jobs for Within {
    fn run(&self, request: JobRequest) -> BoxFuture<'_, Result<Arc<JobStats>>> {
        self.start_and_end(request).boxed()
    }
}

/// Somebody who waits for the end of a job.
struct Waiting<'a, S: Fn()> {
    within: &'a Within,
    key: &'a Arc<str>,
    stop: S,
    ended: Option<BoxFuture<'static, Result<()>>>,
}

impl<S: Fn()> Drop for Waiting<'_, S> {
    fn drop(&mut self) {
        if let Some(ended) = self.ended.take() {
            (self.stop)();
            let mut left = self.within.left();
            // What has ended by now is waited for by nobody.
            left.retain(|_, ended| ended.now_or_never().is_none());
            left.insert(self.key.clone(), ended);
        }
    }
}
