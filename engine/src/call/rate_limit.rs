//! Spaces requests: so many in a length of time, and none while the other side has asked for a pause.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::api::{Call, CallContext, Reply, Usage};
use crate::data::units::Rate;
use crate::env::Env;
use crate::error::{Error, Kind, Result, Retry};
use crate::metrics::nanos;

/// The waits of the limiter re-check at least this often, so that a pause that is lifted early is noticed.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// A rate and a pause, shared by all requests of a stage: GCRA, as in `governor`, on the engine's clock.
pub struct Limiter {
    rate: Option<RateLimiter<NotKeyed, InMemoryState, EnvClock, NoOpMiddleware<Duration>>>,
    /// Monotonic nanoseconds before which nothing is sent.
    paused_until: AtomicU64,
    env: Env,
}

#[derive(Clone)]
struct EnvClock(Env);

impl Clock for EnvClock {
    type Instant = Duration;
    fn now(&self) -> Duration {
        self.0.monotonic()
    }
}

impl Limiter {
    /// A limiter of this rate, or of pauses alone. A tenth of a second's worth may be sent at once.
    pub fn new(rate: Option<Rate>, env: &Env) -> Self {
        let quota = |r: Rate| {
            let interval = (r.per / r.count).max(Duration::from_nanos(1));
            let burst = (r.per_second() / 10.0).clamp(1.0, f64::from(u32::MAX));
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
            let burst = NonZeroU32::new(burst as u32).unwrap_or(NonZeroU32::MIN);
            Quota::with_period(interval).expect("the interval is not zero").allow_burst(burst)
        };
        let rate = rate.map(|r| RateLimiter::direct_with_clock(quota(r), EnvClock(env.clone())));
        Self { rate, paused_until: AtomicU64::new(0), env: env.clone() }
    }

    /// Returns when a request may be sent.
    pub async fn admit(&self) {
        loop {
            let now = self.env.monotonic();
            let pause = Duration::from_nanos(self.paused_until.load(Relaxed)).saturating_sub(now);
            if !pause.is_zero() {
                self.env.sleep(pause.min(WAIT_MAX)).await;
                continue;
            }
            match self.rate.as_ref().map_or(Ok(()), |r| r.check().map_err(|e| e.wait_time_from(now))) {
                Ok(()) => return,
                Err(wait) => self.env.sleep(wait.min(WAIT_MAX)).await,
            }
        }
    }

    /// Sends nothing for `wait`.
    pub fn pause(&self, wait: Duration) {
        self.paused_until.fetch_max(nanos(self.env.monotonic() + wait), Relaxed);
    }
}

/// Waits for the limiter before each attempt. An answer of 429 with a wait pauses all requests of the stage, not only the
/// one that met it.
pub struct RateLimit<C> {
    /// What is spaced.
    pub inner: C,
    /// Shared by the lanes of a stage.
    pub limiter: Arc<Limiter>,
}

impl<C: Call> Call for RateLimit<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        self.limiter.admit().await;
        let reply = self.inner.call(rows, context).await;
        match &reply {
            Err(e) if e.kind() == Kind::RateLimit => {
                if let Retry::After(wait) = e.retry() {
                    self.limiter.pause(wait);
                }
            }
            // How many there may be in a minute says more: then they are spaced, and need not stop.
            Ok(Reply { limits: Some(limits), .. })
                if limits.requests.remaining == Some(0) && limits.requests.per_minute.is_none() =>
            {
                self.limiter.pause(limits.requests.reset.unwrap_or_default());
            }
            _ => {}
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
