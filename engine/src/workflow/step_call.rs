//! A step that asks something outside: a request for each run. Long because whatever a step may be (answered before, tried again, done in
//! rounds) is one implementation of one trait.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::BoxFuture;
use hashbrown::HashMap;
use serde_json::Value;

use super::artifacts::Writes;
use super::attempts::{Attempts, NOTED};
use super::cached::Cached;
use super::checked::Checked;
use super::columns::{again, cell, numbers, scope};
use super::course::{Course, item, results};
use super::paid::Paid;
use super::record::{Cost, Record, Status};
use super::recorded::{Question, Recorded};
use super::rounds::{Again, add, before, round};
use super::wait::PATIENCE;
use crate::api::cache::Turn;
use crate::api::call::Cached as Looked;
use crate::api::{Accounts, Backoff, BoxCall, Call, CallContext, Deadlines, Keys, Next, Reply, Trace, Tried, Usage};
use crate::data::columns::RUN_ID;
use crate::error::{Error, Result};
use crate::journal::{BackingOff, Entries, History, Journal, Wait};
use crate::time::Timestamp;

/// Why a step has not been asked that counts as degraded.
pub(super) const UNPAID: &str = "the budget is spent";

/// When the first attempt of a request began, and how many there were.
#[derive(Clone)]
struct Begun {
    at: Timestamp,
    since: Duration,
    /// How long before that, in an earlier process.
    before: Duration,
    attempts: u32,
    /// What was wrong with the last answer.
    wrong: Option<Arc<str>>,
}

/// What a step needs of its run beside the row.
pub(super) struct Notes {
    /// Where waits between attempts are noted.
    pub journal: Option<Arc<dyn Journal>>,
    /// What idempotency keys begin with, where that is not the id of the run.
    pub key: Option<Arc<str>>,
    /// Whether what is recorded of the run answers.
    pub is_answered: bool,
    /// Where it is looked for what was asked before.
    pub cached: Option<Cached>,
    /// What bounds its time beside that of an attempt.
    pub deadlines: Deadlines,
}

pub(super) struct StepCall {
    inner: BoxCall,
    course: Course,
    again: Option<Again>,
    checked: Option<Checked>,
    writes: Writes,
    notes: Notes,
    /// Of the requests in flight, by idempotency key; bounded by how many may be in flight.
    begun: Mutex<HashMap<Arc<str>, Begun>>,
    /// What the rounds so far have left of those that are done in rounds.
    rounds: Mutex<HashMap<Arc<str>, Record>>,
    paid: Paid,
}

impl StepCall {
    pub(super) fn new(
        inner: BoxCall,
        course: Course,
        (again, checked, writes): (Option<Again>, Option<Checked>, Writes),
        notes: Notes,
    ) -> Self {
        Self {
            inner,
            course,
            again,
            checked,
            writes,
            notes,
            begun: Mutex::default(),
            rounds: Mutex::default(),
            paid: Paid::default(),
        }
    }

    /// Notes what was wrong with an answer that had to be paid for.
    fn spoiled(&self, wrong: &Error, usage: Usage, context: &CallContext) {
        context.bill.lost(usage);
        if let Some(begun) = lock(&self.begun).get_mut(&context.idempotency_key) {
            begun.wrong = Some(wrong.message().into());
        }
    }

    /// The request for a better answer than the last one: with what was wrong, and a key of its own, since the same one has the same
    /// answer.
    fn better(&self, asked: CallContext, context: &CallContext) -> CallContext {
        let wrong = lock(&self.begun).get(&context.idempotency_key).and_then(|begun| begun.wrong.clone());
        let Some(wrong) = wrong else { return asked };
        let key = format!("{}~{}", asked.idempotency_key, asked.attempt).into();
        CallContext { idempotency_key: key, feedback: Some(wrong), ..asked }
    }

    /// The name of the step in this row: `step`, or `step[3]`.
    fn name(&self, rows: &RecordBatch) -> Result<String> {
        Ok(item(rows, 0)?.map_or_else(|| self.course.id.to_string(), |place| place.of(&self.course.id)))
    }

    /// What the round before left, of a step that is done in rounds.
    fn before(&self, rows: &RecordBatch, name: &str) -> Result<Option<Record>> {
        self.again.as_ref().map(|_| before(&self.course, rows, name)).transpose()
    }

    /// The name of what is asked for: of the step, or of its next round, which is the same in every process that goes on with this run.
    fn asked(&self, rows: &RecordBatch) -> Result<String> {
        let name = self.name(rows)?;
        let before = self.before(rows, &name)?;
        Ok(before.map_or(name.clone(), |before| round(&name, before.rounds)))
    }

