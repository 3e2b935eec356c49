//! What holds for a step in every run, however its command is carried out: whether it starts, and what it leaves.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StringArray};
use arrow::datatypes::{SchemaRef, UInt64Type};
use arrow::record_batch::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, select};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::attempts::Attempts;
use super::columns::{ADMISSION, DEADLINE, DONE, HISTORY, ITEM, cell, numbers, scope, texts, time};
use super::fail_fast::FailFast;
use super::record::{CANCELED, OVERDUE, Record, Status};
use super::recorded::Recorded;
use super::start::{Start, ended};
use super::wait::Wait;
use crate::data::columns::RESERVED_PREFIX;
use crate::data::json::cell_value;
use crate::env::Env;
use crate::error::{Error, Kind, Result};
use crate::journal::{Ask, Asked, History};
use crate::time::Timestamp;

/// How the record begins of a step that completed: whether it did is asked of every record by every step that needs it.
const COMPLETED: &str = "{\"status\":\"COMPLETED\"";

/// A step as a run comes to it.
#[derive(Clone)]
pub(super) struct Course {
    /// Its id, which is also the name of its column.
    pub id: Arc<str>,
    /// What leaves.
    pub schema: SchemaRef,
    /// Whose clock says when the time of a run is over.
    pub env: Env,
    /// When it starts, and what holds when it fails.
    pub begin: Begin,
}

/// When a step starts, and what holds when it fails.
#[derive(Clone)]
pub(super) struct Begin {
    /// When it starts.
    pub start: Start,
    /// Which fallback it is, from 1; 0 is the step itself.
    pub fallback: usize,
    /// What it gives when it fails, if nothing else is tried then.
    pub default: Option<Value>,
    /// What the name of the step has behind it where it is kept while its gates are asked, in order.
    pub marks: Arc<[String]>,
    /// What somebody asks of runs meanwhile.
    pub asked: Asked,
    /// What ends runs that have failed.
    pub fails: FailFast,
    /// The history of a run that is decided again.
    pub recorded: Option<Recorded>,
}

impl Begin {
    /// That of something that nothing stands before.
    pub(super) fn at_once() -> Self {
        Self {
            start: Start::at_once(),
            fallback: 0,
            default: None,
            marks: Arc::default(),
            asked: Asked::default(),
            fails: FailFast::default(),
            recorded: None,
        }
    }
}

/// Whether a record is not the last word on its step: it is not kept.
pub(super) fn is_open(record: &str) -> Result<bool> {
    Ok(status(record)?.is_open())
}

/// The status alone: the results of a step may be large.
#[derive(Deserialize)]
struct Ended {
    status: Status,
}

/// How a step ended, from its record.
pub(super) fn status(record: &str) -> Result<Status> {
    if record.starts_with(COMPLETED) {
        return Ok(Status::Completed);
    }
    Ok(serde_json::from_str::<Ended>(record)?.status)
}

/// What of an earlier passage of a run is known of a step: its record. The name is that within the workflow.
pub(super) fn known(rows: &RecordBatch, row: usize, step: &str) -> Result<Option<String>> {
    // A job without a journal has no such column, and a run that is new no history.
    if rows.column_by_name(HISTORY).is_none_or(|c| c.is_null(row)) {
        return Ok(None);
    }
    let Some(history) = cell(rows, HISTORY, row)? else { return Ok(None) };
    let History(mut steps) = serde_json::from_str(history)?;
    let name = format!("{}{step}", scope(rows, row)?);
    Ok(steps.remove(&name).map(|record| String::from(Box::<str>::from(record))))
}

/// The place of an item in its list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place(pub u64);

impl Place {
    /// The name of the item in a history: `step[3]`.
    pub(super) fn of(self, step: &str) -> String {
        format!("{step}[{}]", self.0)
    }
}

/// Which item of a list a row is, if it is one.
pub(super) fn item(rows: &RecordBatch, row: usize) -> Result<Option<Place>> {
    let Some(column) = rows.column_by_name(ITEM) else { return Ok(None) };
    let column = column.as_primitive_opt::<UInt64Type>().ok_or_else(|| Error::engine("items are counted"))?;
    Ok(column.is_valid(row).then(|| Place(column.value(row))))
}

