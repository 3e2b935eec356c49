//! A step that waits: for a time, or for a signal. What it waits for is in the journal, so a restart does not begin it anew.

use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::checked::Checked;
use super::columns::{HISTORY, cell, numbers};
use super::course::{Course, cell_of};
use super::record::{Record, Status};
use super::recorded::{Question, Recorded};
use crate::api::template::Template;
use crate::api::{Call, CallContext, Reply, WaitFor};
use crate::error::{Error, Kind, Result};
use crate::journal::{Entries, History, Journal, Waiting};
use crate::time::Timestamp;

/// A run that waits for longer is at rest: it holds nothing, and comes back at the source of inputs.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

pub(super) struct WaitCall {
    pub course: Course,
    pub wait: WaitFor,
    /// The name of the signal that it is for, with places.
    pub signal: Option<Template>,
    /// What a decision must fit.
    pub checked: Option<Checked>,
    /// Without one it can only wait for a time, in memory.
    pub journal: Option<Arc<dyn Journal>>,
}

/// A wait as a history has it.
#[derive(Serialize, Deserialize)]
pub(super) struct Wait {
    /// Until when, in microseconds since 1970; for ever if none.
    due: Option<i64>,
    /// When it began.
    since: i64,
    /// The name of the signal that it is for, if it is for one.
    #[serde(default)]
    signal: Option<String>,
    /// Which fallback of the step waits; 0 is the step itself.
    #[serde(default, skip_serializing_if = "is_zero")]
    fallback: usize,
    /// What the step had left before this fallback: its failed record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<Box<RawValue>>,
    /// What went wrong, where a person is to decide about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decide: Option<String>,
}