    /// Who is told what this step does.
    fn trace(&self, rows: &RecordBatch, context: &CallContext) -> Result<Trace> {
        if !context.trace.is_heard() {
            return Ok(Trace::default());
        }
        let (scope, name) = (scope(rows, 0)?, self.name(rows)?);
        Ok(context.trace.of_step(self.run(rows)?, || format!("{scope}{name}")))
    }

    /// What idempotency keys begin with.
    fn run<'a>(&'a self, rows: &'a RecordBatch) -> Result<&'a str> {
        Ok(self.notes.key.as_deref().or(cell(rows, RUN_ID, 0)?).unwrap_or_default())
    }

    /// What is recorded of this request, with what the spec says of it now.
    fn recorded(&self, recorded: &Recorded, rows: &RecordBatch) -> Result<Record> {
        let (scope, name) = (scope(rows, 0)?, self.name(rows)?);
        let before = self.before(rows, &name)?;
        let of = |before: &Record| (format!("{scope}{}", round(&name, before.rounds)), before.rounds.unwrap_or(0) + 1);
        let round = before.as_ref().map(of);
        let (name, fallback) = (format!("{scope}{name}"), self.course.begin.fallback);
        let record =
            recorded.answer(&Question { name: &name, round, fallback, default: self.course.begin.default.as_ref() })?;
        match (record.status, record.degraded) {
            (Status::Failed | Status::TimedOut, _) => Ok(self.course.failed(record)),
            // It had not been asked, for want of money.
            (Status::Completed, true) if record.quality_gates.is_empty() => {
                Ok(Record { results: Some(self.course.begin.default.clone().unwrap_or_default()), ..record })
            }
            (Status::Completed, _) => {
                let Some(checked) = &self.checked else { return Ok(record) };
                match checked.fits(record.results.clone().unwrap_or_default()) {
                    Ok(results) => Ok(Record { results: Some(results), ..record }),
                    Err(wrong) => Ok(self.course.failed(Record::failed(&wrong, record.attempts))),
                }
            }
            _ => Ok(record),
        }
    }

    /// What an earlier process has tried of this request.
    fn attempts(&self, rows: &RecordBatch) -> Result<Option<Attempts>> {
        let known = Attempts::known(rows, 0, &self.asked(rows)?)?;
        Ok(known.filter(|attempts| attempts.fallback == self.course.begin.fallback))
    }

    /// Notes that the next attempt comes later: in the journal, and in the record of the step if that is too long to wait for here.
    async fn note(
        &self,
        journal: &Arc<dyn Journal>,
        rows: &RecordBatch,
        backoff: Backoff<'_>,
        context: &CallContext,
    ) -> Result<Option<RecordBatch>> {
        let (now, fallback) = (context.env.wall(), self.course.begin.fallback);
        let scheduled = match self.attempts(rows)? {
            Some(known) => known.tried().scheduled,
            None => self.scheduled(rows, context)?,
        };
        let begun = lock(&self.begun).get(&context.idempotency_key).cloned();
        let wait = i64::try_from(backoff.wait.as_micros()).unwrap_or(i64::MAX);
        let before = (fallback > 0).then(|| self.course.before(rows, 0)).transpose()?;
        let paid = self.paid.so_far(&context.idempotency_key);
        let round = self.before(rows, &self.name(rows)?)?;
        let failed = before.map(serde_json::from_str::<Record>).transpose()?;
        let mut usage = Usage::default();
        let earlier = [round, failed].into_iter().flatten().filter_map(|record| record.usage);
        earlier.chain(paid).for_each(|cost| usage += cost.into());
        let attempts = Attempts {
            due: now.0.saturating_add(wait),
            since: begun.as_ref().map_or(now, |begun| begun.at).0,
            scheduled: Some(scheduled.0),
            attempts: begun.as_ref().map_or(backoff.attempts, |begun| begun.attempts),
            counted: backoff.attempts,
            fallback,
            before: before.map(serde_json::from_str).transpose()?,
            error: backoff.error.to_string(),
            wrong: begun.and_then(|begun| begun.wrong),
            paid,
            usage: Cost::of(usage),
        };
        let step = format!("{}{}", scope(rows, 0)?, self.asked(rows)?).into();
        let data = serde_json::to_string(&attempts)?;
        let backoffs = vec![BackingOff { number: numbers(rows)?[0], step, data }];
        journal.append(Entries { backoffs, ..Entries::default() }, Wait::Durable).await?;
        if backoff.wait <= PATIENCE {
            return Ok(None);
        }
        lock(&self.begun).remove(&context.idempotency_key);
        self.paid.forget(&context.idempotency_key);
        self.later(rows, (&attempts, true)).map(Some)
    }