/// The text of a cell in a column that need not be there.
pub(super) fn cell_of<'a>(rows: &'a RecordBatch, name: &str, row: usize) -> Result<Option<&'a str>> {
    if rows.column_by_name(name).is_some() { cell(rows, name, row) } else { Ok(None) }
}

impl Course {
    /// The record of the step when it is not to be started in this run: because it has ended before, or is not wanted.
    pub(super) fn ended(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        self.ended_unless(false, rows, row)
    }

    /// The same of a step with steps or elements of its own: once any of them has begun, it is them that a run that is to end does not start.
    pub(super) fn ended_as_whole(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        self.ended_unless(true, rows, row)
    }

    fn ended_unless(&self, is_whole: bool, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        let place = item(rows, row)?;
        let done = if place.is_none() { cell_of(rows, DONE, row)? } else { None };
        if let Some(record) = done {
            return Ok(Some(record.to_owned()));
        }
        // Most runs have no history.
        let has_history = rows.column_by_name(HISTORY).is_some_and(|c| c.is_valid(row));
        if has_history && let Some(record) = self.of_history(rows, row, place)? {
            return Ok(Some(record));
        }
        if let Some(recorded) = &self.begin.recorded
            && let Some(record) = recorded.given(&self.name(rows, row)?)?
        {
            return Ok(Some(serde_json::to_string(&record)?));
        }
        if has_history && let Some(failed) = self.failed_before(rows, row)? {
            return Ok(Some(failed));
        }
        if self.begin.fallback > 0 {
            // What did not fail needs no fallback.
            let record = self.before(rows, row)?;
            let is_failed = matches!(status(record)?, Status::Failed | Status::TimedOut);
            return match self.stopped_unless(is_whole, rows, row)? {
                // A pause comes between the step and what is tried next; a run that is to end has failed here.
                Some(paused) if is_failed && is_open(&paused)? => Ok(Some(paused)),
                None if is_failed => {
                    let cut_off = |recorded: &Recorded| recorded.was_cut_off(&self.name(rows, row)?);
                    let was_cut_off = self.begin.recorded.as_ref().map(cut_off).transpose()?.unwrap_or_default();
                    Ok(was_cut_off.then(|| record.to_owned()))
                }
                _ => Ok(Some(record.to_owned())),
            };
        }
        if place.is_some() {
            // Whether it starts was asked of the step as a whole.
            return self.stopped_unless(is_whole, rows, row);
        }
        if texts(rows, ADMISSION)?.is_valid(row) {
            return Ok(Some(serde_json::to_string(&Record::skipped("the input is not valid".into()))?));
        }
        if let Some(record) = self.stopped_unless(is_whole, rows, row)? {
            return Ok(Some(record));
        }
        let skip = self.begin.start.skip(rows, row)?;
        skip.map(|skip| Ok(serde_json::to_string(&Record::not_started(skip))?)).transpose()
    }

