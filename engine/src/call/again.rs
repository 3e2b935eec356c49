//! Asks in rounds, where the answer to one says that there is another, for as long as somebody wants it.

use std::pin::pin;

use arrow::record_batch::RecordBatch;

use futures::future::{Either, select};

use crate::api::{BoxCall, Call, CallContext, Next, Reply, Usage};
use crate::error::{Error, Result};

/// The outermost layer: each round passes all that is below as a request of its own.
pub struct Again {
    /// Who says whether there is another round: the call without its layers.
    pub call: BoxCall,
    /// The call with them.
    pub inner: BoxCall,
}

impl Again {
    async fn rounds(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let mut asked = rows;
        let mut usage = Usage::default();
        loop {
            let reply = self.inner.call(asked.clone(), context).await?;
            usage += reply.usage;
            let next = match self.call.again(&asked, &reply.rows, context) {
                Some(next) => next.await?,
                None => Next::Over,
            };
            match next {
                Next::Round(next) => asked = next,
                Next::Over => return Ok(Reply { usage, ..reply }),
                Next::Later(rows) => return Ok(Reply { rows, usage, ..reply }),
            }
        }
    }
}

impl Call for Again {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let Some(unwanted) = self.call.unwanted(&rows) else { return self.rounds(rows, context).await };
        match select(pin!(self.rounds(rows, context)), unwanted).await {
            Either::Left((reply, _)) => reply,
            Either::Right((error, _)) => Err(error),
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
