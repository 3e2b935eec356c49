//! The limits of `mock-llm`: token buckets that fill up all the time, as those of the real services do.

use std::time::Duration;

use bourn_engine::time::Timestamp;
use chrono::{DateTime, SecondsFormat};

use super::args::MockLlm;
use super::refusal::Dialect;

/// What a bucket counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

/// What a request takes of the buckets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Need {
    pub input_tokens: u64,
    pub output_tokens: u64,
}

#[derive(Clone, Debug)]
struct Bucket {
    what: What,
    per_minute: u32,
    /// The most that is in it.
    capacity: f64,
    /// What is in it; below zero after a request that needed more than it ever holds.
    level: f64,
}

/// All buckets. One that is not limited is not there.
#[derive(Clone, Debug)]
pub struct Limits {
    buckets: Vec<Bucket>,
    filled_at: Duration,
    hidden: bool,
}

/// A request that is too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exceeded {
    /// Of what.
    pub what: What,
    /// How many there may be in a minute.
    pub per_minute: u32,
    /// How long until there is enough.
    pub wait: Duration,
}

impl Limits {
    /// Full buckets, as the command line says.
    pub fn new(args: &MockLlm) -> Self {
        let all = [
            (What::Requests, args.requests_per_minute),
            (What::Tokens, args.tokens_per_minute),
            (What::InputTokens, args.input_tokens_per_minute),
            (What::OutputTokens, args.output_tokens_per_minute),
        ];
        let bucket = |(what, per_minute): (What, Option<u32>)| {
            let per_minute = per_minute?;
            let capacity = (f64::from(per_minute) * args.burst.as_secs_f64() / 60.0).max(1.0);
            Some(Bucket { what, per_minute, capacity, level: capacity })
        };
        Self { buckets: all.into_iter().filter_map(bucket).collect(), filled_at: Duration::ZERO, hidden: args.hidden }
    }

    /// Takes what a request needs of all buckets, or nothing of any.
    ///
    /// # Errors
    /// When one has too little: that which takes longest to fill up.
    pub fn take(&mut self, need: Need, now: Duration) -> Result<(), Exceeded> {
        let passed = now.saturating_sub(self.filled_at).as_secs_f64();
        self.filled_at = now;
        for bucket in &mut self.buckets {
            bucket.level = (bucket.level + passed * bucket.per_second()).min(bucket.capacity);
        }
        let missing = |b: &Bucket| {
            // A request that is larger than the bucket is let in when it is full.
            let lacks = need.of(b.what).min(b.capacity) - b.level;
            let wait = Duration::from_secs_f64((lacks / b.per_second()).max(0.0));
            (lacks > 1e-9).then_some(Exceeded { what: b.what, per_minute: b.per_minute, wait })
        };
        if let Some(exceeded) = self.buckets.iter().filter_map(missing).max_by_key(|e| e.wait) {
            return Err(exceeded);
        }
        for bucket in &mut self.buckets {
            bucket.level -= need.of(bucket.what);
        }
        Ok(())
    }

    /// What the headers of an answer say of it, unless it is hidden.
    pub fn headers(&self, dialect: Dialect, now: Timestamp) -> Vec<(String, String)> {
        if self.hidden {
            return Vec::new();
        }
        let one = |b: &Bucket| {
            let name = b.what.name();
            let full_in = Duration::from_secs_f64((b.capacity - b.level).max(0.0) / b.per_second());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it is never below zero")]
            let remaining = (b.level.max(0.0) as u64).to_string();
            let values = [("limit", b.per_minute.to_string()), ("remaining", remaining)];
            match dialect {
                Dialect::Anthropic => {
                    let reset = DateTime::from_timestamp_micros(now.0).unwrap_or_default() + full_in;
                    let reset = ("reset", reset.to_rfc3339_opts(SecondsFormat::Secs, true));
                    let header = |(of, value): (&str, String)| (format!("anthropic-ratelimit-{name}-{of}"), value);
                    values.into_iter().chain([reset]).map(header).collect()
                }
                // It knows no tokens read and written apart.
                Dialect::OpenAi if matches!(b.what, What::InputTokens | What::OutputTokens) => Vec::new(),
                Dialect::OpenAi => {
                    let reset = ("reset", format!("{}ms", full_in.as_millis()));
                    let header = |(of, value): (&str, String)| (format!("x-ratelimit-{of}-{name}"), value);
                    values.into_iter().chain([reset]).map(header).collect()
                }
            }
        };
        self.buckets.iter().flat_map::<Vec<_>, _>(one).collect()
    }
}