/// What a wait has to do with a signal of its name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Claim {
    /// It waited when that came.
    Waited,
    /// It began later, and that had come.
    Took,
    /// It began later, and waits still.
    Waits,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl Wait {
    /// That of a step.
    pub(super) fn of(history: &History, step: &str) -> Result<Option<Self>> {
        Ok(history.0.get(&History::wait(step)).map(|known| serde_json::from_str(known.get())).transpose()?)
    }

    /// What a step in this row had left before a fallback of it began to wait: it has failed for good.
    pub(super) fn failed_before(
        rows: &RecordBatch,
        row: usize,
        name: impl Fn() -> Result<String>,
        fallback: usize,
    ) -> Result<Option<String>> {
        // Most histories have none, and need not be read for it.
        let Some(history) = cell_of(rows, HISTORY, row)?.filter(|text| text.contains("\"before\"")) else {
            return Ok(None);
        };
        let wait = Self::of(&serde_json::from_str(history)?, &name()?)?.filter(|wait| wait.fallback > fallback);
        Ok(wait.and_then(|wait| wait.before).map(|before| Box::<str>::from(before).into()))
    }

    /// What the signal has brought that it is for, if that has come: while it waited, or before, when no other wait of the run was for that
    /// one. A signal is for all that wait when it comes, and else for the first that does. What somebody has said about this step alone
    /// stands over it.
    fn came<'a>(&self, (history, own): (&'a History, &str)) -> Result<Option<&'a RawValue>> {
        let Some(name) = &self.signal else { return Ok(None) };
        if let Some(data) = history.0.get(&History::signal(&History::decision(own))) {
            return Ok(Some(data));
        }
        let Some(data) = history.0.get(&History::signal(name)) else { return Ok(None) };
        let Some(at) = history.came_at(name).filter(|at| *at < self.since) else { return Ok(Some(data)) };
        for (other, wait) in history.0.iter().filter_map(|(of, wait)| Some((of.strip_prefix(History::WAIT)?, wait))) {
            let wait: Self = serde_json::from_str(wait.get())?;
            if other == own || wait.signal.as_ref() != Some(name) {
                continue;
            }
            let is_taker = match wait.claims(at, history.0.get(other).map(|record| &**record))? {
                Some(Claim::Waited | Claim::Took) => true,
                Some(Claim::Waits) => (wait.since, other) < (self.since, own),
                None => false,
            };
            if is_taker {
                return Ok(None);
            }
        }
        Ok(Some(data))
    }

    /// Of each signal the wait that takes it, if it came before others began to: one that had begun when it came, or else the first. With the
    /// name under which a history has it.
    pub(super) fn takers(history: &History) -> Result<Vec<(String, Box<RawValue>)>> {
        let signals =
            history.0.keys().filter_map(|key| history.came_at(key.strip_prefix(History::SIGNAL)?).map(|at| (key, at)));
        let mut takers = Vec::new();
        for (signal, at) in signals {
            let mut best: Option<(Claim, i64, &str)> = None;
            for (key, wait) in &history.0 {
                let Some(step) = key.strip_prefix(History::WAIT) else { continue };
                let wait: Self = serde_json::from_str(wait.get())?;
                if wait.signal.as_deref().is_none_or(|name| History::signal(name) != *signal) {
                    continue;
                }
                let claim = wait.claims(at, history.0.get(step).map(|record| &**record))?;
                best = best.into_iter().chain(claim.map(|claim| (claim, wait.since, step))).min();
            }
            // Its record says that it has taken it.
            let names = best.iter().flat_map(|(_, _, step)| [History::wait(step), (*step).to_owned()]);
            takers.extend(names.filter_map(|name| Some((name.clone(), history.0.get(&name)?.clone()))));
        }
        Ok(takers)
    }

    /// What it has to do with a signal of its name that came at this time, when this is its record.
    fn claims(&self, at: i64, record: Option<&RawValue>) -> Result<Option<Claim>> {
        let is_late = self.since > at;
        let Some(record) = record else { return Ok(Some(if is_late { Claim::Waits } else { Claim::Waited })) };
        let record: Record = serde_json::from_str(record.get())?;
        if is_late {
            return Ok((record.status == Status::Completed).then_some(Claim::Took));
        }
        let took = record.duration_ms.and_then(|ms| i64::try_from(ms).ok());
        // A record counts in milliseconds.
        let has_ended_before = took.is_some_and(|ms| self.since.saturating_add((ms + 1) * 1_000) < at);
        Ok((!has_ended_before).then_some(Claim::Waited))
    }

    /// The signal that it is for, and when it came, if that was before it began to wait.
    fn early<'a>(&'a self, history: &History, own: &str) -> Option<(&'a str, i64)> {
        let name = self.signal.as_deref()?;
        let is_said = history.0.contains_key(&History::signal(&History::decision(own)));
        Some((name, history.came_at(name).filter(|at| *at < self.since && !is_said)?))
    }

    /// Whether what it is for has come, or the time is over, or may be in the time that a process waits itself.
    pub(super) fn is_over(&self, place: (&History, &str), now: Timestamp) -> bool {
        // What can't be read is told by the step.
        !matches!(self.came(place), Ok(None)) || self.left(now).is_some_and(|left| left <= PATIENCE)
    }

    /// When its time is over.
    pub(super) fn due(&self) -> Option<i64> {
        self.due
    }

    /// How long it takes until its time is over.
    fn left(&self, now: Timestamp) -> Option<Duration> {
        self.due.map(|due| Duration::from_micros(u64::try_from(due - now.0).unwrap_or(0)))
    }

    /// The record of the step while it waits.
    pub(super) fn record(&self, now: Timestamp) -> Record {
        let until = self.due.map_or_else(String::new, |due| format!(" until {}", Timestamp(due)));
        let what = match (&self.signal, &self.decide) {
            (_, Some(wrong)) => format!(" for a decision: {wrong}"),
            (Some(name), None) => format!(" for the signal `{name}`"),
            (None, None) => String::new(),
        };
        let before = self.before.as_ref().and_then(|before| serde_json::from_str::<Record>(before.get()).ok());
        let waits = Record { reason: Some(format!("waits{what}{until}")), ..self.ended(Status::Waiting, None, now) };
        waits.costing(before.and_then(|before| before.usage))
    }

    fn ended(&self, status: Status, results: Option<Value>, until: Timestamp) -> Record {
        Record {
            status,
            results,
            reason: None,
            // Whoever decides is not asked by an attempt.
            attempts: u32::from(self.decide.is_none()),
            started_at: Some(Timestamp(self.since).to_string()),
            duration_ms: u64::try_from((until.0 - self.since) / 1_000).ok(),
            ..Record::skipped(String::new())
        }
    }
}

