//! A rate that processes keep together: behind the limits of the process, every attempt takes of buckets that all share.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::rate_limit::burst;
use super::token_limit::{Expected, INPUT, Need, OUTPUT, REQUESTS, TOKENS, TOKENS_HELD, need};
use super::turns::Turns;
use crate::api::meter::Draw;
use crate::api::{Call, CallContext, Meter, Reply, SharedLimits, Usage};
use crate::env::Env;
use crate::error::{Error, Kind, Result};

/// The longest sleep, so that what others give back is noticed.
const SLEEP_MAX: Duration = Duration::from_secs(1);

/// The buckets of one name, for all requests of this process that keep them.
pub struct Metered {
    meter: Arc<dyn Meter>,
    name: String,
    /// How much flows in, in a second, and the most that is held; by what is counted.
    flows: [Option<(f64, f64)>; 4],
    /// One after the other asks, so that one that waits does not ask for all.
    turns: Turns,
    expected: Mutex<Expected>,
    /// Whether the buckets are those of the process alone, which is told once.
    is_alone: AtomicBool,
    env: Env,
}

impl Metered {
    /// Those of the limits of this name.
    pub fn new(meter: Arc<dyn Meter>, name: &str, limits: &SharedLimits, env: &Env) -> Self {
        let tokens = |per_minute: Option<u64>| {
            let per_second = per_minute?.max(1) as f64 / 60.0;
            Some((per_second, (per_second * TOKENS_HELD).max(1.0)))
        };
        let mut flows = [None; 4];
        flows[REQUESTS] = limits.rate.map(|rate| (rate.per_second(), f64::from(burst(rate).get())));
        flows[TOKENS] = tokens(limits.tokens_per_minute);
        flows[INPUT] = tokens(limits.input_tokens_per_minute);
        flows[OUTPUT] = tokens(limits.output_tokens_per_minute);
        Self {
            meter,
            name: name.to_owned(),
            flows,
            turns: Turns::default(),
            expected: Mutex::default(),
            is_alone: AtomicBool::new(false),
            env: env.clone(),
        }
    }

    fn expected(&self) -> MutexGuard<'_, Expected> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn counts_tokens(&self) -> bool {
        self.flows[TOKENS..].iter().any(Option::is_some)
    }

    fn draws(&self, amounts: &Need) -> Vec<Draw> {
        const WHATS: [&str; 4] = ["requests", "tokens", "input_tokens", "output_tokens"];
        let draw = |what: usize| {
            let (per_second, capacity) = self.flows[what]?;
            let bucket = format!("{}:{}", self.name, WHATS[what]);
            Some(Draw { bucket, per_second, capacity, amount: amounts[what] })
        };
        (REQUESTS..=OUTPUT).filter_map(draw).collect()
    }

    /// Returns when a request may be sent; whether what it needs was taken of what all share.
    async fn admit(&self, amounts: &Need) -> bool {
        let _turn = self.turns.take(false).await;
        loop {
            match self.told(self.meter.take(self.draws(amounts)).await) {
                Some(Some(wait)) => self.env.sleep(wait.clamp(Duration::from_millis(1), SLEEP_MAX)).await,
                Some(None) => return true,
                // The limits of the process were kept already.
                None => return false,
            }
        }
    }

    async fn settle(&self, difference: Need) {
        let draws: Vec<Draw> = self.draws(&difference).into_iter().filter(|draw| draw.amount != 0.0).collect();
        if !draws.is_empty() {
            let _told = self.told(self.meter.settle(draws).await);
        }
    }

    /// Says once that the meter is gone.
    fn told<T>(&self, result: Result<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.is_alone.store(false, Relaxed);
                Some(value)
            }
            Err(error) => {
                if !self.is_alone.swap(true, Relaxed) {
                    tracing::warn!("the rate limit `{}` is that of this process alone: {error}", self.name);
                }
                None
            }
        }
    }
}

/// Waits for what all processes share before each attempt, and settles it afterwards.
pub struct Shared<C> {
    /// What is limited.
    pub inner: C,
    /// One for all stages of the process that keep the limit.
    pub metered: Arc<Metered>,
}

