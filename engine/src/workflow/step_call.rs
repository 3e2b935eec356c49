//! A step that asks something outside: a request for each run.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;

use super::columns::cell;
use super::course::{Course, item, results};
use super::record::{Cost, Record, Status};
use crate::api::{BoxCall, Call, CallContext, Reply, Usage};
use crate::data::columns::RUN_ID;
use crate::error::{Error, Result};
use crate::time::Timestamp;

/// When the first attempt of a request began, and how many there were.
#[derive(Clone, Copy)]
struct Begun {
    at: Timestamp,
    since: Duration,
    attempts: u32,
}

pub(super) struct StepCall {
    inner: BoxCall,
    course: Course,
    /// Of the requests in flight, by idempotency key; bounded by how many may be in flight.
    begun: Mutex<HashMap<Arc<str>, Begun>>,
}

impl StepCall {
    pub(super) fn new(inner: BoxCall, course: Course) -> Self {
        Self { inner, course, begun: Mutex::default() }
    }

    fn begin(&self, context: &CallContext) {
        let first = Begun { at: context.env.wall(), since: context.env.monotonic(), attempts: 0 };
        lock(&self.begun).entry(context.idempotency_key.clone()).or_insert(first).attempts += 1;
    }

    /// Puts the times and attempts of a request into its record. One that never began failed before.
    fn end(&self, context: &CallContext, record: &mut Record) {
        if let Some(begun) = lock(&self.begun).remove(&context.idempotency_key) {
            let took = context.env.monotonic().saturating_sub(begun.since);
            record.attempts = begun.attempts;
            record.started_at = Some(begun.at.to_string());
            record.duration_ms = Some(u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
        }
    }

    fn answer(&self, rows: &RecordBatch, record: &Record) -> Result<RecordBatch> {
        self.course.answer(rows, vec![serde_json::to_string(record)?])
    }
}

impl Call for StepCall {
    async fn known(&self, rows: &RecordBatch, _: &CallContext) -> Result<Option<RecordBatch>> {
        let record = self.course.ended(rows, 0)?;
        record.map(|record| self.course.answer(rows, vec![record])).transpose()
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        if rows.num_rows() != 1 {
            return Err(Error::engine("a step is called for one run at a time"));
        }
        self.begin(context);
        // The same in every process that goes on with this run.
        let step = item(&rows, 0)?.map_or_else(|| self.course.id.to_string(), |place| place.of(&self.course.id));
        let key = format!("{}/{step}", cell(&rows, RUN_ID, 0)?.unwrap_or_default());
        let asked = CallContext { idempotency_key: key.into(), ..context.clone() };
        let reply = self.inner.call(rows.clone(), &asked).await?;
        if let Some(rejected) = reply.rejected.into_iter().next() {
            return Err(rejected.error);
        }
        let mut record = Record { status: Status::Completed, reason: None, ..Record::skipped(String::new()) };
        record.results = results(&rows, &reply.rows)?.pop();
        record.usage = Cost::of(reply.usage);
        self.end(context, &mut record);
        let answer = self.answer(&rows, &record)?;
        Ok(Reply { rows: answer, rejected: Vec::new(), usage: reply.usage, limits: reply.limits })
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        let mut record = Record::failed(error, 1);
        self.end(context, &mut record);
        if let Some(failure) = &mut record.error {
            failure.attempts = record.attempts;
        }
        let record = self.course.failed(record);
        // A record always has a form in JSON, and the columns are those that were planned.
        self.answer(rows, &record).ok()
    }
}

/// A panic elsewhere must not hide behind a poisoned lock.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
