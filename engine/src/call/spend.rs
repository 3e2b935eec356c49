//! Counts what answers cost, and asks nothing more when a budget is spent.

use std::fmt;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::record_batch::RecordBatch;
use futures::channel::oneshot;

use super::known;
use crate::api::{Bill, BoxCall, Budget, Call, CallContext, Memo, OnExceeded, Reply, Usage};
use crate::error::{Error, Kind, Result};
use crate::metrics::{StageStats, nanos};

/// Stops the job, for the reason that it is given.
pub type Pause = Arc<dyn Fn(String) + Send + Sync>;

/// What may be spent, and what is left of it: by all lanes of a stage, or by all stages of a job.
pub struct Purse {
    budget: Budget,
    /// `the job`, or the id of a stage.
    whose: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    spent: Usage,
    /// What the requests under way may cost, and how many they are.
    reserved: Usage,
    under_way: usize,
    /// The first request that did not fit is the last one that was to be made.
    is_spent: bool,
    /// Who waits for what one under way leaves over; bounded by the requests in flight.
    waiting: Vec<oneshot::Sender<()>>,
    /// Who is to be told that there is nothing left; one for each lane, and those that have gone.
    listening: Vec<oneshot::Sender<()>>,
}

/// What a request may cost, taken out of the purse until it is settled.
struct Reserved<'a> {
    purse: &'a Purse,
    estimate: Usage,
}

impl Purse {
    /// One with so much in it, of which `spent` is gone.
    pub fn new(budget: Budget, whose: impl Into<String>) -> Self {
        Self { budget, whose: whose.into(), state: Mutex::default() }
    }

    /// Counts what was spent before.
    pub fn spent(&self, usage: Usage) {
        self.state().spent += usage;
    }

    /// Whether the job is to fail, since there is nothing left.
    pub fn has_failed(&self) -> bool {
        self.budget.on_exceeded == OnExceeded::Fail && self.state().is_spent
    }

    /// Whether the job is to stop for now, since there is nothing left.
    pub fn is_pausing(&self) -> bool {
        self.budget.on_exceeded == OnExceeded::Pause && self.state().is_spent
    }

    /// Is over when the job is to stop for now.
    pub async fn paused(&self) {
        if self.budget.on_exceeded != OnExceeded::Pause {
            return std::future::pending().await;
        }
        let spent = {
            let mut state = self.state();
            if state.is_spent {
                return;
            }
            let (tell, spent) = oneshot::channel();
            state.listening.retain(|tell| !tell.is_canceled());
            state.listening.push(tell);
            spent
        };
        // The other end goes with the purse alone.
        let _spent = spent.await;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is certain whether a request can be paid for; none when it can't. What is reserved and not spent comes back,
    /// so only a request that does not fit when nothing else is under way exceeds the budget: it is never exceeded by more
    /// than one estimate was wrong.
    async fn reserve(&self, estimate: Usage) -> Option<Reserved<'_>> {
        loop {
            let room = {
                let mut state = self.state();
                if state.is_spent {
                    return None;
                }
                let mut sum = state.spent;
                sum += state.reserved;
                sum += estimate;
                if self.holds(sum) {
                    state.reserved += estimate;
                    state.under_way += 1;
                    return Some(Reserved { purse: self, estimate });
                }
                if state.under_way == 0 {
                    state.is_spent = true;
                    for listening in state.listening.drain(..) {
                        let _gone = listening.send(());
                    }
                    return None;
                }
                let (tell, room) = oneshot::channel();
                state.waiting.push(tell);
                room
            };
            // One that is dropped was told by the end of another one.
            let _there_may_be = room.await;
        }
    }

    fn holds(&self, sum: Usage) -> bool {
        self.budget.tokens.is_none_or(|most| sum.input_tokens + sum.output_tokens <= most)
            && self.budget.usd.is_none_or(|most| sum.usd <= most * (1.0 + 1e-12))
    }
}

impl fmt::Display for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let spent = self.state().spent;
        write!(f, "the budget of {} is spent: ", self.whose)?;
        if let Some(most) = self.budget.usd {
            write!(f, "{:.6} of {most} US dollars", spent.usd)?;
        }
        if let Some(most) = self.budget.tokens {
            let and = if self.budget.usd.is_some() { ", " } else { "" };
            write!(f, "{and}{} of {most} tokens", spent.input_tokens + spent.output_tokens)?;
        }
        f.write_str(", and the next request may need more than is left")
    }
}

impl Reserved<'_> {
    fn settle(self, used: Usage) {
        self.purse.state().spent += used;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let mut state = self.purse.state();
        state.under_way -= 1;
        let left = |all: u64, one: u64| all.saturating_sub(one);
        state.reserved = Usage {
            input_tokens: left(state.reserved.input_tokens, self.estimate.input_tokens),
            output_tokens: left(state.reserved.output_tokens, self.estimate.output_tokens),
            // Sums of fractions leave crumbs behind.
            usd: if state.under_way == 0 { 0.0 } else { state.reserved.usd - self.estimate.usd },
        };
        for waiting in state.waiting.drain(..) {
            let _gone = waiting.send(());
        }
    }
}