/// Whether the signal of this name that has come was for a wait that has ended since: it has done what it was for.
///
/// # Errors
/// When what the history has of a wait is none.
pub fn is_taken(history: &History, signal: &str) -> Result<bool> {
    let Some(at) = history.came_at(signal) else { return Ok(false) };
    for (key, wait) in &history.0 {
        let Some(record) = key.strip_prefix(History::WAIT).and_then(|step| history.0.get(step)) else { continue };
        let wait: Wait = serde_json::from_str(wait.get())?;
        let is_of_name = wait.signal.as_deref() == Some(signal);
        if is_of_name && matches!(wait.claims(at, Some(record))?, Some(Claim::Waited | Claim::Took)) {
            return Ok(true);
        }
    }
    Ok(false)
}

impl WaitCall {
    fn answer(&self, rows: &RecordBatch, record: &Record) -> Result<Reply> {
        Ok(Reply::rows(self.course.answer(rows, vec![serde_json::to_string(record)?])?))
    }

    /// What is recorded of the wait: how it ended, or that it has not.
    fn recorded(&self, recorded: &Recorded, rows: &RecordBatch) -> Result<Record> {
        let name = self.course.name(rows, 0)?;
        if recorded.record(&name)?.is_none()
            && let Some(wait) = Wait::of(recorded.history(), &name)?
        {
            return Ok(wait.record(Timestamp(wait.since)));
        }
        let fallback = self.course.begin.fallback;
        let record = recorded.answer(&Question {
            name: &name,
            round: None,
            fallback,
            default: self.course.begin.default.as_ref(),
        })?;
        if record.is_failed() {
            return Ok(self.course.failed(record));
        }
        let signal = self.signal.as_ref().filter(|_| record.has_results());
        let Some(signal) = signal.map(|signal| signal.render(rows, 0)).transpose()? else { return Ok(record) };
        let known = Wait::of(recorded.history(), &name)?;
        if known.is_some_and(|known| known.signal.as_ref() == Some(&signal)) {
            // Others of its name may have come since.
            return Ok(record);
        }
        match recorded.signal(&signal)? {
            Some(data) => Ok(Record { results: Some(data), ..record }),
            // What came was another one.
            None => recorded.open(&name),
        }
    }

    /// The wait that an earlier passage of the run has begun, or a new one, which is in the journal from now on.
    async fn begin(&self, rows: &RecordBatch, history: &History, now: Timestamp) -> Result<Wait> {
        let name = self.course.name(rows, 0)?;
        if let Some(known) = Wait::of(history, &name)? {
            return Ok(known);
        }
        let after = |time: Duration| now.0.saturating_add(i64::try_from(time.as_micros()).unwrap_or(i64::MAX));
        let fallback = self.course.begin.fallback;
        let before = (fallback > 0).then(|| self.course.before(rows, 0).map(str::to_owned)).transpose()?;
        let wrong = || -> Result<Option<String>> {
            let Some(before) = before.as_ref().filter(|_| self.wait.decision) else { return Ok(None) };
            let record: Record = serde_json::from_str(before)?;
            Ok(record.error.map(|failure| failure.message))
        };
        let signal = self.signal.as_ref().map(|signal| signal.render(rows, 0)).transpose()?;
        if signal.as_ref().is_some_and(|name| name.trim().is_empty()) {
            return Err(Error::validation("the signal that it is to wait for has no name"));
        }
        let known = Wait {
            due: self.wait.time.map(after),
            since: now.0,
            // A decision is about this element of this step.
            signal: if self.wait.decision { Some(History::decision(&name)) } else { signal },
            fallback,
            decide: wrong()?,
            before: before.map(RawValue::from_string).transpose()?,
        };
        if let Some(journal) = &self.journal {
            let data = serde_json::to_string(&known)?;
            let waiting = Waiting { number: numbers(rows)?[0], step: name.into(), data };
            let entries = Entries { waits: vec![waiting], ..Entries::default() };
            journal.append(entries, crate::journal::Wait::Durable).await?;
        }
        Ok(known)
    }

