//! `--monitoring`: spans and metrics of a job to a collector, by OTLP, and alerts to whoever is told. What they do, or do not, is nothing to
//! the job.

mod alerts;
mod attributes;
pub mod ids;
mod metrics;
mod models;
mod post;
mod queue;
mod sending;
pub mod settings;
mod spans;
mod watched;

use std::sync::Arc;

use bourn_engine::Engine;
use bourn_engine::api::Usage;
use bourn_engine::env::Env;
use bourn_engine::journal::Journal;
use bourn_engine::metrics::JobStats;
use bourn_engine::spec::monitoring::Monitoring;
use bourn_engine::spec::{Loaded, Spec};
use bourn_journal::Job;

use alerts::Alerting;
use models::Models;
use queue::Queue;
use sending::{Outcome, Sending};
use settings::Settings;
use spans::Manner;
pub use watched::Eyes;
use watched::{Heard, Spans, Watched};

use crate::failure::Failure;
use crate::logs;
use crate::screen::Screen;

/// The monitoring of one job; of one that is not monitored it does nothing.
pub struct Monitor {
    at_work: Option<AtWork>,
    alerting: Option<Alerting>,
    env: Env,
    screen: Screen,
}

struct AtWork {
    spans: Arc<Spans>,
    /// Who counts questions to models, where metrics are sent.
    models: Option<Arc<Models>>,
    queue: Queue,
    sending: Sending,
    /// Where to, as it may be shown.
    to: String,
    has_traces: bool,
}

impl Monitor {
    /// Begins, if the command line, the spec or the environment says where to.
    ///
    /// # Errors
    /// When what they say can't be followed.
    pub fn start(loaded: &Loaded, flags: &[Monitoring], env: &Env, screen: &Screen) -> Result<Self, Failure> {
        let said = settings::said(&loaded.spec, flags);
        if let Some(level) = said.log_level {
            logs::at(level);
        }
        let settings = Settings::of(&said, env).map_err(|why| Failure::invalid(format!("monitoring: {why}")))?;
        let alerting = Alerting::start(loaded, &said, env, screen)?;
        let (env, screen) = (env.clone(), screen.clone());
        let Some(settings) = settings else { return Ok(Self { at_work: None, alerting, env, screen }) };
        let name = match &loaded.spec {
            Spec::Pipeline(spec) => spec.name.clone(),
            Spec::Chain(spec) => spec.name.clone(),
        };
        let (queue, waiting) = Queue::new();
        let secrets = loaded.document.secrets();
        let models = settings.metrics.as_ref().map(|_| Arc::new(Models::new(secrets.clone())));
        let sending =
            Sending::start(&settings, (waiting, models.clone()), &env).map_err(|e| Failure::Failed(e.into()))?;
        let manner = Manner { secrets: secrets.clone(), payloads: settings.payloads, name };
        let has_traces = settings.traces.is_some();
        let to = [&settings.traces, &settings.metrics].into_iter().flatten().next();
        let to = to.map(|target| bourn_http::errors::shown(&target.url)).unwrap_or_default();
        let spans = Arc::new(Spans::new(manner, settings.sampler, queue.clone(), env.clone()));
        Ok(Self { at_work: Some(AtWork { spans, models, queue, sending, to, has_traces }), alerting, env, screen })
    }

    /// The engine, with its questions to models seen.
    pub fn engine(&self, engine: &Engine) -> Engine {
        let models = self.at_work.as_ref().and_then(|at_work| at_work.models.clone());
        let heard = Heard { spans: self.traced().cloned(), models };
        let is_heard = heard.spans.is_some() || heard.models.is_some();
        if is_heard { engine.clone().with_observer(Arc::new(heard)) } else { engine.clone() }
    }

    /// The journal of a job, with its entries seen; `key` is what the keys of its one run begin with, where that is not its id.
    pub fn journal(&self, job: &Job, key: Option<&str>) -> Arc<dyn Journal> {
        let (inner, tasks) =
            (Arc::new(job.clone()), self.alerting.as_ref().and_then(|all| all.tasks(job.journal().path())));
        let eyes = Eyes { tasks, ..self.eyes() };
        if eyes.is_empty() { inner } else { Arc::new(Watched { inner, eyes, key: key.map(str::to_owned) }) }
    }

    /// Who sees the runs of the job, in its journal or, if it keeps none, by their documents.
    pub fn eyes(&self) -> Eyes {
        let counts = self.alerting.as_ref().map(|alerting| alerting.counts().clone());
        Eyes { spans: self.traced().cloned(), counts, tasks: None }
    }

    /// Who makes spans.
    fn traced(&self) -> Option<&Arc<Spans>> {
        self.at_work.as_ref().filter(|at_work| at_work.has_traces).map(|at_work| &at_work.spans)
    }

    /// What earlier processes have spent for the job.
    pub fn has_spent(&self, spent: Usage) {
        if let Some(alerting) = &self.alerting {
            alerting.has_spent(spent);
        }
    }

    /// The job has started: its metrics are sent from now on, and looked at.
    pub fn watch(&self, stats: &Arc<JobStats>) {
        if let Some(at_work) = &self.at_work {
            at_work.sending.watch(stats.clone(), self.env.wall());
        }
        if let Some(alerting) = &self.alerting {
            alerting.watch(stats, self.env.monotonic());
        }
    }
}

/// The job is over, however: what is left is sent, and what was lost is told.
impl Drop for Monitor {
    fn drop(&mut self) {
        for lost in self.alerting.take().map(Alerting::end).unwrap_or_default() {
            self.screen.warn(&format!("monitoring: {lost}"));
        }
        let Some(AtWork { queue, sending, to, .. }) = self.at_work.take() else { return };
        let outcome = sending.end();
        if let Some(told) = told(&outcome, queue.put_in(), &to) {
            self.screen.warn(&told);
        }
    }
}

/// What is said of what did not arrive.
fn told(outcome: &Outcome, put: u64, to: &str) -> Option<String> {
    let lost = put.saturating_sub(outcome.spans);
    let (sent, taken) = outcome.metrics;
    let mut parts = Vec::new();
    if lost > 0 {
        parts.push(format!("{lost} of {put} spans"));
    }
    if taken < sent {
        parts.push(format!("metrics {} of {sent} times", sent - taken));
    }
    if parts.is_empty() {
        return None;
    }
    let why = outcome.why.as_deref().unwrap_or("there were more than could be sent");
    Some(format!("monitoring: {} did not arrive at {to}: {why}", parts.join(" and ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_did_not_arrive_is_told_and_nothing_else() {
        let outcome = |spans, metrics, why: Option<&str>| Outcome { spans, metrics, why: why.map(str::to_owned) };
        assert_eq!(told(&outcome(5, (2, 2), None), 5, "http://c"), None);
        // It has failed, and has taken them then.
        assert_eq!(told(&outcome(5, (0, 0), Some("503")), 5, "http://c"), None);
        let some = told(&outcome(3, (2, 1), Some("503")), 5, "http://c").unwrap();
        assert_eq!(some, "monitoring: 2 of 5 spans and metrics 1 of 2 times did not arrive at http://c: 503");
        let full = told(&outcome(3, (0, 0), None), 5, "http://c").unwrap();
        assert!(full.ends_with("there were more than could be sent"), "{full}");
    }
}
