//! What the steps of a workflow wait for.

use std::collections::BTreeSet;

use super::Chain;
use super::model::Work;

impl Chain {
    /// Whether a step may wait for somebody.
    pub(crate) fn can_wait(&self) -> bool {
        let waits = |work: &Work| {
            let for_somebody = work.config.0.waits().is_some_and(|wait| wait.signal.is_some() || wait.decision);
            for_somebody || work.workflow.as_ref().is_some_and(|nested| nested.chain.can_wait())
        };
        self.steps.iter().any(|step| waits(&step.work) || step.fallback.iter().any(waits))
    }

    /// The names of the signals that steps wait for, those of workflows within too, as they are written.
    pub fn signals(&self) -> BTreeSet<String> {
        let of = |work: &Work| -> BTreeSet<String> {
            let own = work.config.0.waits().and_then(|wait| wait.signal);
            let within = work.workflow.iter().flat_map(|nested| nested.chain.signals());
            own.into_iter().chain(within).collect()
        };
        self.steps.iter().flat_map(|step| std::iter::once(&step.work).chain(&step.fallback)).flat_map(of).collect()
    }
}
