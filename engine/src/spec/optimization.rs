//! `optimization`: what may be done to make a workflow faster or cheaper.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What may be done to make a workflow faster or cheaper. Nothing here changes what comes out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[allow(clippy::struct_excessive_bools, reason = "switches of the spec, each on its own")]
pub struct Optimization {
    /// Steps that do not depend on each other run at the same time.
    pub parallel_where_possible: bool,
    /// Steps that do not say what they change change nothing that another one touches. Without it they are done one after the other,
    /// unless they say `stateless: true`.
    pub assume_stateless: bool,
    /// How hard a model thinks follows how hard the task is.
    pub adaptive_thinking: bool,
    /// What steps gave is kept in a journal, over a crash; without it a run that is cut off is lost.
    pub state_persistence: bool,
    /// Limits follow what is measured.
    pub auto_tune: bool,
    /// Steps that change nothing are answered from the cache where the same was asked before, as if each said `cache`.
    pub cache: bool,
    /// Requests go to the cheaper batch interface of a provider.
    pub batch_api: bool,
    /// Prompts that begin alike are kept by the provider.
    pub prompt_cache: bool,
    /// The most requests in flight in each step.
    #[schemars(range(min = 1, max = 65536))]
    pub max_concurrency: usize,
}

impl Default for Optimization {
    fn default() -> Self {
        Self {
            parallel_where_possible: true,
            assume_stateless: true,
            adaptive_thinking: false,
            state_persistence: true,
            auto_tune: false,
            cache: false,
            batch_api: false,
            prompt_cache: false,
            max_concurrency: 10,
        }
    }
}
