//! A job: the runs that one command begins, and another one goes on with.

mod known;
mod unfinished;

use std::collections::BTreeMap;
use std::sync::Arc;

use bourn_engine::journal::{Asked, Earlier, Entries, Journal, Rest, Returned, RunState, Started, Wait, Waiting};
use bourn_engine::{Error, Result};
use futures::FutureExt;
use futures::future::BoxFuture;
use rusqlite::{Connection, OptionalExtension, params};
use serde::Deserialize;

use crate::Sqlite;
use crate::asked::Listener;
use crate::claim::Claim;
use crate::fault::{Fault, Faults as _};
use crate::writer::{Clock, Stats};

use known::given;
pub use known::has_completed;
pub(crate) use known::{add, anew};
pub(crate) use unfinished::hash;
use unfinished::{Keys, counts, left, unfinished};

/// How many runs a job can have: what the number of a run leaves for its place in the job.
const RUNS_MAX: u64 = 1 << 32;

/// The number of a run in the journal.
pub(crate) fn run_number(job: u64, place: u64) -> Result<i64, Fault> {
    let number = place.checked_add(job << 32).filter(|_| place < RUNS_MAX && job < RUNS_MAX / 2);
    let number = number.and_then(|n| i64::try_from(n).ok());
    number.ok_or_else(|| Fault::Refused(format!("a job can have {RUNS_MAX} runs, and this is run {place}")))
}

/// The place of a run among those of its job, from its number in the journal.
pub(crate) fn place_of(run: i64) -> u64 {
    u64::try_from(run).unwrap_or_default() & (RUNS_MAX - 1)
}

/// What a job is begun with.
#[derive(Clone, Debug)]
pub struct Begin {
    /// The name of the workflow.
    pub workflow: String,
    /// The name of its spec.
    pub file: String,
    /// The text of its spec.
    pub text: String,
    /// The texts of the files that the spec includes, by path.
    pub included: BTreeMap<String, String>,
    /// The path of its inputs, from the root. A job of the same spec and inputs that was cut off is gone on with, also where journal and inputs
    /// were moved together.
    pub source: Option<String>,
    /// Whether a mock model answers.
    pub mock: bool,
    /// Begin anew, and give up what was cut off.
    pub fresh: bool,
    /// How its spec is read: `chain`.
    pub r#type: String,
    /// What is written on its runs, by name. A job that goes on takes those that are said anew.
    pub labels: BTreeMap<String, String>,
    /// What the idempotency keys of its run begin with, where that is not its id.
    pub run_key: Option<String>,
}

/// A job that has begun.
pub struct Begun {
    /// Its journal.
    pub job: Job,
    /// Of a job that goes on: how many of its runs have ended, and how many have not.
    pub resumed: Option<(u64, u64)>,
    /// A job that was cut off, and is not this one.
    pub other: Option<Other>,
}

/// A job that was cut off and may be what somebody wants to go on with, though another one begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    /// It has these inputs, and its spec was another.
    Spec(u64),
    /// It has this spec, and its inputs are not there any more.
    Inputs(u64, String),
}

/// The journal of a job. A clone is the same one.
#[derive(Clone)]
pub struct Job {
    pub(crate) journal: Sqlite,
    pub(crate) number: u64,
    /// Whether there may be runs of it already.
    resumed: bool,
    pub(crate) listener: Arc<Listener>,
    // Behind the listener, so that it is given up last.
    _claim: Arc<Claim>,
}

impl Sqlite {
    /// Begins a job, or goes on with the one that was cut off.
    ///
    /// # Errors
    /// When another process runs it, or the journal can't be written.
    pub fn begin(&self, begin: &Begin) -> Result<Begun> {
        let hash = hash(&begin.text, &begin.included);
        let keys = Keys::of(begin, self.path());
        let found = self.read(|c| unfinished(c, &keys, &hash))?;
        if begin.source.is_some()
            && let Some((number, true)) = found
        {
            let claim = self.claim(number)?;
            if begin.fresh {
                self.end(number)?;
            } else {
                self.taken_over(number, &begin.labels, begin.source.clone().map(|source| (keys, source)))?;
                let counts = self.read(|c| counts(c, number))?;
                let job = self.job(number, true, claim)?;
                return Ok(Begun { job, resumed: Some(counts), other: None });
            }
        }
        let other = match found {
            Some((number, same)) => (!same).then_some(Other::Spec(number)),
            None => self.read(|c| left(c, begin, &hash))?,
        };
        let number = self.add(begin, keys, hash)?;
        let claim = self.claim(number)?;
        let job = self.job(number, false, claim)?;
        Ok(Begun { job, resumed: None, other })
    }

