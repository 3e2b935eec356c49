//! Token buckets: what may be sent now, of requests and of a model's tokens.
//!
//! A bucket fills up all the time and holds little, so what is sent is spread over the time, and a service that counts
//! seconds is not surprised. What an answer will cost is known only when it is there: a request takes what it is expected to
//! need, and settles the difference afterwards. One that needs more than a bucket ever holds is let in when it is full,
//! and leaves a debt, so the rate holds in the long run.

use std::time::Duration;

use crate::api::call::{RemoteLimit, RemoteLimits};
use crate::api::{Limits, Usage};
use crate::metrics::Bucket as Level;

/// How long a bucket takes to fill up: what may be sent at once. Longer than the grain of a timer, so that none is idle.
const HELD: f64 = 0.1;
/// What a limit of tokens holds, in seconds: a request takes many of them.
pub const TOKENS_HELD: f64 = 1.0;

/// What is counted.
pub const REQUESTS: usize = 0;
/// Tokens, read and written together.
pub const TOKENS: usize = 1;
/// Tokens that are read.
pub const INPUT: usize = 2;
/// Tokens that are written.
pub const OUTPUT: usize = 3;

/// What a request takes, by what is counted.
pub type Need = [f64; 4];

/// The need of one request with this usage.
pub fn need(input_tokens: f64, output_tokens: f64) -> Need {
    [1.0, input_tokens + output_tokens, input_tokens, output_tokens]
}

/// Something that fills up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// How much flows in, in a second.
    pub rate: f64,
    /// The most that it holds.
    pub capacity: f64,
    /// What is in it, or what it owes.
    pub level: f64,
    /// When that was so.
    at: f64,
}

impl Bucket {
    /// A full one. A length of time and the times of all calls are in seconds.
    pub fn new(rate: f64, held: f64, now: f64) -> Self {
        let capacity = (rate * held).max(1.0);
        Self { rate, capacity, level: capacity, at: now }
    }

    /// How long until there is enough, in seconds.
    pub fn wait(&mut self, need: f64, now: f64) -> f64 {
        self.level = (self.level + (now - self.at).max(0.0) * self.rate).min(self.capacity);
        self.at = self.at.max(now);
        let lacks = need.min(self.capacity) - self.level;
        // What is a rounding error away is there.
        if lacks <= 1e-9 * self.capacity.max(1.0) { 0.0 } else { lacks / self.rate }
    }

    /// Takes it, or gives back what is negative.
    pub fn take(&mut self, need: f64) {
        self.level = (self.level - need).min(self.capacity);
    }

    /// Another rate from now on.
    pub fn set_rate(&mut self, rate: f64, held: f64) {
        self.rate = rate;
        self.capacity = (rate * held).max(1.0);
        self.level = self.level.min(self.capacity);
    }
}

/// The buckets of a stage: those that the spec says, and those that the service tells.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    said: [Option<Bucket>; 4],
    told: [Option<Bucket>; 4],
    /// What was taken in all, so that what a service tells of the past can be brought up to now.
    taken: Need,
}

impl Buckets {
    /// Those that a spec says.
    pub fn new(limits: &Limits, now: f64) -> Self {
        let per_minute = [
            limits.requests_per_minute.map(u64::from),
            limits.tokens_per_minute,
            limits.input_tokens_per_minute,
            limits.output_tokens_per_minute,
        ];
        let mut said = [None; 4];
        for (what, per_minute) in per_minute.into_iter().enumerate() {
            said[what] = per_minute.map(|n| Bucket::new(n.max(1) as f64 / 60.0, held(what), now));
        }
        Self { said, ..Self::default() }
    }

    /// What is in each now: of two for the same the one that has less.
    pub fn levels(&mut self, now: f64) -> Vec<Level> {
        let mut all = Vec::new();
        for (what, name) in ["requests", "tokens", "input_tokens", "output_tokens"].into_iter().enumerate() {
            let both = [&mut self.said[what], &mut self.told[what]].into_iter().flatten();
            let brought_up = both.map(|bucket| {
                bucket.wait(0.0, now);
                *bucket
            });
            let least = brought_up.min_by(|a, b| a.level.total_cmp(&b.level));
            all.extend(least.map(|Bucket { rate, capacity, level, .. }| Level {
                what: name,
                level,
                capacity,
                per_minute: rate * 60.0,
            }));
        }
        all
    }

    /// Whether tokens count.
    pub fn count_tokens(&self) -> bool {
        (TOKENS..=OUTPUT).any(|what| self.said[what].is_some() || self.told[what].is_some())
    }

    /// How long until all have enough, in seconds.
    pub fn wait(&mut self, need: &Need, now: f64) -> f64 {
        let both = self.said.iter_mut().zip(need).chain(self.told.iter_mut().zip(need));
        both.filter_map(|(bucket, need)| Some(bucket.as_mut()?.wait(*need, now))).fold(0.0, f64::max)
    }

    /// Takes it of all, or gives back what is negative; returns what was taken in all.
    pub fn take(&mut self, need: &Need) -> Need {
        for (what, need) in need.iter().enumerate() {
            self.taken[what] += need;
            for bucket in [&mut self.said[what], &mut self.told[what]].into_iter().flatten() {
                bucket.take(*need);
            }
        }
        self.taken
    }