    /// The answer of a step that is tried again another time.
    fn later(&self, rows: &RecordBatch, (attempts, is_new): (&Attempts, bool)) -> Result<RecordBatch> {
        if let Some(journal) = &self.notes.journal {
            self.course.waits(journal, rows, (Some(attempts.due), is_new))?;
        }
        self.course.answer(rows, vec![serde_json::to_string(&attempts.record())?])
    }

    fn begin(&self, rows: &RecordBatch, context: &CallContext) -> Result<()> {
        if let Some(begun) = lock(&self.begun).get_mut(&context.idempotency_key) {
            begun.attempts += 1;
            return Ok(());
        }
        let (now, since) = (context.env.wall(), context.env.monotonic());
        if self.notes.cached.is_some() {
            context.bill.cached(Looked { misses: 1, ..Looked::default() });
        }
        let begun = match self.attempts(rows)? {
            Some(Attempts { since: at, attempts, paid, wrong, .. }) => {
                let at = Timestamp(at);
                self.paid.resume(&context.idempotency_key, paid);
                Begun { at, since, before: now.since(at), attempts: attempts + 1, wrong }
            }
            None => Begun { at: now, since, before: Duration::ZERO, attempts: 1, wrong: None },
        };
        lock(&self.begun).insert(context.idempotency_key.clone(), begun);
        Ok(())
    }

    /// The record of a request with its times and attempts, and what they cost. One that never began failed before.
    fn end(&self, context: &CallContext, record: Record) -> Record {
        let mut record = self.paid.end(&context.idempotency_key, record);
        if let Some(begun) = lock(&self.begun).remove(&context.idempotency_key) {
            let took = context.env.monotonic().saturating_sub(begun.since) + begun.before;
            record.attempts = begun.attempts;
            record.started_at = Some(begun.at.to_string());
            record.duration_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
        record
    }

    fn answer(&self, rows: &RecordBatch, record: Record) -> Result<RecordBatch> {
        let record = self.course.made(rows, 0, record)?;
        self.course.answer(rows, vec![serde_json::to_string(&record)?])
    }
}

impl Call for StepCall {
    async fn known(&self, rows: &RecordBatch, context: &CallContext) -> Result<Option<RecordBatch>> {
        if let Some(record) = self.course.settled(rows, 0)? {
            return self.course.answer(rows, vec![record]).map(Some);
        }
        if let Some(recorded) = self.course.begin.recorded.as_ref().filter(|_| self.notes.is_answered) {
            let record = serde_json::to_string(&self.recorded(recorded, rows)?)?;
            return self.course.answer(rows, vec![record]).map(Some);
        }
        if let Some(cached) = &self.notes.cached
            && let Some(record) = cached.find(&self.inner, rows, context).await
        {
            return self.answer(rows, record).map(Some);
        }
        let now = context.env.wall();
        let later =
            self.attempts(rows)?.filter(|attempts| self.notes.journal.is_some() && attempts.left(now) > PATIENCE);
        later.map(|attempts| self.later(rows, (&attempts, false))).transpose()
    }

    fn turn<'a>(&'a self, rows: &'a RecordBatch) -> Option<BoxFuture<'a, Option<Turn>>> {
        self.notes.cached.as_ref().map(|cached| cached.turn(&self.inner, rows).boxed())
    }

    fn tried(&self, rows: &RecordBatch) -> Result<Option<Tried>> {
        Ok(self.attempts(rows)?.map(|attempts| attempts.tried()))
    }

    fn payer(&self, rows: &RecordBatch) -> Option<u64> {
        numbers(rows).ok()?.first().copied()
    }

    fn deadlines(&self) -> Option<Deadlines> {
        Some(self.notes.deadlines)
    }

    fn scheduled(&self, rows: &RecordBatch, context: &CallContext) -> Result<Timestamp> {
        if self.before(rows, &self.name(rows)?)?.is_some_and(|before| before.rounds > Some(0)) {
            // Another round follows at once.
            let begun = lock(&self.begun).get(&context.idempotency_key).map(|begun| begun.at);
            return Ok(begun.unwrap_or_else(|| context.env.wall()));
        }
        Ok(self.course.ready(rows, 0)?.max(Some(context.ingested)).unwrap_or_default())
    }

    fn backs_off<'a>(
        &'a self,
        rows: &'a RecordBatch,
        backoff: Backoff<'a>,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>> {
        // What can't be told of an attempt is no reason to end it.
        if let Ok(trace) = self.trace(rows, context) {
            trace.tried(&backoff, context.env.wall());
        }
        // What was paid is known to whoever goes on.
        let is_noted = backoff.wait > NOTED || self.paid.so_far(&context.idempotency_key).is_some();
        let journal = self.notes.journal.as_ref().filter(|_| is_noted)?;
        Some(self.note(journal, rows, backoff, context).boxed())
    }