    /// Goes on with a job, whatever its spec and inputs are.
    ///
    /// # Errors
    /// When another process runs it, or the journal can't be read.
    pub fn go_on(&self, number: u64) -> Result<Job> {
        let claim = self.claim(number)?;
        self.taken_over(number, &BTreeMap::new(), None)?;
        self.job(number, true, claim)
    }

    fn job(&self, number: u64, resumed: bool, claim: Claim) -> Result<Job> {
        let listener = Arc::new(Listener::start(self, number)?);
        Ok(Job { journal: self.clone(), number, resumed, listener, _claim: Arc::new(claim) })
    }

    /// This process runs the job from now on, with inputs that may lie elsewhere than they did.
    fn taken_over(&self, number: u64, labels: &BTreeMap<String, String>, moved: Option<(Keys, String)>) -> Result<()> {
        let labels = (!labels.is_empty()).then(|| serde_json::to_string(labels)).transpose()?;
        self.0.writer.write_now(move |c, _| {
            if let Some((Keys { key, beside }, source)) = &moved {
                let update = "UPDATE jobs SET key = ?2, beside = ?3, source = ?4 WHERE job = ?1";
                c.execute(update, params![number, key, beside, source]).told("write")?;
            }
            let update = "UPDATE jobs SET process = ?2, labels = coalesce(?3, labels) WHERE job = ?1";
            c.execute(update, params![number, std::process::id(), labels]).told("write").map(drop)
        })
    }

    /// Has the job for as long as the claim is held.
    pub(crate) fn claim(&self, number: u64) -> Result<Claim> {
        let claim = Claim::take(self.path(), number, &self.0.env)?;
        claim.ok_or_else(|| {
            let message = format!("the journal {}: another process runs job {number}", self.path().display());
            Error::validation(message)
        })
    }