    /// What a service told in an answer to a request, after which `then` had been taken in all.
    pub fn tell(&mut self, limits: &RemoteLimits, then: &Need, now: f64) {
        let all = [limits.requests, limits.tokens, limits.input_tokens, limits.output_tokens];
        for (what, limit) in all.into_iter().enumerate() {
            let since = self.taken[what] - then[what];
            tell(&mut self.told[what], limit, since, now);
        }
    }
}

/// Brings a bucket up to what was told, and what was taken since.
fn tell(bucket: &mut Option<Bucket>, limit: RemoteLimit, since: f64, now: f64) {
    let Some(per_minute) = limit.per_minute.filter(|n| *n > 0) else { return };
    let (rate, capacity) = (per_minute as f64 / 60.0, per_minute as f64);
    let bucket = bucket.get_or_insert(Bucket { rate, capacity, level: capacity, at: now });
    bucket.wait(0.0, now);
    (bucket.rate, bucket.capacity) = (rate, capacity);
    // It is the service that counts: others with the same key take of it too.
    let level = limit.remaining.map_or(bucket.level, |left| left as f64 - since.max(0.0));
    bucket.level = level.min(capacity);
}

/// How long a bucket of this takes to fill up, in seconds.
fn held(what: usize) -> f64 {
    if what == REQUESTS { HELD } else { TOKENS_HELD }
}

/// What an answer is expected to cost, corrected by what the answers before it did cost.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    input: f64,
    output: f64,
}

/// The weight of one answer in what is expected of the next.
const WEIGHT: f64 = 0.1;

impl Default for Expected {
    fn default() -> Self {
        Self { input: 1.0, output: 1.0 }
    }
}

impl Expected {
    /// What a request takes that was estimated so.
    pub fn need(&self, estimate: Usage) -> Need {
        need(estimate.input_tokens as f64 * self.input, estimate.output_tokens as f64 * self.output)
    }

    /// An answer did cost this.
    pub fn learn(&mut self, estimate: Usage, usage: Usage) {
        let learn = |ratio: &mut f64, estimate: u64, actual: u64| {
            if estimate > 0 {
                *ratio += WEIGHT * (actual as f64 / estimate as f64 - *ratio);
            }
        };
        learn(&mut self.input, estimate.input_tokens, usage.input_tokens);
        learn(&mut self.output, estimate.output_tokens, usage.output_tokens);
    }
}

/// A moment in seconds.
pub fn seconds(time: Duration) -> f64 {
    time.as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_spreads_what_is_sent_and_a_debt_is_paid_back() {
        let mut bucket = Bucket::new(10.0, HELD, 0.0);
        assert_eq!((bucket.capacity, bucket.wait(1.0, 0.0)), (1.0, 0.0));
        bucket.take(1.0);
        assert!((bucket.wait(1.0, 0.0) - 0.1).abs() < 1e-9);
        assert_eq!(bucket.wait(1.0, 0.1), 0.0);
        // Five at once, of which it held one: the next comes in half a second.
        bucket.take(5.0);
        assert!((bucket.wait(1.0, 0.1) - 0.5).abs() < 1e-9, "{}", bucket.wait(1.0, 0.1));
    }

    #[test]
    fn what_was_reserved_and_not_used_is_given_back() {
        let limits = Limits { output_tokens_per_minute: Some(6_000), ..Limits::default() };
        let mut buckets = Buckets::new(&limits, 0.0);
        buckets.take(&need(0.0, 100.0));
        assert!((buckets.wait(&need(0.0, 100.0), 0.0) - 1.0).abs() < 1e-9);
        buckets.take(&[0.0, -80.0, 0.0, -80.0]);
        assert!((buckets.wait(&need(0.0, 100.0), 0.0) - 0.2).abs() < 1e-9);
    }

    #[test]
    fn what_a_service_tells_counts_with_what_was_sent_since() {
        let mut buckets = Buckets::default();
        let then = buckets.take(&need(0.0, 0.0));
        for _ in 0..3 {
            buckets.take(&need(0.0, 0.0));
        }
        let requests = RemoteLimit { per_minute: Some(60), remaining: Some(5), reset: None };
        buckets.tell(&RemoteLimits { requests, ..RemoteLimits::default() }, &then, 1.0);
        assert_eq!(buckets.told[REQUESTS].map(|b| (b.rate, b.level)), Some((1.0, 2.0)));
        assert!(!buckets.count_tokens());
        let tokens = RemoteLimit { per_minute: Some(60), remaining: None, reset: None };
        buckets.tell(&RemoteLimits { tokens, ..RemoteLimits::default() }, &then, 1.0);
        assert!(buckets.count_tokens());
    }

    #[test]
    fn what_is_expected_follows_what_answers_cost() {
        let estimate = Usage { input_tokens: 100, output_tokens: 1_000, usd: 0.0 };
        let usage = Usage { input_tokens: 120, output_tokens: 50, usd: 0.0 };
        let mut expected = Expected::default();
        assert_eq!(expected.need(estimate), [1.0, 1_100.0, 100.0, 1_000.0]);
        for _ in 0..100 {
            expected.learn(estimate, usage);
        }
        let [_, _, input, output] = expected.need(estimate);
        assert!((input - 120.0).abs() < 0.1 && (output - 50.0).abs() < 0.1, "{input} {output}");
    }
}
