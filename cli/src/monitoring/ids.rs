//! The ids of traces and spans: made of what a run and its steps are called, so that every process that goes on with a run makes the same.

use opentelemetry::trace::{SpanId, SpanKind, TraceId};
use opentelemetry_sdk::trace::{Sampler, SamplingDecision, ShouldSample};

/// The trace of a run.
pub fn of_run(workflow: &str, run: &str) -> TraceId {
    TraceId::from_bytes(first(&["run", workflow, run]))
}

/// The trace of a request that belongs to no run.
pub fn of_request(pipeline: &str, stage: &str, key: &str) -> TraceId {
    TraceId::from_bytes(first(&["request", pipeline, stage, key]))
}

/// The span of a step, by the name under which it is kept; that of the run has none.
pub fn of_step(trace: TraceId, step: &str) -> SpanId {
    SpanId::from_bytes(first(&["step", &trace.to_string(), step]))
}

/// The span of a question to a model.
pub fn of_question(trace: TraceId, key: &str, began: i64) -> SpanId {
    SpanId::from_bytes(first(&["question", &trace.to_string(), key, &began.to_string()]))
}

/// The span above that of a step: of the list or workflow around it, or of the run.
pub fn above(trace: TraceId, step: &str) -> SpanId {
    let around = match step.rfind(['/', '[']) {
        Some(at) => &step[..at],
        None => "",
    };
    of_step(trace, around)
}

/// Whether a trace is sent.
pub fn is_sampled(sampler: &Sampler, trace: TraceId) -> bool {
    let decided = sampler.should_sample(None, trace, "", &SpanKind::Internal, &[], &[]);
    decided.decision == SamplingDecision::RecordAndSample
}

/// The first bytes of the hash of some words, none of which can run into the next.
fn first<const N: usize>(words: &[&str]) -> [u8; N] {
    let mut hasher = blake3::Hasher::new();
    for word in words {
        hasher.update(&word.len().to_le_bytes()).update(word.as_bytes());
    }
    let mut bytes = [0; N];
    hasher.finalize_xof().fill(&mut bytes);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_stands_below_its_list_or_workflow_and_those_below_the_run() {
        let trace = of_run("w", "r");
        let parents = ["a", "a[3]", "a[3]/b", "a/b[0]", "a[3]/b/c"].map(|step| above(trace, step));
        assert_eq!(parents, ["", "a", "a[3]", "a/b", "a[3]/b"].map(|step| of_step(trace, step)));
    }

    #[test]
    fn what_is_sampled_is_a_share_of_all_runs_and_the_same_in_every_process() {
        let sampled = |share: f64| {
            let sampler = Sampler::TraceIdRatioBased(share);
            (0..4_000).filter(|n| is_sampled(&sampler, of_run("w", &n.to_string()))).collect::<Vec<_>>()
        };
        let (few, more) = (sampled(0.1), sampled(0.5));
        assert!(
            (300..500).contains(&few.len()) && (1_850..2_150).contains(&more.len()),
            "{} {}",
            few.len(),
            more.len()
        );
        assert!(few.iter().all(|run| more.contains(run)));
        assert_eq!((sampled(0.0).len(), sampled(1.0).len()), (0, 4_000));
    }
}
