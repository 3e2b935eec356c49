//! Results are checked before they count.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::Memory;
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run};

const SCHEMA: &str = "output: { schema: { type: object, required: [n], properties: { n: { type: integer } } } }";

fn work(step: &str, lines: &[&str]) -> (Worked, usize, Memory) {
    let spec = format!(
        "steps:\n  - {{ id: asked, {step}, {SCHEMA} }}\n  - {{ id: after, command: say, args: 'n is ${{asked.results.n}}' }}\n"
    );
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let journal = Memory::default();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(lines))).with_journal(Arc::new(journal.clone()), 1);
    let worked = run(&spec, runs, 1);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before, journal)
}

#[test]
fn a_document_in_a_fence_costs_no_other_question() {
    let (worked, calls, journal) = work("say: { text: \"Here: ```json {\\\"n\\\": 7}```\" }", &["{}"]);
    assert_eq!((worked.of(0, "/status"), calls), (json!("COMPLETED"), 2), "{:?}", worked.documents);
    assert_eq!(worked.of(0, "/workflow_results/asked"), json!({ "n": 7 }));
    assert_eq!(worked.of(0, "/workflow_results/after"), "n is 7", "{:?}", worked.documents);
    let kept: Value = serde_json::from_str(journal.runs()[&0].history.0["asked"].get()).unwrap();
    assert_eq!((&kept["results"], &kept["attempts"]), (&json!({ "n": 7 }), &json!(1)));
}

#[test]
fn who_gave_something_else_is_asked_again_with_what_was_wrong() {
    let step = "say: { text: \"n may be seven\", better: \"{\\\"n\\\": 7, \\\"because\\\": 'WRONG'}\" }";
    let (worked, calls, _) = work(&step.replace("'WRONG'", "\\\"WRONG\\\""), &["{}"]);
    // What was wrong has quotes in it, and makes the second answer no document: the third time it fails for good.
    assert_eq!((worked.of(0, "/status"), calls), (json!("FAILED"), 3));
    let (worked, calls, _) = work("say: { text: \"n may be seven\", better: \"{\\\"n\\\": 7}\" }", &["{}"]);
    assert_eq!((worked.of(0, "/status"), calls), (json!("COMPLETED"), 3));
    assert_eq!(worked.of(0, "/execution_metrics/steps/asked/attempts"), 2);
    assert_eq!(worked.of(0, "/workflow_results/asked"), json!({ "n": 7 }));
}

#[test]
fn what_never_fits_fails_the_step_and_goes_to_its_fallback_which_is_held_to_the_same() {
    let (worked, calls, _) = work("say: { text: no }, retry: { max_attempts: 2 }", &["{}"]);
    assert_eq!((worked.of(0, "/status"), calls), (json!("FAILED"), 2));
    assert_eq!(worked.of(0, "/error_analysis/class"), "validation");
    let detail = worked.of(0, "/error_analysis/detail");
    assert!(
        detail.as_str().unwrap().contains("do not fit `output.schema`: \"no\" is not of type \"object\""),
        "{detail}"
    );
    let fallback = "say: { text: no }, retry: { max_attempts: 1 }, fallback: [{ command: say, args: no }, { command: say, args: '{\"n\": 2}' }]";
    let (worked, calls, _) = work(fallback, &["{}"]);
    assert_eq!((worked.of(0, "/workflow_results/asked"), calls), (json!({ "n": 2 }), 4));
    assert_eq!(worked.of(0, "/execution_metrics/steps/asked/fallback"), 2);
}

#[test]
fn steps_that_ask_nobody_are_checked_row_by_row() {
    let spec = "steps: [ { id: made, letters: { of: \"${input}\" }, output: { schema: { pattern: \"^[0-3]$\" } } } ]";
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["\"ab\"", "\"abcd\"", "\"abc\""])));
    let worked = run(spec, runs, 1);
    let statuses: Vec<Value> = (0..3).map(|at| worked.of(at, "/status")).collect();
    assert_eq!(statuses, ["COMPLETED", "FAILED", "COMPLETED"], "{:?}", worked.documents);
    assert_eq!(worked.of(1, "/error_analysis/class"), "validation");
}
