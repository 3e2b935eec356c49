//! When steps start and in what order runs end.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::env::Env;
use serde_json::{Value, json};

use crate::kinds::{SEEN, work};

/// Two branches of different length: 10 + 10 beside 40, and 5 at the end.
const UNEVEN: &str = "
steps:
  - { id: a, command: say, args: x, with: { after: '10' } }
  - { id: b, command: say, args: x, with: { after: '10' }, needs: a }
  - { id: c, command: say, args: x, with: { after: '40' } }
  - { id: d, command: say, args: '${b.results}${c.results}', with: { after: '5' } }
";

#[test]
fn a_step_starts_the_moment_its_inputs_exist() {
    assert_eq!(work(UNEVEN, &["1"], 1).took, Duration::from_millis(45));
}

#[test]
fn without_parallel_steps_they_run_one_after_the_other_and_give_the_same() {
    let spec = format!("{UNEVEN}optimization: {{ parallel_where_possible: false }}\n");
    let (serial, parallel) = (work(&spec, &["1"], 1), work(UNEVEN, &["1"], 1));
    assert_eq!(serial.took, Duration::from_millis(65));
    assert_eq!(serial.of(0, "/workflow_results"), parallel.of(0, "/workflow_results"));
    assert_eq!(serial.of(0, "/performance_report/optimization_applied"), json!([]));
}

