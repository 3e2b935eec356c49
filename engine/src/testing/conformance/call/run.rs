//! The tests of a call, one promise after the other.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::ArrayRef;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::future::join_all;

use super::{ANSWERS, CARDINALITY, DROPPED, ENDS, FAILED, KEY, ORDER, SCHEMA, Suite, TOGETHER};
use crate::api::output::RejectedRow;
use crate::api::{Bill, BoxCall, Call, CallContext, Cardinality, Rejected, Reply};
use crate::env::Env;
use crate::error::{Error, Kind, Retry};
use crate::testing::conformance::{Broken, Check, drop_after, equal, in_time, require};
use crate::testing::harness::rows::{columns, difference};
use crate::time::Timestamp;

/// The most awaits at which a request is dropped.
const DROPS: usize = 32;
/// Attempts of one request.
const ATTEMPTS: u32 = 5;

/// A suite at work.
pub(super) struct Run<'a, C> {
    pub(super) suite: &'a Suite<C>,
    pub(super) env: &'a Env,
    pub(super) call: BoxCall,
    /// The most rows of a request.
    pub(super) rows: usize,
    pub(super) planned: SchemaRef,
    /// The column that stands in request and answer.
    pub(super) passed: Option<String>,
    pub(super) cardinality: Cardinality,
}

