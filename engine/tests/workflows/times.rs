//! How long steps took: from the beginning of the first attempt to the end of the last, whatever was tried in between.

use serde_json::Value;

use crate::kinds::work;

/// How long a step of the one run took, in milliseconds, and the run as a whole.
fn took(spec: &str, input: &str) -> (u64, u64) {
    let worked = work(spec, &[input], 1);
    let ms = |at: &str| worked.of(0, at).as_u64().unwrap_or_else(|| panic!("{at}: {:?}", worked.documents));
    (ms("/execution_metrics/steps/it/duration_ms"), ms("/execution_metrics/duration_ms"))
}

#[track_caller]
fn takes(ms: u64, step: &str) {
    let (step_ms, run_ms) = took(&format!("steps: [ {{ id: it, {step} }} ]"), r#"{"list": [1]}"#);
    assert!((ms..ms + 100).contains(&step_ms) && run_ms >= step_ms, "{step}: {step_ms} ms of {run_ms} ms, not {ms} ms");
}

const SLOW: &str = "say: { text: x, after: '2000', fail: permanent }, retry: { max_attempts: 1 }";

#[test]
fn what_was_tried_before_a_fallback_counts() {
    takes(2_000, &format!("{SLOW}, fallback: [ {{ set: {{ value: 1 }} }} ]"));
    takes(5_000, &format!("{SLOW}, fallback: [ {{ say: {{ text: y, after: '3000' }} }} ]"));
    takes(4_000, &format!("{SLOW}, fallback: [ {{ {SLOW} }} ], default: none"));
    takes(
        2_000,
        &format!("{SLOW}, fallback: [ {{ workflow: {{ spec: {{ steps: [ {{ id: a, set: {{ value: 1 }} }} ] }} }} }} ]"),
    );
    takes(2_000, &format!("for_each: {{ in: '${{input.list}}' }}, {SLOW}, fallback: [ {{ set: {{ value: 1 }} }} ]"));
}

#[test]
fn all_rounds_and_the_time_between_them_count() {
    let rounds = "repeat: { until: '${.it.rounds >= 3}', max_iterations: 9, every: 5s }";
    takes(10_000, &format!("set: {{ value: 1 }}, {rounds}"));
    takes(16_000, &format!("say: {{ text: x, after: '2000' }}, {rounds}"));
    takes(
        6_000,
        &format!("{rounds}, workflow: {{ spec: {{ steps: [ {{ id: a, say: {{ text: x, after: '2000' }} }} ] }} }}")
            .replace(", every: 5s", ""),
    );
    // The last round fails.
    let fails = "say: { text: x, after: '2000', fail: '${. | if .it.rounds == 1 then \"permanent\" else \"\" end}' }";
    takes(9_000, &format!("{fails}, {rounds}, retry: {{ max_attempts: 1 }}"));
}

#[test]
fn a_round_that_fails_leaves_what_the_ones_before_have_cost() {
    let spec = "steps: [ { id: it, repeat: { until: '${. | false}', max_iterations: 9 }, retry: { max_attempts: 1 }, \
                say: { text: x, fail: '${. | if .it.rounds == 2 then \"permanent\" else \"\" end}' } } ]";
    let worked = work(spec, &["{}"], 1);
    let step = worked.of(0, "/execution_metrics/steps/it");
    assert_eq!((&step["status"], &step["attempts"], &step["usage"]["usd"]), (&"FAILED".into(), &3.into(), &1.0.into()));
    assert_eq!(worked.of(0, "/workflow_results/it"), Value::Null);
}

#[test]
fn the_gates_of_a_step_count() {
    takes(3_000, "set: { value: 1 }, quality_gates: [ { say: { text: x, after: '3000' } } ]");
    let fails = "{ say: { text: x, after: '3000', fail: permanent }, retry: { max_attempts: 1 } }";
    takes(5_000, &format!("say: {{ text: x, after: '2000' }}, quality_gates: [ {fails} ], default: none"));
}
