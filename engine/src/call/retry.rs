//! Tries again what may pass later.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use backon::{BackoffBuilder, ExponentialBuilder};

use super::places::Places;
use crate::api::limits::Retries;
use crate::api::{Backoff, BoxCall, Call, CallContext, Outage, Reply, Usage};
use crate::error::{Error, Kind, Result, Retry as Hint};
use crate::metrics::StageStats;

/// Tries again after transient errors: capped exponential backoff with jitter (`backon`), never sooner than the other
/// side asked.
pub struct Retry<C> {
    /// What is tried.
    pub inner: C,
    /// Who knows what was tried before, and is told of waits: the call without its layers.
    pub call: BoxCall,
    /// How often and when.
    pub policy: Retries,
    /// Where tries are counted.
    pub stats: Arc<StageStats>,
    /// Where it is told that nothing helps for a while; one for all lanes of the stage.
    pub outage: Outage,
    /// Where its place is, which it gives up for a wait that is noted.
    pub places: Arc<Places>,
}

/// The waits between attempts, without the first.
pub fn waits(policy: &Retries, seed: u64) -> impl Iterator<Item = Duration> + Send + 'static {
    let builder = ExponentialBuilder::default()
        .with_min_delay(policy.initial_interval.0)
        .with_max_delay(policy.max_interval.0)
        .with_factor(policy.backoff_coefficient)
        .with_max_times(policy.max_attempts.saturating_sub(1) as usize)
        .with_jitter_seed(seed);
    if policy.jitter { builder.with_jitter().build() } else { builder.build() }
}

/// Whether an error may be tried again under a policy.
pub fn retryable(error: &Error, policy: &Retries) -> bool {
    error.retry() != Hint::Never && !policy.non_retryable.iter().any(|class| class == error.class())
}

impl<C: Call> Call for Retry<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let mut waits = waits(&self.policy, context.env.random());
        let mut context = context.clone();
        if let Some(tried) = self.call.tried(&rows)? {
            // The waits between those attempts are over.
            if let Some(last) = tried.attempts.checked_sub(1) {
                waits.nth(last as usize);
            }
            context.attempt += tried.attempts;
            self.places.rest(context.env.sleep(tried.due.since(context.env.wall()))).await;
        }
        loop {
            let error = match self.inner.call(rows.clone(), &context).await {
                Ok(reply) => {
                    self.outage.passed();
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let wait = if retryable(&error, &self.policy) { waits.next() } else { None };
            let Some(wait) = wait else {
                let attempts = context.attempt;
                return Err(if attempts > 1 { error.context(format!("after {attempts} attempts")) } else { error });
            };
            let asked = if let Hint::After(asked) = error.retry() { asked } else { Duration::ZERO };
            let wait = wait.max(asked);
            if context.env.monotonic().saturating_add(wait) >= context.deadline {
                let late = format!("the next attempt would come too late (`schedule_to_close`); the last one: {error}");
                return Err(Error::new(Kind::Timeout, late).permanent());
            }
            self.stats.retries.fetch_add(1, Relaxed);
            self.outage.failed(&error, wait);
            let backoff = Backoff { attempts: context.attempt, wait, error: &error };
            let sleep = context.env.sleep(wait);
            match self.call.backs_off(&rows, backoff, &context) {
                Some(noted) => {
                    if let Some(answer) = noted.await? {
                        return Ok(Reply::rows(answer));
                    }
                    self.places.rest(sleep).await;
                }
                None => sleep.await,
            }
            context.attempt += 1;
        }
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        self.inner.estimate(rows)
    }

    fn failed(&self, rows: &RecordBatch, error: &Error, context: &CallContext) -> Option<RecordBatch> {
        self.inner.failed(rows, error, context)
    }
}
