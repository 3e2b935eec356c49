//! The asynchronous stage: a request to something outside, and its answer. Long because it is one trait with all that is said in it.

use std::future::Future;
use std::ops::AddAssign;
use std::sync::Arc;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use futures::future::BoxFuture;

pub use super::bill::{Bill, Billed, Cached};
use super::cache::Turn;
use super::erased::ErasedCall;
use super::limits::Deadlines;
use super::memo::{Key, Memo};
use super::observer::Trace;
use super::output::Rejected;
use crate::env::Env;
use crate::error::{Error, Result};
use crate::time::Timestamp;

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

    /// The answer to a request that asks nobody, because it is in the journal, was made before or is not wanted: it passes no
    /// limit and costs nothing.
    ///
    /// # Errors
    /// As for [`Call::call`].
    fn known(
        &self,
        rows: &RecordBatch,
        context: &CallContext,
    ) -> impl Future<Output = Result<Option<RecordBatch>>> + Send {
        let _ = (rows, context);
        std::future::ready(Ok(None))
    }

    /// The key of all that the answer to a request of one row depends on, when whoever calls wants to keep that answer. `None`: the call
    /// does not know, and it may depend on all of its configuration and all of the row.
    ///
    /// # Errors
    /// When a place has no value in this row.
    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>> {
        let _ = rows;
        Ok(None)
    }

    /// Waits while another request asks the same, when nothing was [`known`](Self::known) that is asked for once more then. What it gives is
    /// held until this request has ended, however it does; `None` asks at once.
    fn turn<'a>(&'a self, rows: &'a RecordBatch) -> Option<BoxFuture<'a, Option<Turn>>> {
        let _ = rows;
        None
    }

    /// The rows of a request that is not made because the budget is spent, with nulls as their answers. `None`: that is a
    /// failure, as for a call whose answers nobody can do without.
    ///
    /// # Errors
    /// When the rows do not fit what was declared after all.
    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let _ = rows;
        Ok(None)
    }

    /// The rows of a request that is not made for now, since the job pauses until the budget is larger: marked, so that they come back
    /// by themselves when it goes on. `None`: they can't say so, and the request is kept with the job's checkpoint.
    ///
    /// # Errors
    /// When the rows do not fit what was declared after all.
    fn postponed(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let _ = rows;
        Ok(None)
    }

    /// What can be accounted for; asked at planning.
    fn accounts(&self) -> Accounts {
        Accounts::default()
    }

    /// What a request is expected to cost, asked before it is sent when a limit counts tokens: all tokens that are read, and
    /// the most that may be written. It need not be right, since what answers cost corrects it.
    fn estimate(&self, rows: &RecordBatch) -> Usage {
        let _ = rows;
        Usage::default()
    }

    /// What is to be asked next, now that `rows` were answered so: another round of the same request, which passes all limits anew. The
    /// answer to the last one is that of the request. `None`: there are no rounds.
    fn again<'a>(
        &'a self,
        rows: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Next>>> {
        let _ = (rows, answer, context);
        None
    }

    /// How often this request was tried by an earlier process, if it is known: its attempts are not begun anew, and the next one comes when
    /// it would have come there. Asked once, before the first attempt.
    ///
    /// # Errors
    /// When what is known can't be read.
    fn tried(&self, rows: &RecordBatch) -> Result<Option<Tried>> {
        let _ = rows;
        Ok(None)
    }

    /// The run that pays a request, of a workflow that says what each may spend. Asked before each attempt.
    fn payer(&self, rows: &RecordBatch) -> Option<u64> {
        let _ = rows;
        None
    }

    /// What bounds the time of its requests beside `limits.timeout`, which is then told by the name that it has among these. Asked when the job
    /// is built.
    fn deadlines(&self) -> Option<Deadlines> {
        None
    }

    /// When the request could have been made, had nobody been before it: limits of how long it may take in all count from there.
    ///
    /// # Errors
    /// When that can't be read from the rows.
    fn scheduled(&self, rows: &RecordBatch, context: &CallContext) -> Result<Timestamp> {
        let _ = rows;
        Ok(context.ingested)
    }

    /// Told when an attempt has failed and another one follows after a wait. What it answers with is the answer to the request, which then is
    /// tried again another time, by whoever asks again; with none the wait passes here, and with `None` nothing is to be done about it.
    fn backs_off<'a>(
        &'a self,
        rows: &'a RecordBatch,
        backoff: Backoff<'a>,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>> {
        let _ = (rows, backoff, context);
        None
    }

    /// Is over when nobody wants the answer any more, with the error that the request then ends with: it is dropped wherever it is, also
    /// while it waits for its turn or to be tried again. `None`: the answer is always wanted.
    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        let _ = rows;
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
    /// Wall time at which the source of this job read the oldest of the rows.
    pub ingested: Timestamp,
    /// Where answers are kept, so that none is paid for twice: a call looks for each row before it asks, and keeps an answer before
    /// it returns it. None when the stage keeps no journal.
    pub journal: Option<Arc<dyn Memo>>,
    /// What was wrong with the last answer, of a request that is made again for a better one; for calls that ask somebody who can heed it.
    pub feedback: Option<Arc<str>>,
    /// What this attempt notes beside its reply.
    pub bill: Bill,
    /// Who is told what is asked.
    pub trace: Trace,
}

