//! What bounds a call: the `limits:` block of every call-like stage.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::Budget;
use crate::data::units::{Interval, Rate};

/// What bounds the requests of a stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// The most rows in one request.
    #[schemars(range(min = 1, max = 8192))]
    pub rows: usize,
    /// The most requests waiting for their answer at once, in each lane.
    #[schemars(range(min = 1, max = 65536))]
    pub in_flight: usize,
    /// Whether answers leave in the order of their requests.
    pub order: Order,
    /// How long one attempt may take.
    pub timeout: Interval,
    /// The most requests started in a length of time, retries included: `100/s`.
    pub rate: Option<Rate>,
    /// The most requests in a minute, retries included.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub requests_per_minute: Option<u32>,
    /// The most tokens of a model in a minute, read and written together.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub tokens_per_minute: Option<u64>,
    /// The most tokens in a minute that a model reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub input_tokens_per_minute: Option<u64>,
    /// The most tokens in a minute that a model writes.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1))]
    pub output_tokens_per_minute: Option<u64>,
    /// Whether as much is sent as the other side takes, at most as the rest says: by its headers, by what it refuses with 429,
    /// and by how many requests in flight go well. Stages that ask models do so unless `false` is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub adaptive: Option<bool>,
    /// What may be spent; a stage that asks models counts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Box<Budget>>,
    /// When to try again.
    pub retry: Retries,
}

/// What bounds the time of a step beside that of an attempt (`start_to_close`): the words are Temporal's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    /// How long it may wait until it is asked first.
    pub schedule_to_start: Option<Duration>,
    /// How long all attempts may take together, with the waits before and between them.
    pub schedule_to_close: Option<Duration>,
    /// How long an attempt may be silent.
    pub heartbeat: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 1,
            in_flight: 64,
            order: Order::Kept,
            timeout: Interval(Duration::from_secs(30)),
            rate: None,
            requests_per_minute: None,
            tokens_per_minute: None,
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            adaptive: None,
            budget: None,
            retry: Retries::default(),
        }
    }
}

impl Limits {
    /// The `timeout` of what takes as long as it takes.
    pub const NO_TIMEOUT: Interval = Interval(Duration::from_hours(24 * 365 * 100));

    /// Whether requests wait for more than a rate: for buckets of tokens, or for what the other side can take.
    pub fn are_adaptive(&self) -> bool {
        let minutes = self.requests_per_minute.is_some()
            || self.tokens_per_minute.is_some()
            || self.input_tokens_per_minute.is_some()
            || self.output_tokens_per_minute.is_some();
        minutes || self.adaptive == Some(true)
    }
}

/// Limits that several stages keep together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct SharedLimits {
    /// The most requests started in a length of time.
    pub rate: Option<Rate>,
    /// The most tokens in a minute, read and written together.
    pub tokens_per_minute: Option<u64>,
    /// The most tokens in a minute that models read.
    pub input_tokens_per_minute: Option<u64>,
    /// The most tokens in a minute that models write.
    pub output_tokens_per_minute: Option<u64>,
}

impl SharedLimits {
    /// The limits of a stage that keeps these: they take the place of its own.
    #[must_use]
    pub fn of(&self, stage: Limits) -> Limits {
        Limits {
            rate: self.rate.or(stage.rate),
            tokens_per_minute: self.tokens_per_minute.or(stage.tokens_per_minute),
            input_tokens_per_minute: self.input_tokens_per_minute.or(stage.input_tokens_per_minute),
            output_tokens_per_minute: self.output_tokens_per_minute.or(stage.output_tokens_per_minute),
            ..stage
        }
    }
}

impl From<Rate> for SharedLimits {
    fn from(rate: Rate) -> Self {
        Self { rate: Some(rate), ..Self::default() }
    }
}

/// The order of answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// That of the requests; a slow one holds up those behind it.
    #[default]
    Kept,
    /// As they come.
    Free,
}

/// When a failed request is tried again: capped exponential backoff with full jitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retries {
    /// Attempts in all, the first included; 1 means no retry.
    #[schemars(range(min = 1))]
    pub max_attempts: u32,
    /// The wait before the second attempt.
    pub initial_interval: Interval,
    /// By what the wait grows from attempt to attempt.
    #[schemars(range(min = 1))]
    pub backoff_coefficient: f32,
    /// The longest wait, unless the other side asks for a longer one.
    pub max_interval: Interval,
    /// Whether the waits are spread at random, so that many clients do not come back at once.
    pub jitter: bool,
    /// Error classes that are never tried again: `validation`, `timeout`, ….
    pub non_retryable: Vec<String>,
}

impl Default for Retries {
    fn default() -> Self {
        Self {
            max_attempts: 3,
            initial_interval: Interval(Duration::from_millis(200)),
            backoff_coefficient: 2.0,
            max_interval: Interval(Duration::from_mins(1)),
            jitter: true,
            non_retryable: Vec::new(),
        }
    }
}
