//! When to try again, where the engine does not do it.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};
use bourn_engine::api::Outage;
use bourn_engine::api::limits::Retries;
use bourn_engine::error::Retry;
use bourn_engine::{Error, Result};

/// The attempts at one thing: capped exponential backoff with jitter, never sooner than the other side asks.
#[derive(Debug)]
pub struct Attempts {
    policy: Retries,
    waits: ExponentialBackoff,
    made: u32,
    outage: Outage,
}

impl Attempts {
    /// None made yet. That one fails is told to `outage`; that one has not, its owner tells.
    pub fn new(policy: &Retries, seed: u64, outage: &Outage) -> Self {
        let builder = ExponentialBuilder::default()
            .with_min_delay(policy.initial_interval.0)
            .with_max_delay(policy.max_interval.0)
            .with_factor(policy.backoff_coefficient)
            .with_max_times(policy.max_attempts.saturating_sub(1) as usize)
            .with_jitter_seed(seed);
        let waits = if policy.jitter { builder.with_jitter().build() } else { builder.build() };
        Self { policy: policy.clone(), waits, made: 0, outage: outage.clone() }
    }

    /// How long to wait after this failure before the next attempt.
    ///
    /// # Errors
    /// The failure, for good, when trying again would not help or has been done often enough.
    pub fn after(&mut self, error: Error) -> Result<Duration> {
        self.made += 1;
        let barred = self.policy.non_retryable.iter().any(|class| class == error.class());
        let wait = if error.retry() == Retry::Never || barred { None } else { self.waits.next() };
        let Some(wait) = wait else {
            let error = if self.made > 1 { error.context(format!("after {} attempts", self.made)) } else { error };
            return Err(error.permanent());
        };
        let wait = if let Retry::After(asked) = error.retry() { wait.max(asked) } else { wait };
        self.outage.failed(&error, wait);
        Ok(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::data::units::Interval;
    use bourn_engine::env::Env;

    fn attempts(max_attempts: u32) -> Attempts {
        let initial_interval = Interval(Duration::from_millis(10));
        let policy = Retries { max_attempts, initial_interval, jitter: false, ..Retries::default() };
        Attempts::new(&policy, 1, &Outage::of("it", &Env::system()))
    }

    #[test]
    fn waits_grow_are_no_shorter_than_asked_and_come_to_an_end() {
        let busy = || Error::validation("busy").transient();
        let mut three = attempts(4);
        assert_eq!(three.after(busy()).unwrap(), Duration::from_millis(10));
        assert_eq!(three.after(busy()).unwrap(), Duration::from_millis(20));
        assert_eq!(three.after(busy().retry_after(Duration::from_secs(3))).unwrap(), Duration::from_secs(3));
        let over = three.after(busy()).unwrap_err();
        assert_eq!((over.message(), over.retry()), ("after 4 attempts: busy", Retry::Never));
        assert_eq!(attempts(4).after(Error::validation("no")).unwrap_err().message(), "no");
    }
}