    /// The record that an earlier passage has left of the step.
    fn of_history(&self, rows: &RecordBatch, row: usize, place: Option<Place>) -> Result<Option<String>> {
        let name = place.map_or_else(|| self.id.to_string(), |place| place.of(&self.id));
        if let Some(record) = known(rows, row, &name)? {
            return Ok(Some(record));
        }
        // What it gave was kept before its gates were asked, and what they said behind each of them.
        for mark in self.begin.marks.iter().rev() {
            if let Some(record) = known(rows, row, &format!("{name}{mark}"))? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The record of what was tried before a fallback, where that is tried again later, or waits: it has failed for good.
    fn failed_before(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        let attempts = Attempts::known(rows, row, &self.own_name(rows, row)?)?;
        if let Some(failed) = attempts.filter(|known| known.fallback > self.begin.fallback).and_then(|a| a.before) {
            return Ok(Some(Box::<str>::from(failed).into()));
        }
        Wait::failed_before(rows, row, || self.name(rows, row), self.begin.fallback)
    }

    /// The name of the step in this row: `step`, or `step[3]`, with the workflow that it is within.
    pub(super) fn name(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        Ok(format!("{}{}", scope(rows, row)?, self.own_name(rows, row)?))
    }

    /// The same within its workflow.
    pub(super) fn own_name(&self, rows: &RecordBatch, row: usize) -> Result<String> {
        Ok(item(rows, row)?.map_or_else(|| self.id.to_string(), |place| place.of(&self.id)))
    }

    /// The record of the step, when its run, or the list that it is an element of, has failed and does not go on.
    fn fallen(&self, rows: &RecordBatch, row: usize) -> Result<Option<Record>> {
        // What a failure has ended of a run that is decided again is recorded.
        if self.begin.start.cleans_up() || self.begin.recorded.is_some() {
            return Ok(None);
        }
        if self.is_overdue(rows, row) {
            return Ok(Some(Record::dropped(OVERDUE.to_owned())));
        }
        let reason = self.begin.fails.reason(numbers(rows)?[row], || self.name(rows, row))?;
        Ok(reason.map(Record::dropped))
    }

    /// Whether the run, or the workflow that it is within, has had all the time that it may take.
    fn is_overdue(&self, rows: &RecordBatch, row: usize) -> bool {
        time(rows, DEADLINE, row).is_some_and(|deadline| deadline <= self.env.wall())
    }

    fn stopped_unless(&self, is_whole: bool, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        let record = self.stopped(rows, row)?;
        Ok(if record.is_some() && is_whole && self.is_within(rows, row)? { None } else { record })
    }

    /// The record of the step, when somebody has asked that its run ends or pauses, or its time is over.
    fn stopped(&self, rows: &RecordBatch, row: usize) -> Result<Option<String>> {
        if self.begin.start.cleans_up() {
            return Ok(None);
        }
        let record = match self.begin.asked.of(numbers(rows)?[row]) {
            // Time passes also for one that is paused.
            Some(Ask::Pause) if self.begin.recorded.is_none() && self.is_overdue(rows, row) => {
                Some(Record::dropped(OVERDUE.to_owned()))
            }
            Some(asked) => Record::asked(asked),
            None => self.fallen(rows, row)?,
        };
        Ok(record.map(|record| serde_json::to_string(&record)).transpose()?)
    }

    /// Is over when somebody asks that the run of this request ends.
    pub(super) fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        let is_deaf = self.begin.start.cleans_up() || self.begin.recorded.is_some();
        let run = numbers(rows).ok()?.first().copied().filter(|_| !is_deaf)?;
        let name = self.name(rows, 0).ok()?;
        let asked = self.begin.asked.canceled(run, &name).map(|()| CANCELED.to_owned());
        let fallen = self.begin.fails.ended(run, name);
        let mut either = select(asked, fallen).map(|either| either.factor_first().0).boxed();
        if let Some(deadline) = time(rows, DEADLINE, 0) {
            let over = overdue(self.env.clone(), deadline).boxed();
            either = select(either, over).map(|either| either.factor_first().0).boxed();
        }
        Some(either.map(|reason| Error::new(Kind::Canceled, reason)).boxed())
    }

    /// What is left of a step that was dropped with this record: why that was, where it is known.
    pub(super) fn dropped(&self, rows: &RecordBatch, row: usize, made: Record) -> Result<Record> {
        Ok(match self.fallen(rows, row)? {
            Some(fallen) => Record { error: None, reason: fallen.reason, ..made },
            None => made,
        })
    }

    /// When it could be begun: what it needs had ended, and what was tried before it.
    pub(super) fn ready(&self, rows: &RecordBatch, row: usize) -> Result<Option<Timestamp>> {
        let ready = self.begin.start.ready(rows, row)?;
        Ok(if self.begin.fallback > 0 { ready.max(ended(self.before(rows, row)?)?) } else { ready })
    }

    /// What was before a fallback.
    pub(super) fn before<'a>(&self, rows: &'a RecordBatch, row: usize) -> Result<&'a str> {
        cell(rows, &self.id, row)?.ok_or_else(|| Error::engine(format!("step `{}` has no record", self.id)))
    }

    /// The record of the step, of what the work that was done left: with the attempts that were before a fallback.
    pub(super) fn made(&self, rows: &RecordBatch, row: usize, made: Record) -> Result<Record> {
        let made = match self.fallen(rows, row)? {
            // Of a run that has failed elsewhere; a workflow within tells no error of its own then, and no time that is not its own.
            Some(fallen)
                if made.status == Status::Canceled
                    || (made.is_failed() && (made.error.is_none() || made.reason.as_deref() == Some(OVERDUE))) =>
            {
                Record { status: Status::Canceled, error: None, reason: fallen.reason, ..made }
            }
            _ if made.has_results() => made,
            _ => self.failed(made),
        };
        if self.begin.fallback == 0 {
            return Ok(Record { fallbacks_failed: 0, ..made });
        }
        let before: Record = serde_json::from_str(self.before(rows, row)?)?;
        let fallback = (made.has_results() && !made.degraded).then_some(self.begin.fallback);
        let fallbacks_failed = self.begin.fallback - usize::from(fallback.is_some());
        let attempts = before.attempts + made.attempts;
        Ok(Record { fallback, fallbacks_failed, attempts, ..made.costing(before.usage).behind(&before) })
    }

    /// The record of the step when it failed: what the spec has for that, or the failure.
    pub(super) fn failed(&self, failed: Record) -> Record {
        match &self.begin.default {
            // A run that is stopped is not to be gone on with.
            Some(default) if failed.status != Status::Canceled => {
                Record { status: Status::Completed, results: Some(default.clone()), degraded: true, ..failed }
            }
            _ => failed,
        }
    }

    /// The rows with the records of the step.
    pub(super) fn answer(&self, rows: &RecordBatch, records: Vec<String>) -> Result<RecordBatch> {
        let column: ArrayRef = Arc::new(StringArray::from(records));
        let mut columns = rows.columns().to_vec();
        match rows.schema_ref().index_of(&self.id) {
            Ok(at) => columns[at] = column,
            Err(_) => columns.push(column),
        }
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Is over when this time has come.
async fn overdue(env: Env, deadline: Timestamp) -> String {
    loop {
        let left = deadline.since(env.wall());
        if left.is_zero() {
            return OVERDUE.to_owned();
        }
        env.sleep(left).await;
    }
}

/// What a stage made of rows: for each the value of the column that it added, or changed when it added none; an object of
/// several.
pub(super) fn results(before: &RecordBatch, after: &RecordBatch) -> Result<Vec<Value>> {
    let (given, wanted) = (after.num_rows(), before.num_rows());
    if given != wanted {
        return Err(Error::engine(format!("a step's stage gave {given} rows for {wanted}")));
    }
    let schema = after.schema_ref();
    let name = |i: usize| schema.field(i).name();
    let all: Vec<usize> = (0..after.num_columns()).filter(|i| !name(*i).starts_with(RESERVED_PREFIX)).collect();
    let new: Vec<usize> = all.iter().copied().filter(|i| before.column_by_name(name(*i)).is_none()).collect();
    let cell = |i: usize, row: usize| cell_value(after.column(i), schema.field(i), row);
    let object = |columns: &[usize], row: usize| {
        let members = columns.iter().map(|i| Ok((name(*i).clone(), cell(*i, row)?)));
        Ok(Value::Object(members.collect::<Result<Map<_, _>>>()?))
    };
    let result = |row: usize| match new.as_slice() {
        [one] => cell(*one, row),
        [] => {
            // A step may have the name of the column that a stage makes, and so may a column of the stage's own.
            let same = |i: usize| {
                let is_equal = |c: &ArrayRef| *c.slice(row, 1) == *after.column(i).slice(row, 1);
                before.column_by_name(name(i)).is_some_and(is_equal)
            };
            let changed: Vec<usize> = all.iter().copied().filter(|i| !same(*i)).collect();
            match changed.as_slice() {
                [one] => cell(*one, row),
                [] => object(&all, row),
                several => object(several, row),
            }
        }
        several => object(several, row),
    };
    (0..given).map(result).collect()
}
