//! What a step does when it has failed, in the order that the spec says, and a person among it.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory, RunState};
use bourn_engine::spec::load;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::Runs;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, registry, run};

const SPEC: &str = "
steps:
  - id: each
    for_each: { in: '${input}', as: how }
    command: say
    with: { text: 'said ${how}', fail: '${how}' }
    retry: { max_attempts: 2, initial_interval: 1ms }
    fallback: [ { with: { text: 'other ${how}', fail: '${.how | select(. == \"transient\") // \"\"}' } } ]
    on_failure: [retry, alternative_path, { escalate: { timeout: 1h } }]
  - { id: end, command: say, args: '${.each.results | join(\", \")}' }
";

fn pass(spec: &str, journal: &Memory) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&[r#"["", "permanent", "transient"]"#])));
    let worked = run(spec, runs.with_journal(Arc::new(journal.clone()), 1), 1);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

/// Sends what somebody has decided about an element.
fn decide(journal: &Memory, element: &str, data: &str) {
    let mut runs = journal.runs();
    let run = runs.get_mut(&0).unwrap();
    let name = History::signal(&History::decision(element));
    run.history.0.insert(name, RawValue::from_string(data.to_owned()).unwrap());
}

#[test]
fn what_fails_is_tried_again_then_another_way_and_then_a_person_decides() {
    let journal = Memory::default();
    let (first, calls) = pass(SPEC, &journal);
    assert_eq!(first.of(0, "/status"), "WAITING");
    // The second element fails for good at once, and its other way works; the third fails twice, and so does its other way.
    assert_eq!(calls, 1 + 2 + 4);
    let wait = journal.runs()[&0].history.0[&History::wait("each[2]")].to_string();
    assert!(wait.contains(r#""decide":"after 2 attempts: busy""#), "{wait}");
    // What has failed is not done again by a passage in which nothing has come.
    let (again, calls) = pass(SPEC, &journal);
    assert_eq!((again.of(0, "/status"), calls), (json!("WAITING"), 0));
    decide(&journal, "each[2]", r#""as I say""#);
    let (last, calls) = pass(SPEC, &journal);
    assert_eq!(last.of(0, "/final_output"), "said , other permanent, as I say");
    assert_eq!(calls, 1, "the step behind it alone");
    assert_eq!(journal.runs()[&0].state, RunState::Completed);
}

#[test]
fn a_refusal_is_the_failure_of_the_step_and_what_it_has_for_that_comes_last() {
    let spec = SPEC.replace("{ escalate: { timeout: 1h } }]", "escalate, graceful_degradation]\n    default: none");
    for (spec, status, output) in
        [(SPEC, "FAILED", json!(null)), (spec.as_str(), "COMPLETED", json!("said , other permanent, none"))]
    {
        let journal = Memory::default();
        pass(spec, &journal);
        decide(&journal, "each[2]", r#"{"approved": false, "reason": "no"}"#);
        let (refused, _) = pass(spec, &journal);
        assert_eq!((refused.of(0, "/status"), refused.of(0, "/final_output")), (json!(status), output));
        if status == "FAILED" {
            assert_eq!(
                refused.of(0, "/error_analysis/detail"),
                "1 of 3 items failed; item 2: after 2 attempts: busy; refused: no"
            );
            // Tried again, it asks again.
            let mut runs = journal.runs();
            let run = runs.get_mut(&0).unwrap();
            run.state = RunState::Running;
            run.history.0.retain(|name, _| name.starts_with('@') || name == "each[0]" || name == "each[1]");
            run.history.forget_open();
            drop(runs);
            let (again, calls) = pass(spec, &journal);
            assert_eq!((again.of(0, "/status"), calls), (json!("WAITING"), 4));
        }
    }
}

#[test]
fn the_order_that_is_said_holds() {
    let first = "
steps:
  - id: a
    command: say
    with: { text: a, fail: permanent }
    fallback: [ { with: { text: other, fail: '' } } ]
    on_failure: [escalate, alternative_path]
";
    let journal = Memory::default();
    let (asks, calls) = pass(first, &journal);
    assert_eq!((asks.of(0, "/status"), calls), (json!("WAITING"), 1));
    decide(&journal, "a", r#"{"approved": false}"#);
    let (other, calls) = pass(first, &journal);
    assert_eq!((other.of(0, "/final_output"), calls), (json!("other"), 1));
    let never = "steps: [ { id: a, command: say, with: { text: a, fail: transient }, on_failure: [escalate] } ]";
    assert_eq!(pass(never, &Memory::default()).1, 1, "without `retry` nothing is tried again");
}

#[test]
fn a_decision_that_does_not_come_in_time_is_none() {
    let spec = "steps: [ { id: a, command: say, with: { text: a, fail: permanent }, on_failure: [ { escalate: { timeout: 5s } } ] } ]";
    let journal = Memory::default();
    assert_eq!(pass(spec, &journal).0.of(0, "/status"), "WAITING");
    let name = History::wait("a");
    let mut wait: Value = serde_json::from_str(journal.runs()[&0].history.0[&name].get()).unwrap();
    // Its time is over.
    wait["due"] = json!(0);
    journal.runs().get_mut(&0).unwrap().history.0.insert(name, RawValue::from_string(wait.to_string()).unwrap());
    let (late, calls) = pass(spec, &journal);
    assert_eq!(late.of(0, "/error_analysis/detail"), "no such luck; nobody has decided about it in time");
    assert_eq!((late.of(0, "/error_analysis/class"), calls), (json!("timeout"), 0));
}

#[test]
fn an_order_that_does_not_fit_the_step_is_told() {
    let told = |step: &str| {
        let spec = format!("steps: [ {{ id: a, command: say, args: x, {step} }} ]");
        let told = load(&spec, "work.yaml", &registry(), &Simulation::new(1).env()).err().unwrap_or_default();
        told.iter().map(|d| d.message.clone()).collect::<Vec<_>>()
    };
    let fallback = "fallback: [ { args: y } ]";
    assert_eq!(
        told(&format!("{fallback}, default: 1, on_failure: [retry, alternative_path, graceful_degradation]")),
        [""; 0]
    );
    // The seed's order: what has nothing to do is passed over.
    assert_eq!(told("on_failure: [retry, alternative_path, graceful_degradation, escalate]"), [""; 0]);
    assert_eq!(
        told("on_failure: [escalate, retry]"),
        ["`retry` comes first: what fails is tried again before anything else"]
    );
    assert_eq!(told("on_failure: [escalate, escalate]"), ["this is said already"]);
    assert_eq!(
        told("default: 1, on_failure: [graceful_degradation, escalate]"),
        ["this is never done: `default` always gives something"]
    );
    assert_eq!(
        told(&format!("{fallback}, default: 1, retry: {{ max_attempts: 2 }}, on_failure: [escalate]")),
        [
            "`fallback` is never used: it is not in `on_failure`",
            "`default` is never used: it is not in `on_failure`",
            "`retry` is never used: it is not in `on_failure`",
        ]
    );
    assert!(told("on_failure: [escalte]")[0].contains("escal"), "{:?}", told("on_failure: [escalte]"));
}
