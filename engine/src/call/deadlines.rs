//! Gives up a request that waits too long for its turn, or all of whose attempts together take too long.

use std::pin::pin;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::{Either, select};

use crate::api::{BoxCall, Call, CallContext, Reply, Usage};
use crate::error::{Error, Kind, Result};
use crate::time::Timestamp;

/// Bounds all attempts of a request, with the waits before and between them, over restarts of the process as far as those are known.
pub struct ScheduleToClose {
    /// Who knows what was tried before: the call without its layers.
    pub call: BoxCall,
    /// What is bounded.
    pub inner: BoxCall,
    /// How long it may take.
    pub limit: Duration,
}

impl ScheduleToClose {
    fn scheduled(&self, rows: &RecordBatch, context: &CallContext) -> Result<Timestamp> {
        match self.call.tried(rows)? {
            Some(tried) => Ok(tried.scheduled),
            None => self.call.scheduled(rows, context),
        }
    }
}

impl Call for ScheduleToClose {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let since = context.env.wall().since(self.scheduled(&rows, context)?);
        let left = self.limit.saturating_sub(since);
        let late = || {
            let what = format!("no answer within {:?}, all attempts together (`schedule_to_close`)", self.limit);
            Err(Error::new(Kind::Timeout, what).permanent())
        };
        if left.is_zero() {
            return late();
        }
        let deadline = context.deadline.min(context.env.monotonic().saturating_add(left));
        let context = CallContext { deadline, ..context.clone() };
        match select(pin!(self.inner.call(rows, &context)), context.env.sleep(left)).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => late(),
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}

/// Bounds how long a request waits until it is made first. One that is tried again has had its turn.
pub struct ScheduleToStart {
    /// Who knows since when it waits: the call without its layers.
    pub call: BoxCall,
    /// What waits.
    pub inner: BoxCall,
    /// How long it may.
    pub limit: Duration,
}

impl Call for ScheduleToStart {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        if context.attempt > 1 {
            return self.inner.call(rows, context).await;
        }
        let since = context.env.wall().since(self.call.scheduled(&rows, context)?);
        let left = self.limit.saturating_sub(since);
        // Whoever waits behind others will do so again.
        let late = || {
            let what = format!("not begun within {:?} (`schedule_to_start`)", self.limit);
            Err(Error::new(Kind::Timeout, what).permanent())
        };
        if left.is_zero() {
            return late();
        }
        let waited = pin!(async {
            context.env.sleep(left).await;
            if context.bill.total().begun {
                std::future::pending::<()>().await;
            }
        });
        match select(pin!(self.inner.call(rows, context)), waited).await {
            Either::Left((reply, _)) => reply,
            Either::Right(_) => late(),
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
