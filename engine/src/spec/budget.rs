//! `budget` of a workflow: what all of its runs may spend together, and what each of them may.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::api::{Budget, OnExceeded};

/// What runs may spend on models.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BudgetKeys {
    /// The most US dollars of all runs of a job together, by the stages' `price`.
    #[schemars(range(min = 0))]
    usd: Option<f64>,
    /// The most tokens of models, read and written, of all runs of a job together.
    tokens: Option<u64>,
    /// What happens to a request that may cost more than is left: each run that may need more fails, the job pauses, or the step gives its
    /// `default`.
    #[serde(default)]
    on_exceeded: OnExceeded,
    /// What each run may spend, over restarts, with all that is done in it. `on_exceeded: fail` fails the run, `pause` pauses it, `degrade` gives
    /// the `default` of its steps.
    per_run: Option<Budget>,
}

impl BudgetKeys {
    /// What all runs may spend together.
    pub(super) fn of_job(self) -> Option<Budget> {
        let is_said = self.usd.is_some() || self.tokens.is_some() || self.per_run.is_none();
        is_said.then_some(Budget { usd: self.usd, tokens: self.tokens, on_exceeded: self.on_exceeded })
    }

    /// What each of them may.
    pub(super) fn of_run(self) -> Option<Budget> {
        self.per_run
    }
}
