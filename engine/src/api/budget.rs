//! What may be spent: the `budget:` of a job, and of a stage that asks models.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be spent. With a journal it is counted over restarts, until the job has ended well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// The most US dollars, by the stages' `price`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub usd: Option<f64>,
    /// The most tokens of models, read and written together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// What happens to a request that may cost more than is left.
    #[serde(default)]
    pub on_exceeded: OnExceeded,
}

/// What happens when a budget is spent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnExceeded {
    /// The job fails; of a workflow each run that may need more.
    #[default]
    Fail,
    /// The job stops, and goes on from its checkpoint, or the journal of a workflow, when it is started with a larger budget.
    Pause,
    /// Rows are no longer asked about: they pass with a null as their answer, and are counted.
    Degrade,
}