impl<C> Run<'_, C> {
    /// Requests of one row, and as large as they come.
    pub(super) async fn answers(&self) -> Check {
        for size in [1, self.rows] {
            for request in self.requests(size) {
                self.request(&request, 0).await?;
            }
        }
        Ok(())
    }

    pub(super) async fn together(&self) -> Check {
        let requests = self.requests(self.rows);
        let mut expected = Vec::new();
        for (n, request) in requests.iter().enumerate() {
            expected.push(self.request(request, n).await?);
        }
        let found = join_all(requests.iter().enumerate().map(|(n, request)| self.request(request, n))).await;
        for (n, (expected, found)) in expected.iter().zip(found).enumerate() {
            let found = found.map_err(|broken| Broken { promise: TOGETHER, ..broken })?;
            equal(self.unlike(expected, &found), TOGETHER, &format!("request {n} of {}", requests.len()))?;
        }
        Ok(())
    }

    pub(super) async fn drops(&self) -> Check {
        let Some(request) = self.requests(self.rows).into_iter().next() else { return Ok(()) };
        let expected = self.request(&request, 0).await?;
        for pending in 1..=DROPS {
            let context = self.context(0, 1);
            let done = drop_after(pending, self.call.call(request.clone(), &context)).await.is_some();
            let after = self.request(&request, 0).await.map_err(|broken| Broken { promise: DROPPED, ..broken })?;
            equal(self.unlike(&expected, &after), DROPPED, &format!("dropped at await {pending}"))?;
            if done {
                break;
            }
        }
        Ok(())
    }

    pub(super) async fn keys(&self) -> Check {
        let Some(seen) = &self.suite.keys_seen else { return Ok(()) };
        let requests = self.requests(self.rows);
        let Some(request) = requests.first() else { return Ok(()) };
        let mut told = Vec::new();
        for (number, attempt) in [(0, 1), (0, 2), (1, 1)] {
            let before = seen().len();
            let context = self.context(number, attempt);
            let called = self.call.call(request.clone(), &context);
            // A failure of the attempt is of no interest here.
            let _answer = in_time(self.env, self.suite.bound, ENDS, called).await?;
            told.push(seen().split_off(before));
        }
        require(!told[0].is_empty(), KEY, || "the other side saw no key".into())?;
        require(told[0] == told[1], KEY, || format!("first {:?}, then {:?} for the same request", told[0], told[1]))?;
        let own = told[2].iter().all(|key| !told[0].contains(key));
        require(own, KEY, || format!("{:?} for one request and {:?} for another", told[0], told[2]))
    }

    pub(super) fn failures(&self) -> Check {
        let kinds = [Kind::Validation, Kind::Timeout, Kind::RateLimit, Kind::Io, Kind::Permission, Kind::Other];
        for request in self.requests(self.rows).into_iter().take(2) {
            for kind in kinds {
                let error = Error::new(kind, "a failure");
                let Some(rows) = self.call.failed(&request, &error, &self.context(0, ATTEMPTS)) else { continue };
                let reply = Reply::rows(rows);
                self.look(&request, &reply).map_err(|broken| Broken { promise: FAILED, ..broken })?;
            }
        }
        Ok(())
    }

    fn requests(&self, size: usize) -> Vec<RecordBatch> {
        let input = &self.suite.input;
        let size = size.clamp(1, input.num_rows().max(1));
        let starts = (0..input.num_rows()).step_by(size);
        starts.map(|from| input.slice(from, size.min(input.num_rows() - from))).collect()
    }

    fn context(&self, number: usize, attempt: u32) -> CallContext {
        CallContext {
            env: self.env.clone(),
            stage: "call".into(),
            idempotency_key: Arc::from(format!("request-{number}")),
            attempt,
            deadline: self.env.monotonic() + self.suite.bound,
            ingested: Timestamp::MIN,
            journal: None,
            feedback: None,
            bill: Bill::default(),
            trace: crate::api::Trace::default(),
        }
    }

    /// A request, tried again after transient errors; the answer has been looked at.
    async fn request(&self, rows: &RecordBatch, number: usize) -> Check<Reply> {
        let mut last = String::new();
        for attempt in 1..=ATTEMPTS {
            let context = self.context(number, attempt);
            let called = self.call.call(rows.clone(), &context);
            match in_time(self.env, self.suite.bound, ENDS, called).await? {
                Ok(reply) => {
                    self.look(rows, &reply)?;
                    return Ok(reply);
                }
                Err(e) if e.retry() == Retry::Never => return Err(Broken::new(ANSWERS, e)),
                Err(e) => last = e.to_string(),
            }
            self.env.sleep(Duration::from_millis(10)).await;
        }
        Err(Broken::new(ANSWERS, format!("{ATTEMPTS} attempts: {last}")))
    }

    fn look(&self, request: &RecordBatch, reply: &Reply) -> Check {
        let rows = &reply.rows;
        require(rows.schema() == self.planned, SCHEMA, || {
            format!("planned ({}), answered ({})", columns(&self.planned), columns(rows.schema_ref()))
        })?;
        let (asked, answered) = (request.num_rows(), rows.num_rows());
        let rejected: usize = reply.rejected.iter().map(Rejected::count).sum();
        let counted = match self.cardinality {
            Cardinality::One => answered + rejected == asked,
            Cardinality::AtMostOne => answered + rejected <= asked,
            Cardinality::Many => rejected <= asked,
        };
        require(counted, CARDINALITY, || {
            format!("declared {:?}: {asked} rows asked, {answered} answered, {rejected} rejected", self.cardinality)
        })?;
        let (Some(passed), true) = (&self.passed, self.cardinality != Cardinality::Many) else { return Ok(()) };
        let refused: Vec<RecordBatch> = reply
            .rejected
            .iter()
            .filter_map(|r| match &r.row {
                RejectedRow::Rows(rows) => Some(rows.clone()),
                RejectedRow::Text(_) => None,
            })
            .collect();
        let refused = concat_batches(&request.schema(), &refused).map_err(|e| Broken::new(SCHEMA, e))?;
        // The answer's values must occur in the request one behind the other, and what is skipped must be rejected.
        let (asked, answered, refused) = (cells(request, passed), cells(rows, passed), cells(&refused, passed));
        let mut from = asked.iter();
        let in_order = answered.iter().all(|value| from.any(|v| v == value));
        require(in_order, ORDER, || format!("column `{passed}` is {answered:?} for {asked:?}"))?;
        let both = answered.iter().find(|value| refused.contains(value));
        require(both.is_none(), CARDINALITY, || format!("{both:?} is answered and rejected"))
    }

    fn unlike(&self, expected: &Reply, found: &Reply) -> Option<String> {
        if !self.suite.varying {
            return difference(std::slice::from_ref(&expected.rows), std::slice::from_ref(&found.rows));
        }
        let passed = self.passed.as_ref()?;
        let (expected, found) = (cells(&expected.rows, passed), cells(&found.rows, passed));
        (expected != found).then(|| format!("column `{passed}` was {expected:?} and is {found:?}"))
    }
}

/// The values of a column, each as an array of one.
fn cells(rows: &RecordBatch, column: &str) -> Vec<ArrayRef> {
    let column = rows.column_by_name(column);
    column.map(|c| (0..c.len()).map(|n| c.slice(n, 1)).collect()).unwrap_or_default()
}
