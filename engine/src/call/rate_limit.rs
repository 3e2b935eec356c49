//! Spaces requests: so many in a length of time, and none while the other side has asked for a pause.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;
use governor::clock::Clock;
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};

use crate::api::{Call, CallContext, Reply, Usage};
use crate::data::units::Rate;
use crate::env::Env;
use crate::error::{Error, Kind, Result, Retry};
use crate::metrics::{Bucket, Standing, nanos};

/// The waits of the limiter re-check at least this often, so that a pause that is lifted early is noticed.
const WAIT_MAX: Duration = Duration::from_mins(1);

/// A rate and a pause, shared by all requests of a stage: GCRA, as in `governor`, on the engine's clock.
pub struct Limiter {
    rate: Option<RateLimiter<NotKeyed, InMemoryState, EnvClock, StateInformationMiddleware>>,
    /// What the rate left when a request was let through last, and the monotonic nanoseconds of that.
    left: Mutex<(u32, u64)>,
    said: Option<(Rate, u32)>,
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

/// What of a rate may be sent at once: a tenth of a second's worth.
pub fn burst(rate: Rate) -> NonZeroU32 {
    let burst = (rate.per_second() / 10.0).clamp(1.0, f64::from(u32::MAX));
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped above")]
    NonZeroU32::new(burst as u32).unwrap_or(NonZeroU32::MIN)
}

impl Limiter {
    /// A limiter of this rate, or of pauses alone. A tenth of a second's worth may be sent at once.
    pub fn new(rate: Option<Rate>, env: &Env) -> Self {
        let quota = |r: Rate| {
            let interval = (r.per / r.count).max(Duration::from_nanos(1));
            Quota::with_period(interval).expect("the interval is not zero").allow_burst(burst(r))
        };
        let said = rate.map(|r| (r, burst(r).get()));
        let rate = rate.map(|r| {
            let limiter = RateLimiter::direct_with_clock(quota(r), EnvClock(env.clone()));
            limiter.with_middleware::<StateInformationMiddleware>()
        });
        let left = Mutex::new((said.map_or(0, |(_, burst)| burst), nanos(env.monotonic())));
        Self { rate, left, said, paused_until: AtomicU64::new(0), env: env.clone() }
    }

    /// How it stands.
    pub fn standing(&self) -> Standing {
        let now = self.env.monotonic();
        let paused = Duration::from_nanos(self.paused_until.load(Relaxed)).saturating_sub(now);
        let bucket = self.said.map(|(rate, burst)| {
            let (left, at) = *self.left.lock().unwrap_or_else(PoisonError::into_inner);
            let since = now.saturating_sub(Duration::from_nanos(at)).as_secs_f64();
            let capacity = f64::from(burst);
            let level = (f64::from(left) + since * rate.per_second()).min(capacity);
            Bucket { what: "requests", level, capacity, per_minute: rate.per_second() * 60.0 }
        });
        Standing { in_flight: None, paused, buckets: bucket.into_iter().collect() }
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
            let Some(rate) = &self.rate else { return };
            match rate.check().map_err(|e| e.wait_time_from(now)) {
                Ok(left) => {
                    let mut last = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                    *last = (left.remaining_burst_capacity(), nanos(now));
                    return;
                }
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
/// one that met it, unless somebody above says what is to pause.
pub struct RateLimit<C> {
    /// What is spaced.
    pub inner: C,
    /// Shared by the lanes of a stage.
    pub limiter: Arc<Limiter>,
    /// Whether it is for this layer to say so.
    pub pauses: bool,
}

impl<C: Call> Call for RateLimit<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        self.limiter.admit().await;
        let reply = self.inner.call(rows, context).await;
        match &reply {
            Err(e) if e.kind() == Kind::RateLimit && self.pauses => {
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