/// Pays for each attempt.
pub struct Spend {
    /// Who knows how a row passes without an answer: the call without its layers.
    pub call: BoxCall,
    /// The call with those that are below.
    pub inner: BoxCall,
    /// What it is paid out of.
    pub purses: Vec<Arc<Purse>>,
    /// Stops the job.
    pub pause: Pause,
    /// Where it is counted over restarts.
    pub journal: Option<Arc<dyn Memo>>,
    /// Where it is counted for now.
    pub stats: Arc<StageStats>,
}

impl Spend {
    async fn not_paid(&self, purse: &Purse, rows: &RecordBatch) -> Result<Reply> {
        let failed = || Error::new(Kind::Budget, purse.to_string()).permanent();
        match purse.budget.on_exceeded {
            OnExceeded::Fail => Err(failed()),
            OnExceeded::Pause => {
                (self.pause)(purse.to_string());
                match self.call.postponed(rows)? {
                    Some(rows) => Ok(Reply::rows(rows)),
                    // The request is state of the job's last checkpoint, and is dropped with its task.
                    None => std::future::pending().await,
                }
            }
            OnExceeded::Degrade => {
                let rows = self.call.unasked(rows)?.ok_or_else(failed)?;
                self.stats.rows_degraded.fetch_add(rows.num_rows() as u64, Relaxed);
                Ok(Reply::rows(rows))
            }
        }
    }

    /// Counts what an attempt cost.
    fn count(&self, used: Usage) {
        self.stats.input_tokens.fetch_add(used.input_tokens, Relaxed);
        self.stats.output_tokens.fetch_add(used.output_tokens, Relaxed);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "costs are no debts, and saturate"
        )]
        self.stats.cost.fetch_add((used.usd * 1e9).round() as u64, Relaxed);
    }
}

impl Call for Spend {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let estimate = if self.purses.is_empty() { Usage::default() } else { self.inner.estimate(&rows) };
        let mut reserved = Vec::with_capacity(self.purses.len());
        for purse in &self.purses {
            let Some(part) = purse.reserve(estimate).await else {
                drop(reserved);
                return self.not_paid(purse, &rows).await;
            };
            reserved.push(part);
        }
        let context = CallContext { bill: Bill::default(), ..context.clone() };
        let reply = self.inner.call(rows, &context).await;
        let billed = context.bill.total();
        let mut used = reply.as_ref().map_or_else(|_| Usage::default(), |reply| reply.usage);
        used += billed.kept;
        used += billed.lost;
        self.stats.rows_known.fetch_add(billed.known, Relaxed);
        known::count(&self.stats, billed.cached);
        if let Some(took) = billed.first_piece {
            self.stats.first_piece.record(nanos(took));
        }
        if used != Usage::default() {
            self.count(used);
            for part in reserved {
                part.settle(used);
            }
        }
        if let Some(journal) = self.journal.as_ref().filter(|_| billed.lost != Usage::default()) {
            journal.lost(billed.lost).await?;
        }
        reply
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn tokens(count: u64) -> Usage {
        Usage { input_tokens: count, ..Usage::default() }
    }

    #[test]
    fn what_may_cost_more_than_is_left_waits_for_those_under_way_and_then_exceeds() {
        let purse = Purse::new(Budget { tokens: Some(100), ..Budget::default() }, "the job");
        purse.spent(tokens(10));
        let first = purse.reserve(tokens(80)).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(purse.reserve(tokens(40)));
        assert!(second.as_mut().now_or_never().is_none());
        // It cost less than it might have.
        first.settle(tokens(20));
        let second = second.now_or_never().unwrap().unwrap();
        assert!(purse.reserve(tokens(40)).now_or_never().is_none());
        second.settle(tokens(40));
        assert!(purse.reserve(tokens(31)).now_or_never().unwrap().is_none() && purse.has_failed());
        // What would have fitted is not asked any more either: it is over.
        assert!(purse.reserve(tokens(1)).now_or_never().unwrap().is_none());
        assert_eq!(
            purse.to_string(),
            "the budget of the job is spent: 70 of 100 tokens, and the next request may need more than is left"
        );
    }

    /// An answer in two pieces.
    struct Pieced;

    impl Call for Pieced {
        async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
            for secs in [3, 9] {
                context.bill.first_piece(std::time::Duration::from_secs(secs));
            }
            Ok(Reply::rows(rows))
        }
    }

    #[test]
    fn the_time_to_the_first_piece_of_an_answer_is_counted() {
        let stats = Arc::new(StageStats::default());
        let (call, inner, pause) = (BoxCall::new(Pieced), BoxCall::new(Pieced), Arc::new(drop));
        let spend = Spend { call, inner, purses: Vec::new(), pause, journal: None, stats: stats.clone() };
        let context = CallContext::of(crate::testing::simulation::Simulation::new(1).env(), "s");
        spend.call(crate::rows![{"n": 1}], &context).now_or_never().unwrap().unwrap();
        assert_eq!((stats.first_piece.count(), stats.first_piece.sum()), (1, 3_000_000_000));
    }

    #[test]
    fn one_that_is_given_up_leaves_what_it_had_reserved() {
        let purse = Purse::new(Budget { usd: Some(1.0), ..Budget::default() }, "`ask`");
        let dollar = Usage { usd: 0.7, ..Usage::default() };
        drop(purse.reserve(dollar).now_or_never().unwrap().unwrap());
        assert!(purse.reserve(dollar).now_or_never().unwrap().is_some());
    }
}
