//! What was paid for answers that were no good belongs to their steps, and to what is spent, in every process that goes on.

use std::sync::Arc;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory, Spending};
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{Worked, lines_of, run};

const SCHEMA: &str = "output: { schema: { type: object, required: [n] } }";

/// One step of which each answer costs 3 tokens in and 2 out.
fn pass(step: &str, line: &str, journal: &Memory, seed: u64) -> Worked {
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&[line]))).with_journal(Arc::new(journal.clone()), 1);
    run(&format!("steps: [ {{ id: asked, {step} }} ]"), runs, seed)
}

fn cost(worked: &Worked) -> (Value, Value) {
    let cost = |of: &str| worked.of(0, &format!("/execution_metrics/{of}/input_tokens"));
    (cost("steps/asked/usage"), cost("usage"))
}

fn spent(journal: &Memory) -> u64 {
    Spending::of(&journal.runs()[&0].history).unwrap().total().input_tokens
}

#[test]
fn a_step_costs_what_all_its_attempts_did_however_it_ends() {
    let bad = "say: { text: no }, retry: { max_attempts: 2, initial_interval: 1ms }";
    let good = r#"{ say: { text: "{\"n\": 1}" } }"#;
    let cases = [
        ("say: { text: no, better: \"{\\\"n\\\": 7}\" }".to_owned(), "COMPLETED", 2),
        (bad.to_owned(), "FAILED", 2),
        (format!("{bad}, default: {{ n: 0 }}"), "COMPLETED", 2),
        (format!("{bad}, fallback: [ {good} ]"), "COMPLETED", 3),
        // The first fallback keeps the retries of its step.
        (format!("{bad}, fallback: [ {{ say: {{ text: other }} }}, {good} ]"), "COMPLETED", 5),
    ];
    for (step, status, answers) in cases {
        let journal = Memory::default();
        let worked = pass(&format!("{step}, {SCHEMA}"), "{}", &journal, 1);
        let told = (worked.of(0, "/status"), cost(&worked), spent(&journal));
        assert_eq!(told, (json!(status), (json!(3 * answers), json!(3 * answers)), 3 * answers), "{step}");
    }
}

#[test]
fn what_a_gate_has_blocked_was_paid_for_and_so_was_each_element_asked_again() {
    let gate = "say: { text: bad }, quality_gates: [ { condition: '${ . == \"good\" }' } ], fallback: [ { say: { text: good } } ]";
    let worked = pass(gate, "{}", &Memory::default(), 1);
    assert_eq!((worked.of(0, "/status"), cost(&worked)), (json!("COMPLETED"), (json!(6), json!(6))));
    let judged = "say: { text: bad }, quality_gates: [ { say: { text: '0' }, at_least: 1 } ], fallback: [ { say: { text: good } } ]";
    let worked = pass(judged, "{}", &Memory::default(), 1);
    assert_eq!((worked.of(0, "/status"), cost(&worked)), (json!("FAILED"), (json!(12), json!(12))));
    let each = "for_each: { in: '${input}' }, say: { text: no, better: '{\"n\": ${item}}' }";
    let journal = Memory::default();
    let worked = pass(&format!("{each}, {SCHEMA}"), "[1, 2]", &journal, 1);
    assert_eq!((worked.of(0, "/status"), cost(&worked)), (json!("COMPLETED"), (json!(12), json!(12))));
    assert_eq!(spent(&journal), 12);
}

#[test]
fn a_process_that_goes_on_knows_what_the_one_before_has_paid() {
    let later =
        format!("say: {{ text: no, better: \"{{\\\"n\\\": 7}}\" }}, retry: {{ initial_interval: 600s }}, {SCHEMA}");
    let journal = Memory::default();
    let first = pass(&later, "{}", &journal, 1);
    assert_eq!((first.of(0, "/status"), cost(&first), spent(&journal)), (json!("WAITING"), (json!(3), json!(3)), 3));
    let again = pass(&later, "{}", &journal, 2);
    assert_eq!((again.of(0, "/status"), cost(&again), spent(&journal)), (json!("WAITING"), (json!(3), json!(3)), 3));
    // Whoever comes when its time is over, as a clock that starts there says.
    let due = |data: &str| {
        let mut note: Value = serde_json::from_str(data).unwrap();
        note["due"] = json!(0);
        serde_json::value::to_raw_value(&note).unwrap()
    };
    let name = History::backoff("asked");
    {
        let mut runs = journal.runs();
        let history = &mut runs.get_mut(&0).unwrap().history.0;
        let noted = due(history[&name].get());
        history.insert(name, noted);
    }
    let last = pass(&later, "{}", &journal, 3);
    assert_eq!((last.of(0, "/status"), cost(&last), spent(&journal)), (json!("COMPLETED"), (json!(6), json!(6)), 6));
}

#[test]
fn what_was_paid_is_noted_also_where_the_next_attempt_comes_at_once() {
    let step =
        format!("say: {{ text: no, better: \"{{\\\"n\\\": 7}}\" }}, retry: {{ initial_interval: 1ms }}, {SCHEMA}");
    let journal = Memory::default();
    pass(&step, "{}", &journal, 1);
    let noted: Value = serde_json::from_str(journal.runs()[&0].history.0[&History::backoff("asked")].get()).unwrap();
    assert_eq!((&noted["paid"]["input_tokens"], &noted["usage"]["input_tokens"]), (&json!(3), &json!(3)));
    // What failed without a cost is not worth a note.
    let free = Memory::default();
    pass("say: { text: said, fail: twice }, retry: { initial_interval: 1ms }", "{}", &free, 1);
    assert!(!free.runs()[&0].history.0.contains_key(&History::backoff("asked")));
}

#[test]
fn a_step_that_waits_for_a_decision_has_cost_what_was_tried() {
    let step = format!(
        "say: {{ text: no }}, retry: {{ max_attempts: 2, initial_interval: 1ms }}, on_failure: [retry, escalate], {SCHEMA}"
    );
    let journal = Memory::default();
    let waits = pass(&step, "{}", &journal, 1);
    assert_eq!((waits.of(0, "/status"), spent(&journal)), (json!("WAITING"), 6));
    assert_eq!(cost(&waits), (json!(6), json!(6)));
}
