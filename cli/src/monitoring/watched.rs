//! The journal of a job, and the questions of its steps, seen for their spans.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::Array;
use bourn_engine::Result;
use bourn_engine::api::Backoff;
use bourn_engine::api::observer::{Asked, Observer, OfStep};
use bourn_engine::env::Env;
use bourn_engine::journal::{Asked as Asks, Earlier, Entries, Journal, Returned, RunState, Started, Wait};
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::result::ResultDocument;
use futures::FutureExt;
use futures::future::BoxFuture;
use opentelemetry::trace::TraceId;
use opentelemetry_proto::tonic::trace::v1::Span;
use opentelemetry_proto::tonic::trace::v1::span::Event;
use opentelemetry_sdk::trace::Sampler;

use super::alerts::{Counts, Tasks};
use super::ids;
use super::models::Models;
use super::queue::Queue;
use super::spans::{Brief, Manner, Over, nanos};

/// How many failed attempts of a step are told one by one.
const ATTEMPTS_MAX: usize = 32;

/// Makes spans of what is seen, and puts them where they are sent from.
pub struct Spans {
    manner: Manner,
    sampler: Sampler,
    queue: Queue,
    env: Env,
    open: Mutex<Open>,
}

/// Runs that are under way here, as far as their traces are sent: no more than are admitted at once.
#[derive(Default)]
struct Open {
    runs: HashMap<u64, Run>,
    /// Attempts that have failed, by the trace and the name of the step.
    attempts: HashMap<(TraceId, Arc<str>), Vec<Event>>,
}

struct Run {
    trace: TraceId,
    id: String,
    began: u64,
    input: Option<String>,
    /// The class of what was wrong first, and what that was.
    failure: Option<(String, String)>,
}

impl Spans {
    /// Spans for this queue.
    pub fn new(manner: Manner, sampler: Sampler, queue: Queue, env: Env) -> Self {
        Self { manner, sampler, queue, env, open: Mutex::default() }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> u64 {
        nanos(self.env.wall())
    }

    /// Runs begin, or come again with what is known of them.
    fn begun(&self, runs: Vec<(u64, String, Option<String>)>, known: &[Option<Earlier>], key: Option<&str>) {
        let now = self.now();
        for ((number, id, input), earlier) in runs.into_iter().zip(known) {
            let trace = ids::of_run(&self.manner.name, key.unwrap_or(&id));
            if !ids::is_sampled(&self.sampler, trace) {
                continue;
            }
            let mut run = Run { trace, id, began: now, input, failure: None };
            for (name, record) in earlier.iter().flat_map(|earlier| &earlier.history.0) {
                // What begins so is no record of a step.
                if let Some(record) =
                    (!name.starts_with('@')).then(|| serde_json::from_str(record.get()).ok()).flatten()
                {
                    run.note(name, &record);
                }
            }
            self.open().runs.insert(number, run);
        }
    }

    /// The spans of what is written, for the time when it is.
    fn of(&self, entries: &Entries) -> Vec<Span> {
        let (mut spans, now, mut open) = (Vec::new(), self.now(), self.open());
        let Open { runs, attempts } = &mut *open;
        for steps in &entries.steps {
            for (row, number) in steps.numbers.iter().enumerate() {
                let name = steps.name(row);
                // The record of the step has all of its rounds.
                let Some(run) = runs.get_mut(number).filter(|_| !is_round(name)) else { continue };
                let Ok(record) = serde_json::from_str::<Brief>(steps.records.value(row)) else { continue };
                run.note(name, &record);
                let events = attempts.remove(&(run.trace, name.into())).unwrap_or_default();
                spans.push(self.manner.step(run.trace, name, &record, (events, now)));
            }
        }
        for (number, state) in entries.ends.numbers.iter().zip(&entries.ends.states) {
            // One that waits or is paused goes on in another process, or later in this one.
            let Some(run) = runs.remove(number) else { continue };
            attempts.retain(|(trace, _), _| *trace != run.trace);
            if state.has_ended() {
                let Run { trace, id, began, input, failure } = &run;
                let (failure, input) = (failure.as_ref(), input.as_deref());
                let over = Over { trace: *trace, id, times: (*began, now), state: *state, failure, input };
                spans.push(self.manner.run(&over));
            }
        }
        spans
    }
}

impl Spans {
    /// The spans of a run that no journal has, of its document.
    pub fn document(&self, document: &ResultDocument) {
        let trace = ids::of_run(&self.manner.name, &document.run_id);
        if !document.status.has_ended() || !ids::is_sampled(&self.sampler, trace) {
            return;
        }
        let now = self.now();
        let error = document.error_analysis.as_ref();
        let mut began = now;
        for (name, step) in &document.execution_metrics.steps {
            let failed = error.filter(|error| error.instance == format!("/steps/{name}"));
            let record = Brief::of(step, failed, document.workflow_results.get(name));
            began = record.began().map_or(began, |at| at.min(began));
            self.queue.put(self.manner.step(trace, name, &record, (Vec::new(), now)));
        }
        let failure = error.map(|error| (error.class.clone(), error.detail.clone()));
        let (id, failure) = (document.run_id.as_str(), failure.as_ref());
        let over = Over { trace, id, times: (began, now), state: document.status, failure, input: None };
        self.queue.put(self.manner.run(&over));
    }
}

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spans").field("manner", &self.manner).finish_non_exhaustive()
    }
}

impl Run {
    /// Notes when a step began, and whether it is what the run fails with.
    fn note(&mut self, name: &str, record: &Brief) {
        self.began = record.began().map_or(self.began, |began| began.min(self.began));
        // What is below a step may be tolerated there.
        if let Some(error) = record.error.as_ref().filter(|_| !record.degraded && !name.contains(['/', '[', '#'])) {
            self.failure.get_or_insert_with(|| (error.class.clone(), error.message.clone()));
        }
    }
}

