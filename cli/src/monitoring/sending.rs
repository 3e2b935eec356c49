//! The thread that sends: spans as they come, metrics each interval, all that is left at the end; and what was lost of it.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use bourn_engine::env::Env;
use bourn_engine::metrics::JobStats;
use bourn_engine::time::Timestamp;
use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use futures::future::{Either, FutureExt, Shared, pending, select};
use opentelemetry_proto::tonic::trace::v1::Span;

use super::metrics;
use super::models::Models;
use super::post::{Refused, Sender};
use super::settings::{Settings, Target};

/// Spans that are sent together, at most.
const BATCH: usize = 512;
/// How long a span waits for others.
const LINGER: Duration = Duration::from_secs(1);
/// How long a collector is left alone that has failed; each time twice as long.
const REST: Duration = Duration::from_secs(1);
/// No longer than this.
const REST_MAX: Duration = Duration::from_secs(30);
/// How long the end of a job waits for a collector.
const GRACE: Duration = Duration::from_secs(2);

/// What became of all that was to be sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Spans that a collector has taken.
    pub spans: u64,
    /// Times that metrics were sent, and how many of them they were taken.
    pub metrics: (u64, u64),
    /// What went wrong last.
    pub why: Option<String>,
}

/// The thread, and what it is told.
pub struct Sending {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    outcome: Arc<Mutex<Outcome>>,
    job: Arc<Mutex<Option<Watching>>>,
}

/// A job whose metrics are sent.
#[derive(Clone)]
struct Watching {
    stats: Arc<JobStats>,
    began: Timestamp,
}

impl Sending {
    /// Starts it.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub fn start(
        settings: &Settings,
        (waiting, models): (mpsc::Receiver<Span>, Option<Arc<Models>>),
        env: &Env,
    ) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let (outcome, job) = (Arc::<Mutex<Outcome>>::default(), Arc::<Mutex<Option<Watching>>>::default());
        let work = Work {
            sender: Sender::new(settings.resource.clone()),
            traces: settings.traces.clone(),
            metrics: settings.metrics.clone(),
            models,
            interval: settings.interval,
            env: env.clone(),
            outcome: outcome.clone(),
            job: job.clone(),
            batch: Vec::new(),
            rest: REST,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let run = move || runtime.block_on(work.run(waiting, stopped.map(drop).boxed().shared()));
        let thread = Builder::new().name("bourn-monitoring".into()).spawn(run)?;
        Ok(Self { stop: Some(stop), thread: Some(thread), outcome, job })
    }

    /// Sends the metrics of this job from now on.
    pub fn watch(&self, stats: Arc<JobStats>, began: Timestamp) {
        *lock(&self.job) = Some(Watching { stats, began });
    }

    /// Sends what is left, as far as it is taken within a short time; what became of all.
    pub fn end(mut self) -> Outcome {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // A panic there has cost what was to be sent, and nothing else.
            let _panicked = thread.join();
        }
        lock(&self.outcome).clone()
    }
}

/// Ends when the job is over.
pub type Stopped = Shared<futures::future::BoxFuture<'static, ()>>;

struct Work {
    sender: Sender,
    traces: Option<Target>,
    metrics: Option<Target>,
    models: Option<Arc<Models>>,
    interval: Duration,
    env: Env,
    outcome: Arc<Mutex<Outcome>>,
    job: Arc<Mutex<Option<Watching>>>,
    /// Spans that are sent next.
    batch: Vec<Span>,
    /// How long a collector that fails is left alone.
    rest: Duration,
}

impl Work {
    async fn run(mut self, mut waiting: mpsc::Receiver<Span>, stopped: Stopped) {
        let env = self.env.clone();
        let patience = {
            let stopped = stopped.clone();
            async move {
                stopped.await;
                env.sleep(GRACE).await;
            }
        };
        let outcome = self.outcome.clone();
        let work = async {
            self.until(&mut waiting, stopped).await;
            self.rest(&mut waiting).await;
        };
        if let Either::Right(_) = select(pin!(work), pin!(patience)).await {
            let why = format!("the collector took longer than {GRACE:?} for the rest");
            lock(&outcome).why.get_or_insert(why);
        }
    }

