//! What a spec is made of, in figures: its mode, how complex it is, and how much of it can run side by side.

use serde::Serialize;

use crate::journal::Durability;
use crate::spec::{Chain, Loaded, Mode, Pipeline, Spec};

/// What `bourn plan` says of a spec beside its plan.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Analysis {
    /// How it is run.
    pub mode: Mode,
    /// Why so.
    pub mode_reason: String,
    /// How complex it is.
    pub complexity: Complexity,
    /// One after the other and no branch.
    pub is_sequential: bool,
    /// The share of the steps or stages that is not on the longest way: 0 when nothing can run side by side.
    pub parallel_opportunities: f64,
    /// What becomes of each wish under `optimization`.
    pub optimizations: Vec<Wish>,
}

/// A figure from 0 to 10, and what it is made of. The same spec has the same figure always.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
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
    let (reads, branches, optimizations) = match &loaded.spec {
        Spec::Pipeline(spec) => (pipeline_edges(spec), pipeline_branches(spec), Vec::new()),
        Spec::Chain(spec) => {
            let reads: Vec<_> = spec.steps.iter().map(|s| s.follows.clone()).collect();
            let wishes = wishes(spec, parallel(&reads));
            (reads, spec.steps.iter().filter(|s| s.condition.is_some()).count(), wishes)
        }
    };
    let depths = depths(&reads);
    let longest = depths.iter().copied().max().unwrap_or(0);
    let width = (1..=longest).map(|d| depths.iter().filter(|x| **x == d).count()).max().unwrap_or(0);
    let meets = reads.iter().filter(|r| r.len() > 1).count();
    let part = |each: f64, count: usize, most: f64| (each * count as f64).min(most);
    let mut complexity = Complexity {
        total: 0.0,
        size: part(0.3, reads.len(), 3.0),
        depth: part(0.3, longest, 3.0),
        width: part(0.5, width.saturating_sub(1), 2.0),
        branches: part(0.5, branches + meets, 2.0),
    };
    complexity.total = complexity.size + complexity.depth + complexity.width + complexity.branches;
    Analysis {
        mode: loaded.choice.mode,
        mode_reason: loaded.choice.reason.clone(),
        complexity,
        is_sequential: longest == reads.len(),
        parallel_opportunities: parallel(&reads),
        optimizations,
    }
}

fn parallel(reads: &[Vec<usize>]) -> f64 {
    let longest = depths(reads).into_iter().max().unwrap_or(0);
    if reads.is_empty() { 0.0 } else { 1.0 - longest as f64 / reads.len() as f64 }
}

/// How many stand on the longest way to each, itself included.
pub(super) fn depths(reads: &[Vec<usize>]) -> Vec<usize> {
    let mut depths = vec![1; reads.len()];
    // The longest way grows by at most one each round, and no way is longer than there are nodes.
    for _ in reads {
        for (at, from) in reads.iter().enumerate() {
            depths[at] = 1 + from.iter().map(|f| depths[*f]).max().unwrap_or(0);
        }
    }
    depths
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
