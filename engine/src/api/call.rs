//! The asynchronous stage: a request to something outside, and its answer.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;

use super::erased::ErasedCall;
use super::output::Rejected;
use crate::env::Env;
use crate::error::{Error, Result};

/// A request to something outside: an HTTP service, a model, a tool, a program.
///
/// One instance serves all requests of a lane, many at a time. The engine does the rest, as the stage's `limits:` say:
/// how many are in flight, their order, timeout, retry with backoff (honouring [`Error::retry_after`]), rate limit, journal.
///
/// One row out for one in, in the order of the request, unless the configuration declares another
/// [`Cardinality`](super::Cardinality).
pub trait Call: Send + Sync + 'static {
    /// One request of 1 to `limits.rows` rows. The future may be dropped at any await, when the time is over or the job ends.
    ///
    /// # Errors
    /// A transient one is tried again as `limits.retry` says. What is left goes to [`Call::failed`], then where `on_error` says.
    fn call(&self, rows: RecordBatch, context: &CallContext) -> impl Future<Output = Result<Reply>> + Send;

    /// The answer to a request that asks nobody, because it was made before or is not wanted: it passes no limit.
    ///
    /// # Errors
    /// As for [`Call::call`].
    fn known(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let _ = rows;
        Ok(None)
    }

    /// What a request is expected to cost, asked before it is sent when a limit counts tokens: all tokens that are read, and
    /// the most that may be written. It need not be right, since what answers cost corrects it.
    fn estimate(&self, rows: &RecordBatch) -> Usage {
        let _ = rows;
        Usage::default()
    }

    /// What is to be asked next, now that `rows` were answered so: another round of the same request, which passes all limits anew. The
    /// answer to the last one is that of the request.
    fn again<'a>(
        &'a self,
        rows: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>> {
        let _ = (rows, answer, context);
        None
    }

    /// Turns a failure that no retry has mended into an answer, for stages whose failures are data. `None` leaves it to `on_error`.
    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        let _ = (rows, error, context);
        None
    }
}

/// What a call is told beside its rows.
#[derive(Clone, Debug)]
pub struct CallContext {
    /// The world.
    pub env: Env,
    /// The id of the stage.
    pub stage: Arc<str>,
    /// The same for every attempt of this request, and after a restart: what a service can tell repeated requests by.
    pub idempotency_key: Arc<str>,
    /// 1 for the first attempt.
    pub attempt: u32,
    /// Monotonic time at which the attempt is given up.
    pub deadline: Duration,
    /// Durable results of the parts of this call (the turns of an agent); none when the engine keeps no journal.
    pub journal: Option<Arc<dyn Memo>>,
}

/// Durable results of expensive work, by key: what is in it is never paid for twice.
pub trait Memo: Send + Sync + std::fmt::Debug {
    /// The result kept under `key`.
    fn find<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<RecordBatch>>>;
    /// Keeps a result; returns when it is durable.
    fn keep<'a>(&'a self, key: &'a str, result: &'a RecordBatch) -> BoxFuture<'a, Result<()>>;
}

/// The answer to a request.
#[derive(Debug)]
pub struct Reply {
    /// The rows of the answer, in the schema that the configuration declared.
    pub rows: RecordBatch,
    /// Rows of the request that were refused one by one. The answer has no row for them.
    pub rejected: Vec<Rejected>,
    /// What it cost.
    pub usage: Usage,
    /// What the other side said of its limits.
    pub limits: Option<Box<RemoteLimits>>,
}

impl Reply {
    /// An answer and nothing else.
    pub fn rows(rows: RecordBatch) -> Self {
        Self { rows, rejected: Vec::new(), usage: Usage::default(), limits: None }
    }
}

/// What a request cost.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Tokens read by a model.
    pub input_tokens: u64,
    /// Tokens written by a model.
    pub output_tokens: u64,
    /// Money, in US dollars.
    pub usd: f64,
}

/// What the other side said of its limits, in answer headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteLimits {
    /// Of requests.
    pub requests: RemoteLimit,
    /// Of tokens, read and written together.
    pub tokens: RemoteLimit,
    /// Of tokens that are read.
    pub input_tokens: RemoteLimit,
    /// Of tokens that are written.
    pub output_tokens: RemoteLimit,
}

/// One limit, as far as it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoteLimit {
    /// How many there may be in a minute.
    pub per_minute: Option<u64>,
    /// How many are left.
    pub remaining: Option<u64>,
    /// How long until all are there again.
    pub reset: Option<Duration>,
}

/// A call of any type.
#[derive(Clone)]
pub struct BoxCall(pub(crate) Arc<dyn ErasedCall>);

impl BoxCall {
    /// Hands a call over to the engine.
    pub fn new(call: impl Call) -> Self {
        Self(Arc::new(call))
    }
}

impl Call for BoxCall {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        self.0.call(rows, context).await
    }
    fn known(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        self.0.known(rows)
    }
    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.0.estimate(rows)
    }
    fn again<'a>(
        &'a self,
        rows: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>> {
        self.0.again(rows, answer, context)
    }
    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.0.failed(rows, error, context)
    }
}