impl CallContext {
    /// That of a first attempt which nothing bounds, outside of a job.
    pub fn of(env: Env, stage: impl Into<Arc<str>>) -> Self {
        let (stage, idempotency_key) = (stage.into(), Arc::default());
        let (deadline, ingested, journal, feedback) = (Duration::MAX, Timestamp::default(), None, None);
        let bill = Bill::default();
        Self {
            env,
            stage,
            idempotency_key,
            attempt: 1,
            deadline,
            ingested,
            journal,
            feedback,
            bill,
            trace: Trace::default(),
        }
    }
}

/// What an earlier process has tried of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tried {
    /// Attempts that count.
    pub attempts: u32,
    /// When the request could have been made first.
    pub scheduled: Timestamp,
    /// When the next one may come.
    pub due: Timestamp,
}

/// What follows an answer.
#[derive(Clone, Debug)]
pub enum Next {
    /// Nothing: it was the last one.
    Over,
    /// Another round, which is asked this.
    Round(RecordBatch),
    /// Another round at another time, by whoever asks again: for now, the request is answered so.
    Later(RecordBatch),
}

/// A wait between two attempts.
#[derive(Clone, Copy, Debug)]
pub struct Backoff<'a> {
    /// Attempts so far that count: what was refused because of a limit alone does not.
    pub attempts: u32,
    /// Until the next one.
    pub wait: Duration,
    /// Why the last one failed.
    pub error: &'a Error,
}

/// What can be accounted for of a call, and what it does itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    /// It looks into the journal, and keeps its answers there.
    pub keeps: bool,
    /// It says how many tokens a request may need, and has needed.
    pub tokens: bool,
    /// The same for money.
    pub usd: bool,
    /// What requests are told apart by.
    pub keys: Keys,
}

/// What the idempotency keys of a call's requests are made from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Keys {
    /// The row: the same for one that is replayed.
    #[default]
    Row,
    /// Nothing that is of use to others, because it asks under keys of its own: they differ within a job, which costs nothing.
    Own,
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

impl AddAssign for Usage {
    fn add_assign(&mut self, more: Self) {
        self.input_tokens += more.input_tokens;
        self.output_tokens += more.output_tokens;
        self.usd += more.usd;
    }
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
    async fn known(&self, rows: &RecordBatch, context: &CallContext) -> Result<Option<RecordBatch>> {
        self.0.known(rows, context).await
    }
    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>> {
        self.0.key(rows)
    }
    fn turn<'a>(&'a self, rows: &'a RecordBatch) -> Option<BoxFuture<'a, Option<Turn>>> {
        self.0.turn(rows)
    }
    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        self.0.unasked(rows)
    }
    fn postponed(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        self.0.postponed(rows)
    }
    fn accounts(&self) -> Accounts {
        self.0.accounts()
    }
    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.0.estimate(rows)
    }
    fn again<'a>(
        &'a self,
        rows: &'a RecordBatch,
        answer: &'a RecordBatch,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Next>>> {
        self.0.again(rows, answer, context)
    }

    fn tried(&self, rows: &RecordBatch) -> Result<Option<Tried>> {
        self.0.tried(rows)
    }
    fn payer(&self, rows: &RecordBatch) -> Option<u64> {
        self.0.payer(rows)
    }
    fn deadlines(&self) -> Option<Deadlines> {
        self.0.deadlines()
    }
    fn scheduled(&self, rows: &RecordBatch, context: &CallContext) -> Result<Timestamp> {
        self.0.scheduled(rows, context)
    }
    fn backs_off<'a>(
        &'a self,
        rows: &'a RecordBatch,
        backoff: Backoff<'a>,
        context: &'a CallContext,
    ) -> Option<BoxFuture<'a, Result<Option<RecordBatch>>>> {
        self.0.backs_off(rows, backoff, context)
    }
    fn unwanted(&self, rows: &RecordBatch) -> Option<BoxFuture<'static, Error>> {
        self.0.unwanted(rows)
    }
    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.0.failed(rows, error, context)
    }
}