impl Bucket {
    fn per_second(&self) -> f64 {
        f64::from(self.per_minute) / 60.0
    }
}

impl Need {
    fn of(self, what: What) -> f64 {
        match what {
            What::Requests => 1.0,
            What::Tokens => (self.input_tokens + self.output_tokens) as f64,
            What::InputTokens => self.input_tokens as f64,
            What::OutputTokens => self.output_tokens as f64,
        }
    }
}

impl What {
    /// As it stands in headers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Tokens => "tokens",
            Self::InputTokens => "input-tokens",
            Self::OutputTokens => "output-tokens",
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: MockLlm,
    }

    fn limits(line: &str) -> Limits {
        Limits::new(&Line::parse_from(format!("x {line}").split(' ')).args)
    }

    fn need(input_tokens: u64) -> Need {
        Need { input_tokens, output_tokens: 1 }
    }

    #[test]
    fn a_bucket_gives_what_it_holds_and_then_what_flows_in() {
        let mut limits = limits("--requests-per-minute 60 --burst 2s");
        let mut at = |ms| limits.take(need(1), Duration::from_millis(ms)).map_err(|e| e.wait.as_millis());
        assert_eq!([at(0), at(0), at(0)], [Ok(()), Ok(()), Err(1_000)]);
        assert_eq!([at(750), at(1_000), at(1_500)], [Err(250), Ok(()), Err(500)]);
        assert_eq!([at(60_000), at(60_000), at(60_000)], [Ok(()), Ok(()), Err(1_000)]);
    }

    #[test]
    fn what_takes_longest_to_fill_up_is_named_and_nothing_is_taken() {
        let mut limits = limits("--requests-per-minute 600 --input-tokens-per-minute 60 --burst 1s");
        assert_eq!(limits.take(need(1), Duration::ZERO), Ok(()));
        let exceeded = limits.take(need(1), Duration::from_millis(100)).unwrap_err();
        assert_eq!((exceeded.what, exceeded.wait.as_millis()), (What::InputTokens, 900));
        let said = limits.headers(Dialect::OpenAi, Timestamp(0));
        assert_eq!(said[1], ("x-ratelimit-remaining-requests".into(), "10".into()));
    }

    #[test]
    fn one_that_needs_more_than_ever_is_there_waits_for_a_full_bucket() {
        let mut limits = limits("--tokens-per-minute 60 --burst 10s");
        assert_eq!(limits.take(need(29), Duration::ZERO), Ok(()));
        assert_eq!(limits.take(need(0), Duration::ZERO).unwrap_err().wait.as_secs(), 21);
    }

    #[test]
    fn the_headers_are_those_of_the_service_and_are_not_there_when_hidden() {
        let mut shown = limits("--requests-per-minute 60");
        shown.take(need(1), Duration::ZERO).unwrap();
        let told =
            |dialect| shown.headers(dialect, Timestamp(1_000_000_000)).into_iter().map(|(n, v)| format!("{n}: {v}"));
        assert_eq!(
            told(Dialect::Anthropic).collect::<Vec<_>>(),
            [
                "anthropic-ratelimit-requests-limit: 60",
                "anthropic-ratelimit-requests-remaining: 59",
                "anthropic-ratelimit-requests-reset: 1970-01-01T00:16:41Z"
            ]
        );
        assert_eq!(told(Dialect::OpenAi).next_back().unwrap(), "x-ratelimit-reset-requests: 1000ms");
        assert_eq!(limits("--requests-per-minute 60 --hidden").headers(Dialect::Anthropic, Timestamp(0)), []);
    }
}
