//! How complex a workflow is, in figures, and from which figures on it counts as another mode.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::mode::{Choice, Mode};
use super::model::Chain;

/// A figure from 0 to 10, and what it is made of. The same spec has the same figure always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Complexity {
    /// The sum of the parts, at most 10.
    pub total: f64,
    /// 0.3 for each step or stage, at most 3.
    pub size: f64,
    /// 0.3 for each one on the longest way, at most 3.
    pub depth: f64,
    /// 0.5 for each one beyond the first that can run at the same time, at most 2.
    pub width: f64,
    /// 0.5 for each condition, port or place where branches meet, at most 2.
    pub branches: f64,
}

impl Complexity {
    /// That of steps or stages, by what each comes behind, and of so many conditions and ports.
    pub fn of(follows: &[Vec<usize>], branches: usize) -> Self {
        let depths = depths(follows);
        let longest = depths.iter().copied().max().unwrap_or(0);
        let width = (1..=longest).map(|d| depths.iter().filter(|x| **x == d).count()).max().unwrap_or(0);
        let meets = follows.iter().filter(|f| f.len() > 1).count();
        #[expect(clippy::cast_precision_loss, reason = "specs are small")]
        let part = |each: f64, count: usize, most: f64| (each * count as f64).min(most);
        let size = part(0.3, follows.len(), 3.0);
        let depth = part(0.3, longest, 3.0);
        let width = part(0.5, width.saturating_sub(1), 2.0);
        let branches = part(0.5, branches + meets, 2.0);
        Self { total: size + depth + width + branches, size, depth, width, branches }
    }

    /// That of a workflow.
    pub fn of_chain(chain: &Chain) -> Self {
        let conditions = chain.steps.iter().filter(|step| step.condition.is_some()).count();
        Self::of(&follows(chain), conditions)
    }
}

/// What each step comes behind.
pub fn follows(chain: &Chain) -> Vec<Vec<usize>> {
    chain.steps.iter().map(|step| step.follows.clone()).collect()
}

/// How many stand on the longest way to each, itself included.
pub fn depths(follows: &[Vec<usize>]) -> Vec<usize> {
    let mut depths = vec![1; follows.len()];
    // The longest way grows by at most one each round, and no way is longer than there are nodes.
    for _ in follows {
        for (at, from) in follows.iter().enumerate() {
            depths[at] = 1 + from.iter().map(|f| depths[*f]).max().unwrap_or(0);
        }
    }
    depths
}

/// The share of them that is not on the longest way: 0 when nothing can run side by side.
pub fn parallel(follows: &[Vec<usize>]) -> f64 {
    let longest = depths(follows).into_iter().max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "specs are small")]
    if follows.is_empty() { 0.0 } else { 1.0 - longest as f64 / follows.len() as f64 }
}

/// From which figures on steps count as another mode than a chain, where `type` does not say it. The mode is what runs are found by
/// (`workflow_type`); it changes nothing of how they run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ModeThresholds {
    /// The least complexity of a swarm of steps, from 0 to 10.
    #[schemars(range(min = 0, max = 10))]
    pub swarm_complexity: f64,
    /// The least share of the steps that can run side by side in one, from 0 to 1.
    #[schemars(range(min = 0, max = 1))]
    pub swarm_parallel: f64,
    /// The least complexity of a flow that chooses no ways, from 0 to 10.
    #[schemars(range(min = 0, max = 10))]
    pub flow_complexity: f64,
}

impl Default for ModeThresholds {
    fn default() -> Self {
        Self { swarm_complexity: 8.0, swarm_parallel: 0.6, flow_complexity: 5.0 }
    }
}

impl ModeThresholds {
    /// The mode of steps that would be `choice` by the keys of the spec: what is rarer is asked first.
    pub(super) fn choose(self, chain: &Chain, choice: Choice) -> Choice {
        let Self { swarm_complexity, swarm_parallel, flow_complexity } = self;
        let (total, parallel) = (Complexity::of_chain(chain).total, parallel(&follows(chain)));
        if total >= swarm_complexity && parallel >= swarm_parallel {
            let reason = format!(
                "complexity {total:.1} is at least {swarm_complexity}, and {parallel:.2} of the steps side by side at least {swarm_parallel}"
            );
            return Choice { mode: Mode::Swarm, reason };
        }
        if choice.mode == Mode::Chain && total >= flow_complexity {
            let reason = format!("complexity {total:.1} is at least {flow_complexity}");
            return Choice { mode: Mode::Flow, reason };
        }
        choice
    }
}