    fn accounts(&self) -> Accounts {
        // What a step gave is in the journal of its run, and it is asked for under the name of run and step.
        Accounts { keeps: false, keys: Keys::Own, ..self.inner.accounts() }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn postponed(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        if self.notes.journal.is_none() {
            return Ok(None);
        }
        self.course.leave_open(rows, 0, true)?;
        Ok(Some(self.course.answer(rows, vec![serde_json::to_string(&Record::unpaid_for())?])?))
    }

    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let results = Some(self.course.begin.default.clone().unwrap_or_default());
        let record = Record { status: Status::Completed, results, degraded: true, ..Record::skipped(UNPAID.into()) };
        Ok(Some(self.course.answer(rows, vec![serde_json::to_string(&record)?])?))
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        if rows.num_rows() != 1 {
            return Err(Error::engine("a step is called for one run at a time"));
        }
        self.begin(&rows, context)?;
        let attempt = self.paid.attempt(context);
        let name = self.name(&rows)?;
        let before = self.before(&rows, &name)?;
        if let Some(before) = before.as_ref().filter(|before| before.rounds > Some(0)) {
            lock(&self.rounds).insert(context.idempotency_key.clone(), before.clone());
        }
        let rows = match &before {
            Some(before) => self.course.answer(&rows, vec![serde_json::to_string(before)?])?,
            None => rows,
        };
        // The same in every process that goes on with this run.
        let step = before.as_ref().map_or_else(|| name.clone(), |before| round(&name, before.rounds));
        // A fallback asks something else.
        let fallback = History::fallback(self.course.begin.fallback);
        let again = again(&rows, 0, &step)?;
        let key = format!("{}/{}{step}{fallback}{again}", self.run(&rows)?, scope(&rows, 0)?);
        let trace = self.trace(&rows, context)?;
        let asked = CallContext { idempotency_key: key.into(), trace, ..context.clone() };
        let asked = self.better(asked, context);
        let reply = self.inner.call(rows.clone(), &asked).await?;
        if let Some(rejected) = reply.rejected.into_iter().next() {
            context.bill.lost(reply.usage);
            return Err(rejected.error);
        }
        let mut record = Record { status: Status::Completed, reason: None, ..Record::skipped(String::new()) };
        record.results = results(&rows, &reply.rows)?.pop();
        if let Some(checked) = &self.checked {
            let good = checked.check(record.results.unwrap_or_default());
            record.results = Some(good.inspect_err(|wrong| self.spoiled(wrong, reply.usage, context))?);
        }
        if let Some(cached) = &self.notes.cached {
            cached.keep(&self.inner, &rows, record.results.as_ref().unwrap_or(&Value::Null), context).await;
        }
        record.usage = Cost::of(reply.usage);
        record.artifacts = self.writes.found(&context.env).await?;
        drop(attempt);
        record = self.end(context, record);
        if let Some(before) = before {
            record = add(record, &before);
        }
        if let Some(recorded) = &self.course.begin.recorded {
            let scope = scope(&rows, 0)?;
            // The last round has the name of the step.
            recorded.retime(&format!("{scope}{name}"), &mut record)?;
            recorded.retime(&format!("{scope}{step}"), &mut record)?;
        }
        let answer = self.answer(&rows, record)?;
        Ok(Reply { rows: answer, rejected: Vec::new(), usage: reply.usage, limits: reply.limits })
    }

    fn again<'a>(
        &'a self,
        _: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Next>>> {
        let again = self.again.as_ref()?;
        let next = async move {
            let name = self.name(answer)?;
            let left = serde_json::from_str(cell(answer, &self.course.id, 0)?.unwrap_or_default())?;
            lock(&self.rounds).insert(context.idempotency_key.clone(), left);
            let next = again.next((&self.course, &name), answer, context).await?;
            if !matches!(next, Next::Round(_)) {
                lock(&self.rounds).remove(&context.idempotency_key);
            }
            Ok(next)
        };
        Some(next.boxed())
    }

    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        self.course.unwanted(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        let mut record = self.end(context, Record::failed(error, 1));
        if let Some(failure) = &mut record.error {
            failure.attempts = record.attempts;
        }
        // Rounds before this one have taken their time, and were paid for.
        if let Some(before) = lock(&self.rounds).remove(&context.idempotency_key) {
            record = add(record, &before);
        }
        // A record always has a form in JSON, and the columns are those that were planned.
        self.answer(rows, record).ok()
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