    fn add(&self, begin: &Begin, keys: Keys, hash: String) -> Result<u64> {
        let (labels, included) = (serde_json::to_string(&begin.labels)?, serde_json::to_string(&begin.included)?);
        let begin = begin.clone();
        let (answer, added) = std::sync::mpsc::sync_channel(1);
        self.0.writer.write_now(move |c, clock| {
            let spec = "INSERT INTO specs (hash, file, text, included) VALUES (?1, ?2, ?3, ?4) \
                        ON CONFLICT (hash) DO UPDATE SET file = ?2, included = ?4 RETURNING spec";
            let values = params![hash, begin.file, begin.text, included];
            let spec: i64 = c.query_row(spec, values, |row| row.get(0)).told("write")?;
            let job = "INSERT INTO jobs (key, workflow, spec, source, mock, started, labels, type, process, run_key, beside) \
                       VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
            let Keys { key, beside } = &keys;
            let Begin { workflow, source, mock, r#type, run_key, .. } = &begin;
            let source = source.as_deref().unwrap_or_default();
            let process = std::process::id();
            let row = params![key, workflow, spec, source, mock, clock.next(), labels, r#type, process, run_key, beside];
            c.execute(job, row).told("write")?;
            // The queue has room: the other side takes one.
            let _ = answer.try_send(c.last_insert_rowid());
            Ok(())
        })?;
        let number = added.try_iter().last().and_then(|n| u64::try_from(n).ok());
        number.ok_or_else(|| Error::engine("the journal gave a job no number"))
    }

    /// Nothing of this job is to come any more.
    fn end(&self, number: u64) -> Result<()> {
        self.0.writer.write_now(move |c, clock| {
            let update = "UPDATE jobs SET ended = ?2 WHERE job = ?1 AND ended IS NULL";
            c.execute(update, params![number, clock.next()]).told("write").map(drop)
        })
    }
}

impl Job {
    /// When it began, in microseconds since 1970.
    ///
    /// # Errors
    /// When the journal can't be read.
    pub fn began(&self) -> Result<i64> {
        let number = self.number;
        self.journal
            .read(|c| c.query_row("SELECT started FROM jobs WHERE job = ?1", [number], |row| row.get(0)).told("read"))
    }

    /// Counts the jobs of the journal, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The journal that it is in.
    pub fn journal(&self) -> &Sqlite {
        &self.journal
    }

    /// What the writer of its journal has done so far.
    pub fn stats(&self) -> Stats {
        self.journal.stats()
    }

    /// All of its inputs were read, and all of its runs have ended: the next one with the same spec and inputs begins anew.
    ///
    /// # Errors
    /// When the journal can't be written.
    pub fn end(&self) -> Result<()> {
        self.journal.end(self.number)
    }
}

impl Journal for Job {
    fn start(&self, runs: Started) -> BoxFuture<'static, Result<Vec<Option<Earlier>>>> {
        let job = self.clone();
        async move {
            let runs = Arc::new(runs);
            // Of one that is new nothing is known, and it need not be looked for.
            let known = if job.resumed || !runs.returned.is_empty() {
                let (here, asked) = (job.clone(), runs.clone());
                let read = move || here.journal.read(|c| here.known(c, &asked));
                job.journal.0.env.blocking(read).await??
            } else {
                vec![None; runs.numbers.len()]
            };
            let which = |wanted: fn(&Option<Earlier>) -> bool| {
                known.iter().enumerate().filter(|(_, known)| wanted(known)).map(|(at, _)| at).collect::<Vec<usize>>()
            };
            let new = which(Option::is_none);
            // The time of one that is tried again counts anew, and so does that of one whose spec did not bound it.
            let mut anew = which(|known| known.as_ref().is_some_and(|k| k.deadline.is_none() && !k.state.has_ended()));
            anew.retain(|at| runs.deadlines.get(*at).is_some_and(Option::is_some));
            if new.is_empty() && anew.is_empty() {
                return Ok(known);
            }
            // It may be written later than it began.
            let (number, wait, began) = (job.number, runs.wait, job.journal.0.env.wall().0);
            let insert = move |c: &Connection, clock: &mut Clock| {
                let insert = "INSERT INTO runs (run, id, status, input, started, deadline) \
                              VALUES (?1, ?2, 'RUNNING', ?3, ?4, ?5)";
                let mut statement = c.prepare_cached(insert).told("write")?;
                let deadline = |at: usize| runs.deadlines.get(at).copied().flatten().map(|deadline| deadline.0);
                for at in &new {
                    let run = run_number(number, runs.numbers[*at])?;
                    let (id, input) = (runs.ids.value(*at), given(&runs.inputs, *at));
                    let row = params![run, id, input, clock.of(began), deadline(*at)];
                    statement.execute(row).map_err(|e| taken(e, id))?;
                }
                for at in &anew {
                    let update = "UPDATE runs SET deadline = ?2 WHERE run = ?1";
                    let row = params![run_number(number, runs.numbers[*at])?, deadline(*at)];
                    c.prepare_cached(update).and_then(|mut statement| statement.execute(row)).told("write")?;
                }
                Ok(())
            };
            match wait {
                Wait::Durable => job.journal.0.writer.write(insert).await?,
                Wait::No => job.journal.0.writer.write_later(insert).await?,
            }
            Ok(known)
        }
        .boxed()
    }

    fn returned(&self, runs: Vec<u64>) -> BoxFuture<'static, Result<Vec<Returned>>> {
        let job = self.clone();
        async move {
            let read = move |c: &Connection| {
                let query = "SELECT id, input FROM runs WHERE run = ?1 AND ended IS NULL AND input IS NOT NULL";
                let mut query = c.prepare_cached(query).told("read")?;
                let mut back = Vec::with_capacity(runs.len());
                for number in runs {
                    let run = run_number(job.number, number)?;
                    let found = query.query_row([run], |row| Ok((row.get(0)?, row.get(1)?))).optional().told("read")?;
                    back.extend(found.map(|(id, input)| Returned { number, id, input }));
                }
                Ok(back)
            };
            // One that is passed beside others finds what those have kept.
            job.journal.0.writer.write(|_, _| Ok(())).await?;
            let journal = job.journal.clone();
            job.journal.0.env.blocking(move || journal.read(read)).await?
        }
        .boxed()
    }

