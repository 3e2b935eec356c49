//! Gives up an attempt that takes too long.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::{Either, select};
use std::pin::pin;

use crate::api::{Call, CallContext, Reply, Usage};
use crate::error::{Error, Kind, Result};

/// Drops the attempt's future after `limit` and returns [`Kind::Timeout`], which may be tried again.
pub struct Timeout<C> {
    /// What is bounded.
    pub inner: C,
    /// How long it may take.
    pub limit: Duration,
}

impl<C: Call> Call for Timeout<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let deadline = context.env.monotonic() + self.limit;
        let context = CallContext { deadline, ..context.clone() };
        let attempt = pin!(self.inner.call(rows, &context));
        match select(attempt, context.env.sleep(self.limit)).await {
            Either::Left((reply, _)) => reply,
            Either::Right(((), _)) => Err(Error::new(Kind::Timeout, format!("no answer within {:?}", self.limit))),
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