/// Whether this is the name of a round of a step: `step#2`.
fn is_round(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, round)| round.bytes().all(|byte| byte.is_ascii_digit()))
}

impl Observer for Spans {
    fn asked(&self, asked: &Asked<'_>) {
        let Manner { name, .. } = &self.manner;
        let trace = match asked.step {
            Some(step) => ids::of_run(name, &step.run),
            None => ids::of_request(name, asked.stage, asked.key),
        };
        if ids::is_sampled(&self.sampler, trace) {
            self.queue.put(self.manner.question(trace, asked));
        }
    }

    fn tried(&self, step: &OfStep, tried: &Backoff<'_>, now: Timestamp) {
        let trace = ids::of_run(&self.manner.name, &step.run);
        let mut open = self.open();
        if !open.runs.values().any(|run| run.trace == trace) {
            return;
        }
        let events = open.attempts.entry((trace, step.name.clone())).or_default();
        if events.len() < ATTEMPTS_MAX {
            let times = (tried.attempts, u64::try_from(tried.wait.as_millis()).unwrap_or(u64::MAX));
            events.push(self.manner.attempt(times, tried.error.class(), &tried.error.to_string(), now));
        }
    }
}

/// Who sees the runs of a job. A clone sees the same.
#[derive(Clone, Debug, Default)]
pub struct Eyes {
    /// Who makes spans of them.
    pub spans: Option<Arc<Spans>>,
    /// Who counts them.
    pub counts: Option<Arc<Counts>>,
    /// Who tells of those that wait for somebody.
    pub tasks: Option<Arc<Tasks>>,
}

impl Eyes {
    /// Whether nobody looks.
    pub fn is_empty(&self) -> bool {
        self.spans.is_none() && self.counts.is_none()
    }

    /// A run that no journal is told of has come to this document.
    ///
    /// # Errors
    /// When it is none.
    pub fn document(&self, document: &str, state: RunState) -> Result<()> {
        if let Some(counts) = &self.counts {
            counts.document(state);
        }
        if let Some(spans) = &self.spans {
            spans.document(&serde_json::from_str(document)?);
        }
        Ok(())
    }
}

/// Who hears of questions to models, which are all counted, also where no span is sent of them.
pub struct Heard {
    /// Who makes spans of them.
    pub spans: Option<Arc<Spans>>,
    /// Who counts them.
    pub models: Option<Arc<Models>>,
}

impl Observer for Heard {
    fn asked(&self, asked: &Asked<'_>) {
        if let Some(models) = &self.models {
            models.asked(asked);
        }
        if let Some(spans) = &self.spans {
            spans.asked(asked);
        }
    }

    fn tried(&self, step: &OfStep, tried: &Backoff<'_>, now: Timestamp) {
        if let Some(spans) = &self.spans {
            spans.tried(step, tried, now);
        }
    }
}

/// A journal whose entries are seen when they are written. What it keeps is that of the one within.
pub struct Watched {
    /// Where they are kept.
    pub inner: Arc<dyn Journal>,
    /// Who sees them.
    pub eyes: Eyes,
    /// What the keys of the one run begin with, where that is not its id.
    pub key: Option<String>,
}

impl Journal for Watched {
    fn start(&self, runs: Started) -> BoxFuture<'static, Result<Vec<Option<Earlier>>>> {
        let payloads = self.eyes.spans.as_ref().is_some_and(|spans| spans.manner.payloads);
        let given = |at: usize| (payloads && runs.inputs.is_valid(at)).then(|| runs.inputs.value(at).to_owned());
        let mut begun: Vec<_> =
            runs.numbers.iter().enumerate().map(|(at, n)| (*n, runs.ids.value(at).to_owned(), given(at))).collect();
        let (Eyes { spans, counts, .. }, key) = (self.eyes.clone(), self.key.clone());
        let started = self.inner.start(runs);
        async move {
            let known = started.await?;
            for ((_, id, _), earlier) in begun.iter_mut().zip(&known) {
                if let Some(earlier) = earlier {
                    id.clone_from(&earlier.id);
                }
            }
            if let Some(counts) = counts {
                counts.begun(begun.iter().map(|(number, id, _)| (*number, id.clone())).collect(), &known);
            }
            if let Some(spans) = spans {
                spans.begun(begun, &known, key.as_deref());
            }
            Ok(known)
        }
        .boxed()
    }

    fn returned(&self, runs: Vec<u64>) -> BoxFuture<'static, Result<Vec<Returned>>> {
        self.inner.returned(runs)
    }

    fn append(&self, entries: Entries, wait: Wait) -> BoxFuture<'static, Result<()>> {
        let made = self.eyes.spans.as_ref().map(|spans| (spans.of(&entries), spans.queue.clone()));
        let counted = self.eyes.counts.as_ref().map(|counts| (entries.ends.clone(), counts.clone()));
        let tasks = self.eyes.tasks.as_ref().map(|tasks| (tasks.of(&entries.waits), tasks.clone()));
        let appended = self.inner.append(entries, wait);
        async move {
            appended.await?;
            if let Some((notices, tasks)) = tasks {
                tasks.tell(notices);
            }
            if let Some((ends, counts)) = counted {
                counts.ended(&ends);
            }
            if let Some((spans, queue)) = made {
                for span in spans {
                    queue.put(span);
                }
            }
            Ok(())
        }
        .boxed()
    }

    fn asked(&self) -> Asks {
        self.inner.asked()
    }
}