impl<C: Call> Call for Shared<C> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let metered = &self.metered;
        let estimate = if metered.counts_tokens() { self.inner.estimate(&rows) } else { Usage::default() };
        let reserved = metered.expected().need(estimate);
        let is_taken = metered.admit(&reserved).await;
        let reply = self.inner.call(rows, context).await;
        match &reply {
            Ok(Reply { usage, .. }) if *usage != Usage::default() => {
                metered.expected().learn(estimate, *usage);
                let actual = need(usage.input_tokens as f64, usage.output_tokens as f64);
                if is_taken {
                    metered.settle(std::array::from_fn(|what| actual[what] - reserved[what])).await;
                }
            }
            // It took none of the tokens.
            Err(error) if error.kind() == Kind::RateLimit && is_taken => {
                let [_, tokens, input, output] = reserved;
                metered.settle([0.0, -tokens, -input, -output]).await;
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

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use futures::future::{BoxFuture, join_all, ready};

    use super::*;
    use crate::call::token_limit::Bucket;
    use crate::data::units::Rate;
    use crate::rows;
    use crate::testing::simulation::Simulation;

    /// Buckets on the clock of a simulation, and whether they can be reached.
    struct Shelf {
        buckets: Mutex<std::collections::BTreeMap<String, Bucket>>,
        is_gone: AtomicBool,
        env: Env,
    }

    impl Shelf {
        fn of(&self, draws: &[Draw], is_settled: bool) -> Result<Option<Duration>> {
            if self.is_gone.load(Relaxed) {
                return Err(Error::new(Kind::Io, "nobody there"));
            }
            let (now, mut all) = (self.env.monotonic().as_secs_f64(), self.buckets.lock().unwrap());
            let mut wait = 0f64;
            for draw in draws {
                let made = || Bucket::new(draw.per_second, draw.capacity / draw.per_second, now);
                let bucket = all.entry(draw.bucket.clone()).or_insert_with(made);
                wait = wait.max(bucket.wait(draw.amount, now));
            }
            if wait > 0.0 && !is_settled {
                return Ok(Some(Duration::from_secs_f64(wait)));
            }
            for draw in draws {
                all.get_mut(&draw.bucket).unwrap().take(draw.amount);
            }
            Ok(None)
        }
    }

    impl Meter for Shelf {
        fn take(&self, draws: Vec<Draw>) -> BoxFuture<'_, Result<Option<Duration>>> {
            ready(self.of(&draws, false)).boxed()
        }

        fn settle(&self, draws: Vec<Draw>) -> BoxFuture<'_, Result<()>> {
            ready(self.of(&draws, true).map(|_| ())).boxed()
        }
    }

    /// Costs ten tokens where a hundred were expected.
    struct Cheap;

    impl Call for Cheap {
        async fn call(&self, rows: RecordBatch, _: &CallContext) -> Result<Reply> {
            let usage = Usage { input_tokens: 0, output_tokens: 10, usd: 0.0 };
            Ok(Reply { usage, ..Reply::rows(rows) })
        }

        fn estimate(&self, _: &RecordBatch) -> Usage {
            Usage { input_tokens: 0, output_tokens: 100, usd: 0.0 }
        }
    }

    /// How long so many requests of each of two processes take together, in seconds.
    fn takes(limits: SharedLimits, requests: usize, is_gone: bool) -> f64 {
        let simulation = Simulation::new(1);
        let env = simulation.env();
        let shelf = Shelf { buckets: Mutex::default(), is_gone: AtomicBool::new(is_gone), env: env.clone() };
        let meter: Arc<dyn Meter> = Arc::new(shelf);
        let process = || Arc::new(Metered::new(meter.clone(), "api", &limits, &env));
        let calls = [process(), process()].map(|metered| Shared { inner: Cheap, metered });
        let context = CallContext::of(env.clone(), "s");
        let begin = env.monotonic();
        let end = simulation.run(async move {
            let all = calls.iter().flat_map(|call| (0..requests).map(|_| call.call(rows![{"n": 1}], &context)));
            join_all(all).await.into_iter().collect::<Result<Vec<_>>>().map(|_| context.env.monotonic())
        });
        end.done().unwrap().saturating_sub(begin).as_secs_f64()
    }

    #[test]
    fn processes_keep_one_rate_together_and_each_is_alone_when_the_meter_is_gone() {
        let rate = SharedLimits::from(Rate { count: 10, per: Duration::from_secs(1) });
        let shared = takes(rate, 20, false);
        assert!((3.8..4.2).contains(&shared), "{shared}");
        // What is left are the limits of the process, which are another layer.
        assert_eq!(takes(rate, 20, true), 0.0);
    }

    #[test]
    fn what_was_reserved_and_not_used_is_given_back_for_all() {
        let tokens = SharedLimits { output_tokens_per_minute: Some(6_000), ..SharedLimits::default() };
        // Four hundred tokens at a hundred in a second; with what was expected at first it would be four thousand.
        let spent = takes(tokens, 20, false);
        assert!((2.5..8.0).contains(&spent), "{spent}");
    }
}
