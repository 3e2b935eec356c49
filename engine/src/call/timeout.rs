//! Gives up an attempt that takes too long, or that is silent for too long.

use std::pin::pin;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::{Either, select};

use crate::api::{Bill, Call, CallContext, Reply, Usage};
use crate::env::Env;
use crate::error::{Error, Kind, Result, Retry};

/// Drops the attempt's future after `limit`, or after a silence, and returns [`Kind::Timeout`], which may be tried again.
pub struct Timeout<C> {
    /// What is bounded.
    pub inner: C,
    /// How long it may take.
    pub limit: Duration,
    /// How long it may take between two signs of life, or until the first.
    pub heartbeat: Option<Duration>,
    /// What its message ends with, where several limits could be meant.
    pub named: &'static str,
}

/// Is over when nothing was heard for so long.
async fn silence(heartbeat: Option<Duration>, bill: &Bill, env: &Env) {
    let Some(heartbeat) = heartbeat else { return std::future::pending().await };
    let begun = env.monotonic();
    loop {
        let last = bill.total().alive.unwrap_or(begun).max(begun);
        let left = (last + heartbeat).saturating_sub(env.monotonic());
        if left.is_zero() {
            return;
        }
        env.sleep(left).await;
    }
}

impl<C: Call> Call for Timeout<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let env = &context.env;
        let own = env.monotonic() + self.limit;
        let (deadline, named) =
            if context.deadline < own { (context.deadline, " (`schedule_to_close`)") } else { (own, self.named) };
        let context = CallContext { deadline, ..context.clone() };
        context.bill.begun();
        let attempt = pin!(self.inner.call(rows, &context));
        let silent = pin!(silence(self.heartbeat, &context.bill, env));
        match select(attempt, select(env.sleep(self.limit), silent)).await {
            // What ends its own work at the deadline knows nothing of whose that is.
            Either::Left((Err(error), _))
                if error.kind() == Kind::Timeout && !named.is_empty() && env.monotonic() >= deadline =>
            {
                let told = Error::new(Kind::Timeout, format!("{error}{named}"));
                Err(if error.retry() == Retry::Never { told.permanent() } else { told })
            }
            Either::Left((reply, _)) => reply,
            Either::Right((Either::Left(_), _)) => {
                Err(Error::new(Kind::Timeout, format!("no answer within {:?}{named}", self.limit)))
            }
            Either::Right((Either::Right(_), _)) => {
                let heartbeat = self.heartbeat.unwrap_or_default();
                Err(Error::new(Kind::Timeout, format!("no sign of life within {heartbeat:?} (`heartbeat`)")))
            }
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