#[test]
fn a_slow_run_holds_up_no_other_and_documents_leave_in_the_order_of_the_lines() {
    let inputs: Vec<String> =
        (0..30).map(|n| json!({ "n": n, "after": if n == 3 { 900 } else { 10 } }).to_string()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let spec = "steps: [{ id: a, command: say, args: '${input.n}', with: { after: '${input.after}' } }]";
    let worked = work(spec, &inputs, 7);
    let order: Vec<Value> = (0..30).map(|row| worked.of(row, "/workflow_results/a")).collect();
    assert_eq!(order, (0..30).map(|n| Value::String(n.to_string())).collect::<Vec<_>>());
    assert_eq!(worked.took, Duration::from_millis(900));
}

#[test]
fn no_more_requests_are_in_flight_than_the_spec_allows() {
    let inputs: Vec<String> = (0..40).map(|n| n.to_string()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let spec = "steps: [{ id: a, command: say, args: x, with: { after: '10' } }]\noptimization: { max_concurrency: 4 }";
    let seen = SEEN.with(Arc::clone);
    // Another test may have run on this thread.
    seen.most.store(0, SeqCst);
    let before = seen.calls.load(SeqCst);
    let worked = work(spec, &inputs, 7);
    assert_eq!((seen.most.load(SeqCst), seen.calls.load(SeqCst) - before), (4, 40));
    assert_eq!(worked.took, Duration::from_millis(100));
}

#[test]
fn steps_that_name_one_rate_keep_it_together() {
    let steps = "steps:
  - { id: a, say: { text: x, limits: { rate: RATE } } }
  - { id: b, say: { text: x, limits: { rate: RATE } } }
rate_limits: { api: 1/s }
";
    let lines = ["1", "2", "3"];
    assert_eq!(work(&steps.replace("RATE", "1/s"), &lines, 1).took, Duration::from_secs(2));
    assert_eq!(work(&steps.replace("RATE", "api"), &lines, 1).took, Duration::from_secs(5));
}

/// Every 50th of the lines is run alone as well; `BOURN_SINGLES=10000` runs each of them, which takes minutes.
#[test]
fn ten_thousand_lines_give_what_single_runs_give_and_sooner_by_the_concurrency_allowed() {
    let spec = "
steps:
  - { id: a, command: say, args: 'n ${input.n}', with: { after: '${input.after}', fail: '${input.fail}' } }
  - { id: b, command: say, args: '${input.n}' }
  - { id: c, command: say, args: '${a.results}/${b.results}' }
optimization: { max_concurrency: 64 }
";
    let fail = |n: u32| if n.is_multiple_of(7) { "permanent" } else { "" };
    let input = |n: u32| json!({ "n": n, "after": 10 + n % 31, "fail": fail(n) }).to_string();
    let inputs: Vec<String> = (0..10_000).map(input).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    let together = work(spec, &inputs, 3);
    // Times differ, and a single run is always the first line of its input.
    let plain = |document: &Value| {
        let mut document = document.clone();
        for key in ["run_id", "execution_metrics", "performance_report"] {
            document.as_object_mut().unwrap().remove(key);
        }
        document
    };
    let singles: usize = Env::system().variable("BOURN_SINGLES").and_then(|n| n.parse().ok()).unwrap_or(200);
    let step = 10_000 / singles.clamp(1, 10_000);
    let mut one_by_one = Duration::ZERO;
    for (row, input) in inputs.iter().enumerate().step_by(step) {
        let alone = work(spec, &[input], 3);
        assert_eq!(plain(&together.documents[row]), plain(&alone.documents[0]));
        one_by_one += alone.took;
    }
    let sooner = one_by_one.as_secs_f64() * step as f64 / together.took.as_secs_f64();
    // The last requests are alone, and answers wait for those before them.
    assert!(sooner > 0.9 * 64.0, "only {sooner:.1} times sooner");
}

#[test]
fn a_step_in_a_line_sees_nothing_of_those_that_it_does_not_need_and_fails_alone() {
    let spec = "
steps:
  - { id: first, set: { value: { n: '${input.n}' } } }
  - { id: a, set: '${first.results.none}' }
  - { id: b, set: '${.}', needs: first }
  - { id: c, set: '${.}', needs: b }
output_format: map
";
    let worked = work(spec, &[r#"{"n": 1}"#], 1);
    assert_eq!(worked.of(0, "/status"), "FAILED");
    assert_eq!(worked.of(0, "/error_analysis/instance"), "/steps/a");
    let seen = |step: &str| {
        let Value::Object(seen) = worked.of(0, &format!("/partial_results/{step}")) else { panic!("no object") };
        seen.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(seen("b"), ["input", "first"]);
    assert_eq!(seen("c"), ["input", "first", "b"]);
}

#[test]
fn jq_that_reads_all_sees_the_input_and_what_its_step_needs_wherever_it_stands() {
    let spec = "
steps:
  - { id: first, set: 1 }
  - { id: beside, set: 2 }
  - { id: keys, set: '${. | keys}', needs: first }
  - { id: each, for_each: { in: '${[.[]] | length | [.]}' }, set: '${[.item, (tojson | length > 20)]}', needs: first }
  - { id: chosen, if: '${(keys | length) == 2}', set: '${[..] | length > 3}', needs: beside }
  - { id: made, set: '${. as {first: $f} | $f.results}' }
  - { id: asked, set: '${.nothing? // .input.keys}' }
  - { id: changed, set: '${.foo = 3 | .foo}' }
  - { id: rounds, repeat: { until: '${(keys) == [\"first\", \"input\", \"rounds\"]}', max_iterations: 3 }, set: 1, needs: first }
output_format: map
";
    let worked = work(spec, &[r#"{"n": 1, "keys": "a member"}"#], 1);
    let expected = json!({
        "first": 1, "beside": 2, "keys": ["first", "input"], "each": [[2, true]], "chosen": true, "made": 1,
        "asked": "a member", "changed": 3, "rounds": 1,
    });
    assert_eq!((worked.of(0, "/final_output"), worked.of(0, "/error_analysis")), (expected, Value::Null));
    assert_eq!(worked.of(0, "/decision_path/1/result/rounds"), 1, "{:?}", worked.documents);
}

#[test]
fn a_member_that_is_called_as_a_step_is_none() {
    let spec = "
steps:
  - { id: plan, set: { value: { title: a, next: b } } }
  - { id: title, set: '${.plan.results.title}' }
  - { id: next, set: '${[.plan.results.next, .title.results] | join(\" \")}' }
";
    let worked = work(spec, &["1"], 1);
    assert_eq!(worked.of(0, "/final_output"), "b a", "{:?}", worked.documents);
}