    fn append(&self, entries: Entries, wait: Wait) -> BoxFuture<'static, Result<()>> {
        let (journal, number) = (self.journal.clone(), self.number);
        let rest = self.listener.asked.rest().clone();
        let work = move |c: &Connection, clock: &mut Clock| write(c, clock, (number, &rest), &entries);
        async move {
            match wait {
                Wait::Durable => journal.0.writer.write(work).await,
                Wait::No => journal.0.writer.write_later(work).await,
            }
        }
        .boxed()
    }

    fn asked(&self) -> Asked {
        self.listener.asked.clone()
    }
}

pub(crate) fn taken(e: rusqlite::Error, id: &str) -> Fault {
    if e.sqlite_error_code() == Some(rusqlite::ErrorCode::ConstraintViolation) {
        return Fault::Taken(id.to_owned());
    }
    Fault::Sqlite("write", e)
}

/// The one of a wait that it is for.
#[derive(Deserialize)]
struct ForSignal {
    #[serde(default)]
    signal: Option<String>,
}

/// Lets runs come back whose wait begins behind the signal that it is for: that came when they were under way, and they have not seen it.
pub(crate) fn came_before(c: &Connection, (job, rest): (u64, &Rest), waits: &[Waiting]) -> Result<(), Fault> {
    for wait in waits {
        let ForSignal { signal } = serde_json::from_str(&wait.data)
            .map_err(|e| Fault::Damaged(format!("the wait of `{}`: {e}", wait.step)))?;
        let Some(name) = signal else { continue };
        let query = "SELECT 1 FROM events WHERE run = ?1 AND kind = 'signal' AND step = ?2 LIMIT 1";
        let run = run_number(job, wait.number)?;
        if c.prepare_cached(query).and_then(|mut query| query.exists(params![run, name])).told("read")? {
            rest.wake(wait.number);
        }
    }
    Ok(())
}

fn write(c: &Connection, clock: &mut Clock, (job, rest): (u64, &Rest), entries: &Entries) -> Result<(), Fault> {
    let insert = "INSERT INTO events (run, position, kind, step, data) VALUES (?1, ?2, 'step', ?3, ?4)";
    let mut statement = c.prepare_cached(insert).told("write")?;
    for steps in &entries.steps {
        for (at, number) in steps.numbers.iter().enumerate() {
            let row = params![run_number(job, *number)?, clock.next(), steps.name(at), steps.records.value(at)];
            statement.execute(row).told("write")?;
        }
    }
    let insert = "INSERT INTO events (run, position, kind, step, data) VALUES (?1, ?2, ?3, ?4, ?5)";
    let waits = entries.waits.iter().map(|wait| (wait.number, "wait", &wait.step, wait.data.clone()));
    let backoffs = entries.backoffs.iter().map(|off| (off.number, "backoff", &off.step, off.data.clone()));
    for (number, kind, step, data) in waits.chain(backoffs) {
        let row = params![run_number(job, number)?, clock.next(), kind, step, data];
        c.prepare_cached(insert).and_then(|mut statement| statement.execute(row)).told("write")?;
    }
    came_before(c, (job, rest), &entries.waits)?;
    // A run that has ended does not end again; one that waits has not ended.
    let update = "UPDATE runs SET status = ?2, ended = ?3 WHERE run = ?1 AND ended IS NULL";
    let mut statement = c.prepare_cached(update).told("write")?;
    for (number, state) in entries.ends.numbers.iter().zip(&entries.ends.states) {
        let ended = state.has_ended().then(|| clock.next());
        statement.execute(params![run_number(job, *number)?, RunState::name(*state), ended]).told("write")?;
    }
    Ok(())
}
