//! What a workflow is to reach: measured, never estimated.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::data::units::{Interval, Rate};

/// What the runs of one command are to reach together. A target that is missed ends the command with exit code 3.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Targets {
    /// The time that at least half of the runs take at most, from the beginning of their first step to the end of their last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p50: Option<Interval>,
    /// The same for 95 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p95: Option<Interval>,
    /// The same for 99 of 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub p99: Option<Interval>,
    /// The least share of runs that complete, from 0 to 1. With it, a run that failed is no failure of the command by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 1))]
    pub success_rate: Option<f64>,
    /// The least rate at which runs end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub throughput: Option<Rate>,
    /// The most that all runs cost together, in US dollars.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub cost_usd: Option<f64>,
    /// The most tokens that all runs read and write together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
}

impl Targets {
    /// The names of what can be a target.
    pub const NAMES: [&str; 7] = ["p50", "p95", "p99", "success_rate", "throughput", "cost_usd", "tokens"];

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// These, with what `others` say instead.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self {
            p50: others.p50.or(self.p50),
            p95: others.p95.or(self.p95),
            p99: others.p99.or(self.p99),
            success_rate: others.success_rate.or(self.success_rate),
            throughput: others.throughput.or(self.throughput),
            cost_usd: others.cost_usd.or(self.cost_usd),
            tokens: others.tokens.or(self.tokens),
        }
    }
}
