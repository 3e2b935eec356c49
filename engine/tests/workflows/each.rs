//! A step for each element of a list, and what a step gives when it fails.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory};
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run, work};

const EACH: &str = "
steps:
  - { id: list, command: say, args: 'l' }
  - id: each
    for_each: { in: '${input.list}', as: it, max_concurrency: 5, tolerated_failure_percentage: 20 }
    command: say
    with: { text: '${it.n} of ${list.results}', after: '${it.after}', fail: '${it.fail}' }
    retry: { max_attempts: 1 }
  - { id: side, command: say, args: 's' }
  - { id: end, command: say, args: '${each.results} ${side.results} ${each.items.failed}' }
output_format: map
";

fn list(items: &[(u64, u64, &str)]) -> String {
    let items: Vec<_> =
        items.iter().map(|(n, after, fail)| json!({"n": n, "after": after.to_string(), "fail": fail})).collect();
    json!({ "list": items }).to_string()
}

#[test]
fn results_are_a_list_in_the_order_of_the_elements_whatever_order_they_end_in() {
    for seed in 1..5 {
        let items: Vec<_> = (0..10).map(|n| (n, 100 - n, "")).collect();
        let worked = work(EACH, &[&list(&items), &list(&items[..1]), "{\"list\": []}"], seed);
        let wanted: Vec<Value> = (0..10).map(|n| json!(format!("{n} of l"))).collect();
        assert_eq!(worked.of(0, "/workflow_results/each"), json!(wanted));
        assert_eq!(worked.of(1, "/workflow_results/each"), json!(["0 of l"]));
        assert_eq!(worked.of(2, "/workflow_results/each"), json!([]));
        assert_eq!(worked.of(2, "/workflow_results/end"), "[] s 0");
        assert_eq!(worked.of(0, "/status"), "COMPLETED");
        // Five at once: two rounds of at most a tenth of a second each, for both runs with elements together.
        assert!(worked.took < Duration::from_millis(320), "{:?}", worked.took);
        assert!(worked.took >= Duration::from_millis(190), "{:?}", worked.took);
    }
}

#[test]
fn some_elements_may_fail_and_their_results_are_null() {
    let some: Vec<_> = (0..10).map(|n| (n, 1, if n % 5 == 3 { "permanent" } else { "" })).collect();
    let many: Vec<_> = (0..10).map(|n| (n, 1, if n % 3 == 1 { "permanent" } else { "" })).collect();
    let worked = work(EACH, &[&list(&some), &list(&many)], 1);
    assert_eq!(worked.of(0, "/status"), "COMPLETED");
    let results = worked.of(0, "/workflow_results/each");
    assert_eq!((&results[3], &results[4], &results[8]), (&Value::Null, &json!("4 of l"), &Value::Null));
    assert!(worked.of(0, "/workflow_results/end").as_str().unwrap().ends_with(" s 2"));
    assert_eq!(worked.of(1, "/status"), "FAILED");
    assert_eq!(worked.of(1, "/error_analysis/instance"), "/steps/each/items/1");
    assert_eq!(worked.of(1, "/error_analysis/detail"), "3 of 10 items failed; item 1: no such luck");
    assert_eq!(worked.of(1, "/error_analysis/affected_steps"), json!(["end"]));
}

#[test]
fn what_is_no_list_fails_the_step_and_what_is_skipped_starts_no_element() {
    let spec = "
steps:
  - { id: a, for_each: { in: '${input.list}' }, letters: '${item}', if: '${.input.list != null}' }
  - { id: b, command: say, args: '${.a.results | add}', needs: a }
";
    let worked = work(
        spec,
        &[r#"{"list": "x"}"#, r#"{"list": null}"#, r#"{"list": ["aa", "b", ""]}"#, r#"{"list": ["aa", "b"]}"#],
        2,
    );
    let detail = worked.of(0, "/error_analysis/detail");
    assert_eq!(detail, "there is no list to go through, but \"x\"");
    assert_eq!(worked.of(1, "/status"), "COMPLETED");
    assert_eq!(worked.of(1, "/execution_metrics/steps/a/status"), "SKIPPED");
    assert_eq!(worked.of(2, "/error_analysis/detail"), "1 of 3 items failed; item 2: nothing to count");
    assert_eq!(worked.of(3, "/workflow_results"), json!({ "a": ["2", "1"], "b": "21" }));
}

fn journaled(lines: &[String], journal: &Memory, seed: u64) -> (Worked, usize) {
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&lines)));
    let worked = run(EACH, runs.with_journal(Arc::new(journal.clone()), 1), seed);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

