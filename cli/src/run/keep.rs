//! The journal of a job of workflow runs: begun before the job, ended behind it.

use std::path::PathBuf;
use std::sync::Arc;

use bourn_engine::api::{Cache, Usage};
use bourn_engine::metrics::{Bucket, JobStats, Standing};
use bourn_engine::spec::{Loaded, Spec};
use bourn_engine::workflow::Runs;
use bourn_engine::workflow::result::Flags;
use bourn_engine::{Engine, Error};
use bourn_journal::{Begin, Job, Other, Sqlite, Stats};
use indicatif::HumanCount;
use serde_json::{Map, Value, json};

use super::args::Run;
use crate::args::Form;
use crate::copied;
use crate::failure::Failure;
use crate::monitoring::Monitor;
use crate::runs::rewards;
use crate::screen::Screen;

/// The journal of a job, if it has one.
pub struct Kept {
    job: Option<Job>,
    /// What the idempotency keys of the one run begin with, where that is not its id.
    key: Option<String>,
    /// What commands that recover its runs need beside.
    flags: Flags,
}

impl Kept {
    /// Begins the job in the journal, or goes on with the one that was cut off, and says so.
    ///
    /// # Errors
    /// When the journal can't be opened, or another process runs this job.
    pub fn begin(engine: &Engine, loaded: &Loaded, args: &Run, screen: &Screen) -> Result<Self, Failure> {
        let flags = copied::flags(&args.journal.journal, args.mock);
        let Spec::Chain(spec) = &loaded.spec else { return Ok(Self { job: None, key: None, flags }) };
        if !spec.optimization.state_persistence {
            return Ok(Self { job: None, key: None, flags });
        }
        let journal = Sqlite::open(&args.journal.journal, engine.env()).map_err(|e| {
            let way = "`--journal FILE` keeps it elsewhere; `optimization: { state_persistence: false }` does without";
            Failure::Failed(Error::new(e.kind(), format!("{e}; {way}")))
        })?;
        let run_key = args.id.as_deref().map(|id| journal.key_of(id)).transpose().map_err(Failure::Failed)?.flatten();
        let begin = Begin {
            run_key: run_key.clone(),
            workflow: spec.name.clone(),
            file: loaded.document.name().to_owned(),
            text: loaded.document.text().to_owned(),
            included: loaded.included.clone(),
            source: args.inputs.as_deref().filter(|path| *path != "-").map(whole),
            mock: args.mock,
            fresh: args.begin.fresh,
            r#type: loaded.choice.mode.to_string(),
            labels: args.label.iter().cloned().collect(),
        };
        let taken = journal.begin(&begin).map_err(Failure::Failed)?;
        // A job that goes on by `bourn run` has what this says; one that goes on by itself what was said last.
        if taken.resumed.is_some() || !args.budget.is_empty() {
            let said = args.budget.iter().cloned().collect();
            journal.say_budget(taken.job.number(), &said).map_err(Failure::Failed)?;
        }
        let place = journal.path().display();
        if let Some((ended, open)) = taken.resumed {
            screen.tell(&format!(
                "goes on with job {}: {ended} of its runs have ended, {open} were under way ({place}); `--fresh` begins anew",
                taken.job.number()
            ));
        }
        match taken.other {
            Some(Other::Spec(other)) => screen.warn(&format!(
                "job {other} of this workflow and these inputs was cut off, and the spec has changed since: this is a new job"
            )),
            Some(Other::Inputs(other, path)) => screen.warn(&format!(
                "job {other} of this spec was cut off, and its inputs {path} are not there any more: this is a new job; with its inputs at \
                 their old place `bourn run` goes on with it"
            )),
            None => {}
        }
        Ok(Self { job: Some(taken.job), key: run_key, flags })
    }

    /// A job that goes on.
    pub fn of(job: Job) -> Self {
        let flags = copied::flags(job.journal().path(), false);
        Self { job: Some(job), key: None, flags }
    }

    /// The runs, kept; what they have spent before is counted where a budget asks for it. Their steps look into `cache`, or into the
    /// journal.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn keep(
        &self,
        spec: &Spec,
        runs: Runs,
        cache: Option<Arc<dyn Cache>>,
        monitor: &Monitor,
    ) -> Result<Runs, Failure> {
        let runs = if self.key.is_some() { runs.with_key(self.key.clone()) } else { runs };
        let own = || self.job.as_ref().map(|job| Arc::new(job.cache()) as Arc<dyn Cache>);
        let flags = self.flags.clone();
        let runs = Runs { cache: cache.or_else(own), flags, ..runs };
        let Some(job) = &self.job else { return Ok(runs) };
        let runs = runs.since(job.began().map_err(Failure::Failed)?);
        if let Spec::Chain(spec) = spec {
            rewards::teach(job.journal(), spec)?;
        }
        let has_budget = matches!(spec, Spec::Chain(spec) if spec.budget.is_some());
        let spent = if has_budget { job.spent().map_err(Failure::Failed)? } else { Usage::default() };
        monitor.has_spent(spent);
        let journal = monitor.journal(job, runs.key.as_deref());
        Ok(runs.having_spent(spent).with_journal(journal, job.number()))
    }

    /// Whether there is one.
    pub fn is_kept(&self) -> bool {
        self.job.is_some()
    }

    /// Tells those that look at its runs what the job holds, from now on.
    pub fn shows(&self, stats: &Arc<JobStats>) {
        let Some(job) = &self.job else { return };
        let stats = stats.clone();
        job.says(move || {
            let limits = stats.limits.get().into_iter().flatten();
            let limits: Map<String, Value> =
                limits.map(|limit| (limit.name.to_string(), standing(&(limit.stands)()))).collect();
            let members = [("buffer_bytes", stats.queued_bytes().into()), ("rate_limits", Value::Object(limits))];
            members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
        });
    }

    /// Says what the journal has written since it was opened.
    pub fn tell(&self, screen: &Screen) {
        let Some(Stats { commits, orders }) = self.job.as_ref().map(Job::stats) else { return };
        screen.say(&match screen.form {
            Form::Text => format!(
                "journal: {} commits, each with an fsync, of {} writes",
                HumanCount(commits),
                HumanCount(orders)
            ),
            Form::Json => json!({ "journal": { "commits": commits, "writes": orders } }).to_string(),
        });
    }

    /// All inputs were read and all runs have ended.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn end(&self) -> Result<(), Failure> {
        self.job.as_ref().map_or(Ok(()), |job| job.end().map_err(Failure::Failed))
    }
}

/// How a limit stands, for programs.
fn standing(Standing { in_flight, paused, buckets }: &Standing) -> Value {
    let bucket = |bucket: &Bucket| {
        let Bucket { what, level, capacity, per_minute } = bucket;
        ((*what).to_owned(), json!({ "level": level, "capacity": capacity, "per_minute": per_minute }))
    };
    json!({
        "in_flight": in_flight.map(|(now, _)| now), "in_flight_max": in_flight.map(|(_, most)| most.floor()),
        "paused_ms": paused.as_millis(), "buckets": buckets.iter().map(bucket).collect::<Map<_, _>>(),
    })
}

/// The path of a file, wherever one stands and however it is spelled.
fn whole(path: &str) -> String {
    let path = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    if let Ok(path) = path.canonicalize() {
        return path.display().to_string();
    }
    let folder = path.parent().and_then(|folder| folder.canonicalize().ok());
    let whole = folder.zip(path.file_name()).map(|(folder, name)| folder.join(name));
    whole.unwrap_or(path).display().to_string()
}