    /// Sends what comes until the job is over.
    async fn until(&mut self, waiting: &mut mpsc::Receiver<Span>, stopped: Stopped) {
        let now = self.env.monotonic();
        let (mut spans_at, mut metrics_at) = (now + LINGER, now + self.interval);
        loop {
            let is_full = self.batch.len() >= BATCH;
            let now = self.env.monotonic();
            let spans_due = if self.batch.is_empty() { Duration::MAX } else { spans_at };
            let next = spans_due.min(metrics_at);
            let next_span = async { if is_full { pending().await } else { waiting.next().await } };
            let sleep = self.env.sleep(next.saturating_sub(now));
            let came = match select(stopped.clone(), select(pin!(next_span), sleep)).await {
                Either::Left(_) => return,
                Either::Right((Either::Left((span, _)), _)) => span,
                Either::Right((Either::Right(_), _)) => None,
            };
            let now = self.env.monotonic();
            if let Some(span) = came {
                if self.batch.is_empty() {
                    spans_at = spans_at.max(now + LINGER);
                }
                self.batch.push(span);
                // A full batch need not wait, but for a collector that rests.
                let is_resting = self.rest > REST;
                if self.batch.len() == BATCH && !is_resting {
                    spans_at = now;
                }
            }
            if !self.batch.is_empty() && spans_at <= now {
                let sent = self.spans().await;
                spans_at = self.env.monotonic() + if sent { Duration::ZERO } else { self.rest };
            }
            if metrics_at <= now {
                self.job_metrics().await;
                metrics_at = self.env.monotonic() + self.interval;
            }
        }
    }

    /// Sends what is left, once.
    async fn rest(&mut self, waiting: &mut mpsc::Receiver<Span>) {
        loop {
            while self.batch.len() < BATCH
                && let Ok(span) = waiting.try_recv()
            {
                self.batch.push(span);
            }
            if self.batch.is_empty() || !self.spans().await {
                break;
            }
        }
        self.job_metrics().await;
    }

    /// Sends the batch; whether it is out of the way. One that may be taken another time is kept for that.
    async fn spans(&mut self) -> bool {
        let Some(to) = &self.traces else {
            self.batch.clear();
            return true;
        };
        let count = self.batch.len() as u64;
        match self.sender.spans(to, self.batch.clone()).await {
            Ok((rejected, why)) => {
                let mut outcome = lock(&self.outcome);
                outcome.spans += count.saturating_sub(rejected);
                if rejected > 0 {
                    outcome.why = Some(why);
                }
                self.rest = REST;
                self.batch.clear();
                true
            }
            Err(Refused { why, is_passing }) => {
                self.failed(why);
                if !is_passing {
                    self.batch.clear();
                }
                self.rest = (self.rest * 2).min(REST_MAX);
                !is_passing
            }
        }
    }

    /// Sends the metrics as they stand. Those that are not taken are in the next ones.
    async fn job_metrics(&mut self) {
        let job = lock(&self.job).clone();
        let (Some(to), Some(Watching { stats, began })) = (&self.metrics, job) else { return };
        let now = self.env.wall();
        let of_models = self.models.iter().flat_map(|models| models.metrics(began, now));
        let all = metrics::of(&stats, began, now).into_iter().chain(of_models).collect();
        let sent = self.sender.metrics(to, all).await;
        lock(&self.outcome).metrics.0 += 1;
        match sent {
            Ok((0, _)) => lock(&self.outcome).metrics.1 += 1,
            Ok((_, why)) | Err(Refused { why, .. }) => self.failed(why),
        }
    }

    fn failed(&self, why: String) {
        let mut outcome = lock(&self.outcome);
        if outcome.why.is_none() {
            tracing::info!("monitoring: {why}");
        }
        outcome.why = Some(why);
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