    /// Whether what has come is not for another wait, which has begun in the same passage as this one.
    fn takes(&self, rows: &RecordBatch, (wait, name): (&Wait, &str), history: &History) -> Result<bool> {
        let (Some(journal), Some(signal)) = (&self.journal, wait.early(history, name)) else { return Ok(true) };
        Ok(journal.asked().rest().takes(numbers(rows)?[0], signal, name))
    }

    /// What the step is when what it waited for has come.
    fn came(&self, rows: &RecordBatch, wait: &Wait, data: Value, now: Timestamp) -> Result<Reply> {
        let refused = self.wait.decision && data.get("approved") == Some(&Value::Bool(false));
        if !refused {
            let checked = self.checked.as_ref().filter(|_| self.wait.decision);
            let data = match checked.map_or(Ok(data.clone()), |checked| checked.fits(data)) {
                Ok(data) => data,
                Err(error) => return self.fail(rows, wait, (&error.context("what was decided"), Status::Failed), now),
            };
            let record = wait.ended(Status::Completed, Some(data), now);
            return self.answer(rows, &self.course.made(rows, 0, record)?);
        }
        let reason =
            data.get("reason").and_then(Value::as_str).map_or_else(String::new, |reason| format!(": {reason}"));
        let wrong = wait.decide.as_deref().unwrap_or("it failed");
        self.fail(rows, wait, (&Error::new(Kind::Other, format!("{wrong}; refused{reason}")), Status::Failed), now)
    }

    fn fail(
        &self,
        rows: &RecordBatch,
        wait: &Wait,
        (error, status): (&Error, Status),
        now: Timestamp,
    ) -> Result<Reply> {
        let times = wait.ended(status, None, now);
        let failed = Record::failed(error, times.attempts);
        let failed = Record { started_at: times.started_at, duration_ms: times.duration_ms, ..failed };
        self.answer(rows, &self.course.made(rows, 0, failed)?)
    }
}

impl Call for WaitCall {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        if let Some(record) = self.course.settled(&rows, 0)? {
            return Ok(Reply::rows(self.course.answer(&rows, vec![record])?));
        }
        if let Some(recorded) = &self.course.begin.recorded {
            return self.answer(&rows, &self.recorded(recorded, &rows)?);
        }
        let history = match rows.column_by_name(HISTORY) {
            Some(_) => cell(&rows, HISTORY, 0)?.map(serde_json::from_str::<History>).transpose()?.unwrap_or_default(),
            None => History::default(),
        };
        let now = context.env.wall();
        let is_new = Wait::of(&history, &self.course.name(&rows, 0)?)?.is_none();
        let wait = self.begin(&rows, &history, now).await?;
        let (signal, name) = (wait.signal.as_ref(), self.course.name(&rows, 0)?);
        if let Some(data) = wait.came((&history, &name))?
            && self.takes(&rows, (&wait, &name), &history)?
        {
            return self.came(&rows, &wait, serde_json::from_str(data.get())?, now);
        }
        match (signal, wait.left(now)) {
            (None, Some(left)) if left <= PATIENCE || self.journal.is_none() => {
                context.env.sleep(left).await;
                let record = wait.ended(Status::Completed, Some(Value::Null), context.env.wall());
                self.answer(&rows, &self.course.made(&rows, 0, record)?)
            }
            (Some(name), Some(left)) if left.is_zero() => {
                let message = match &wait.decide {
                    Some(wrong) => format!("{wrong}; nobody has decided about it in time"),
                    None => format!("no signal `{name}` has come"),
                };
                self.fail(&rows, &wait, (&Error::new(Kind::Timeout, message), Status::TimedOut), now)
            }
            _ => {
                if let Some(journal) = &self.journal {
                    self.course.waits(journal, &rows, (wait.due, is_new))?;
                }
                self.answer(&rows, &wait.record(now))
            }
        }
    }

    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        self.course.unwanted(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, _: &CallContext) -> Option<RecordBatch> {
        let record = self.course.made(rows, 0, Record::failed(error, 1)).ok()?;
        self.course.answer(rows, vec![serde_json::to_string(&record).ok()?]).ok()
    }
}
