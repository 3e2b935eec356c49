//! What bounds a call: the `limits:` block of every call-like stage.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
    /// When to try again.
    pub retry: Retries,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rows: 1,
            in_flight: 64,
            order: Order::Kept,
            timeout: Interval(Duration::from_secs(30)),
            rate: None,
            retry: Retries::default(),
        }
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