#[test]
fn an_element_that_is_in_the_journal_is_not_done_again() {
    let items: Vec<_> = (0..8).map(|n| (n, 5, "")).collect();
    let lines = vec![list(&items), list(&items[..4])];
    let journal = Memory::default();
    let (calm, calls) = journaled(&lines, &journal, 1);
    assert_eq!(calls, 12 + 2 * 3);
    assert!(journal.runs()[&0].history.0.contains_key("each[7]"));
    // A crash came while the elements were worked.
    for run in journal.runs().values_mut() {
        let kept = |step: &str| ["list", "side", "each[0]", "each[2]", "each[3]"].contains(&step);
        let History(steps) = &mut run.history;
        steps.retain(|step, _| kept(step));
    }
    let (gone_on, calls) = journaled(&lines, &journal, 2);
    assert_eq!(calls, (5 + 1) + (1 + 1));
    let results = |worked: &Worked| worked.documents.iter().map(|d| d["workflow_results"].clone()).collect::<Vec<_>>();
    assert_eq!(results(&gone_on), results(&calm));
    let (_, none) = journaled(&lines, &journal, 3);
    assert_eq!(none, 0);
}

#[test]
fn a_step_that_fails_gives_its_default_and_the_run_says_that_it_is_degraded() {
    let spec = "
steps:
  - { id: a, command: say, with: { text: x, fail: '${input.fail}' }, default: { none: true }, retry: { max_attempts: 1 } }
  - { id: b, letters: '${input.text}', default: 0 }
  - { id: c, command: say, args: '${a.results.none} ${b.results} ${a.degraded}', if: '${.a.degraded == true}' }
output_format: map
";
    let worked = work(spec, &[r#"{"fail": "permanent", "text": ""}"#, r#"{"fail": "", "text": "abc"}"#], 1);
    assert_eq!(worked.of(0, "/status"), "COMPLETED");
    assert_eq!(worked.of(0, "/degraded"), json!(["a", "b"]));
    assert_eq!(worked.of(0, "/workflow_results"), json!({ "a": {"none": true}, "b": 0, "c": "true 0 true" }));
    assert_eq!(worked.of(0, "/error_analysis"), Value::Null);
    assert_eq!(worked.of(1, "/degraded"), Value::Null);
    assert_eq!(worked.of(1, "/workflow_results"), json!({ "a": "x", "b": "3" }));
}

#[test]
fn elements_that_have_the_default_are_told_as_those_that_failed() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${input}', as: fail }
    command: say
    with: { text: said, fail: '${fail}' }
    retry: { max_attempts: 1 }
    default: none
";
    let worked = work(spec, &[r#"["", "permanent", ""]"#, r#"["", ""]"#], 1);
    assert_eq!((worked.of(0, "/status"), worked.of(0, "/degraded")), (json!("COMPLETED"), json!(["each"])));
    assert_eq!(worked.of(0, "/final_output"), json!(["said", "none", "said"]));
    let told = json!({ "degraded": 1, "of": 3, "default": "none" });
    assert_eq!(
        worked.of(0, "/decision_path"),
        json!([{ "step": "each", "kind": "default", "result": told }]),
        "{:?}",
        worked.documents
    );
    let items = json!({ "total": 3, "failed": 0, "degraded": 1,
        "failures": [{ "item": 1, "class": "permanent", "message": "no such luck", "degraded": true }] });
    assert_eq!(worked.of(0, "/execution_metrics/steps/each/items"), items);
    assert_eq!((worked.of(1, "/degraded"), worked.of(1, "/decision_path")), (Value::Null, Value::Null));
    // Elements that were not asked for want of money are told too.
    let budget = "budget: { per_run: { tokens: 6, on_exceeded: degrade } }";
    let poor = format!("{budget}{}", spec.replace("'${fail}'", "''"));
    let worked = work(&poor, &[r#"["", "", ""]"#], 1);
    assert_eq!(worked.of(0, "/degraded"), json!(["each"]));
    let items = "/execution_metrics/steps/each/items";
    assert_eq!(worked.of(0, &format!("{items}/degraded")), 2);
    assert_eq!(worked.of(0, &format!("{items}/failures/0/class")), "budget");
}

#[test]
fn a_fallback_is_for_the_elements_that_failed_alone() {
    let spec = "
steps:
  - id: each
    for_each: { in: '${input.list}', as: fail }
    command: say
    with: { text: first, fail: '${fail}' }
    retry: { max_attempts: 1 }
    fallback: [{ with: { text: second, fail: '' } }]
";
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let worked = work(spec, &[r#"{"list": ["", "permanent"]}"#], 1);
    assert_eq!(worked.of(0, "/workflow_results/each"), json!(["first", "second"]));
    assert_eq!(SEEN.with(|seen| seen.calls.load(SeqCst)) - before, 3);
}

#[test]
fn a_list_may_stand_in_the_spec() {
    let spec = "steps:\n  - { id: each, for_each: { in: [a, { b: 1 }, null] }, set: { value: '${[.item]}' } }\n";
    assert_eq!(work(spec, &["{}"], 1).of(0, "/final_output"), json!([["a"], [{ "b": 1 }], [null]]));
}
