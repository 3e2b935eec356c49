//! What a spec is made of, in figures: its mode, how complex it is, and how much of it can run side by side.

use serde::Serialize;

use crate::journal::Durability;
use crate::spec::complexity::{Complexity, ModeThresholds, depths, follows, parallel};
use crate::spec::{Chain, Loaded, Mode, Pipeline, Spec};

/// What `bourn plan` says of a spec beside its plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// How it is run.
    pub mode: Mode,
    /// Why so.
    pub mode_reason: String,
    /// By which figures, of steps.
    pub mode_rule: Option<ModeRule>,
    /// How complex it is.
    pub complexity: Complexity,
    /// One after the other and no branch.
    pub is_sequential: bool,
    /// The share of the steps or stages that is not on the longest way: 0 when nothing can run side by side.
    pub parallel_opportunities: f64,
    /// What becomes of each wish under `optimization`.
    pub optimizations: Vec<Wish>,
}

/// What the mode of steps was chosen by, where neither `type` nor a key of the spec says it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct ModeRule {
    /// The complexity that was compared.
    pub complexity: f64,
    /// The share of the steps that can run side by side.
    pub parallel: f64,
    /// From which figures on steps are a flow or a swarm.
    pub thresholds: ModeThresholds,
}

/// A wish under `optimization`, and what becomes of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Wish {
    /// The key.
    pub name: &'static str,
    /// Whether it has an effect.
    pub applied: bool,
    /// Why, or why not.
    pub reason: String,
}

/// What a spec is made of.
pub fn analyze(loaded: &Loaded) -> Analysis {
    let (reads, branches, optimizations, rule) = match &loaded.spec {
        Spec::Pipeline(spec) => (pipeline_edges(spec), pipeline_branches(spec), Vec::new(), None),
        Spec::Chain(spec) => {
            let reads = follows(spec);
            let (wishes, thresholds) = (wishes(spec, parallel(&reads)), spec.mode_thresholds);
            let (complexity, parallel) = (Complexity::of_chain(spec).total, parallel(&reads));
            let rule = ModeRule { complexity, parallel, thresholds };
            (reads, spec.steps.iter().filter(|s| s.condition.is_some()).count(), wishes, Some(rule))
        }
    };
    Analysis {
        mode: loaded.choice.mode,
        mode_reason: loaded.choice.reason.clone(),
        mode_rule: rule,
        complexity: Complexity::of(&reads, branches),
        is_sequential: depths(&reads).into_iter().max().unwrap_or(0) == reads.len(),
        parallel_opportunities: parallel(&reads),
        optimizations,
    }
}

fn pipeline_edges(spec: &Pipeline) -> Vec<Vec<usize>> {
    let place = |id: &str| spec.stages.iter().position(|s| s.id == id);
    spec.stages.iter().map(|s| s.from.iter().filter_map(|f| place(&f.id)).collect()).collect()
}

fn pipeline_branches(spec: &Pipeline) -> usize {
    let from = spec.stages.iter().flat_map(|s| &s.from).chain(spec.sinks.iter().flat_map(|s| &s.from));
    from.filter(|f| f.port.is_some()).count()
}

/// What is answered from the cache.
fn cached(spec: &Chain) -> Option<Wish> {
    let count = spec.steps.iter().filter(|step| step.cache.is_some()).count();
    let of = if spec.optimization.cache { "change nothing" } else { "say so" };
    let reason = match count {
        0 => "no step changes nothing".to_owned(),
        1 => format!(
            "the step that {} is answered from there",
            if spec.optimization.cache { "changes nothing" } else { "says so" }
        ),
        _ => format!("the {count} steps that {of} are answered from there"),
    };
    (count > 0 || spec.optimization.cache).then_some(Wish { name: "cache", applied: count > 0, reason })
}

fn wishes(spec: &Chain, parallel: f64) -> Vec<Wish> {
    let wish = &spec.optimization;
    let later = |name, wished: bool| {
        wished.then(|| Wish { name, applied: false, reason: "comes with a later version of Bourn".into() })
    };
    let side_by_side = match (wish.parallel_where_possible, parallel > 0.0) {
        (true, true) => (true, "some steps do not need each other"),
        (true, false) => (false, "each step needs the one before it"),
        (false, _) => (false, "the spec says no: steps run one after the other"),
    };
    let first = Wish { name: "parallel_where_possible", applied: side_by_side.0, reason: side_by_side.1.into() };
    let others = [
        wish.adaptive_thinking.then(|| Wish {
            name: "adaptive_thinking",
            applied: true,
            reason: "a model that is not told its `effort` thinks as hard as its task looks".into(),
        }),
        later("auto_tune", wish.auto_tune),
        cached(spec),
        later("batch_api", wish.batch_api),
        later("prompt_cache", wish.prompt_cache),
    ];
    let limit = Wish {
        name: "max_concurrency",
        applied: true,
        reason: format!("at most {} requests of each step at once", wish.max_concurrency),
    };
    let kept = Wish {
        name: "state_persistence",
        applied: wish.state_persistence,
        reason: match (wish.state_persistence, spec.durability) {
            (false, _) => "the spec says no: a run that is cut off is lost".into(),
            (true, Durability::Sync) => "what a step gave is in the journal before the next one starts".into(),
            (true, Durability::Async) => "what a step gave is in the journal soon, and before its run ends".into(),
            (true, Durability::Exit) => "what steps gave is in the journal when their run ends".into(),
        },
    };
    [first, limit, kept].into_iter().chain(others.into_iter().flatten()).collect()
}
