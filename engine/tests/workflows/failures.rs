//! Failures are data: no run is lost, and what does not depend on a failed step goes on.

use bourn_engine::spec::{Spec, load};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::check_input;
use serde_json::json;

use crate::kinds::{registry, work};

#[test]
fn a_bad_line_is_a_run_that_failed_at_its_input() {
    let spec = "
input: { schema: { type: object, required: [n], properties: { n: { type: integer } } } }
steps: [{ id: a, command: say, args: 'n ${input.n}' }]
";
    let worked = work(spec, &[r#"{"n": 1}"#, "{\"n\": ", r#"{"n": "x"}"#, "", r#"{"n": 4}"#], 1);
    let states: Vec<_> = (0..4).map(|row| worked.of(row, "/status")).collect();
    // The empty line is none.
    assert_eq!(states, ["COMPLETED", "FAILED", "FAILED", "COMPLETED"]);
    assert_eq!(worked.documents.len(), 4);
    assert_eq!(worked.of(1, "/error_analysis/class"), "validation");
    assert_eq!(worked.of(1, "/error_analysis/instance"), "/input");
    let detail = worked.of(1, "/error_analysis/detail").to_string();
    assert!(detail.contains("in.jsonl:2: the input is not JSON"), "{detail}");
    let detail = worked.of(2, "/error_analysis/detail").to_string();
    assert!(detail.contains("in.jsonl:3: the input does not fit: /n"), "{detail}");
    assert_eq!(worked.of(2, "/execution_metrics/steps/a/reason"), "the input is not valid");
    assert_eq!(worked.of(3, "/workflow_results/a"), "n 4");
}

#[test]
fn what_does_not_need_a_failed_step_goes_on() {
    let spec = "
steps:
  - { id: a, command: say, args: x, with: { fail: '${input.fail}' } }
  - { id: b, command: say, args: '${a.results}' }
  - { id: c, command: say, args: '${b.results}' }
  - { id: d, command: say, args: y }
  - { id: e, command: say, args: z, needs: [c, d] }
";
    let worked = work(spec, &[r#"{"fail": "permanent"}"#, r#"{"fail": ""}"#], 1);
    assert_eq!(worked.of(0, "/partial_results"), json!({ "d": "y" }));
    let reason = |step: &str| worked.of(0, &format!("/execution_metrics/steps/{step}/reason"));
    assert_eq!(
        (reason("b"), reason("c"), reason("e")),
        (json!("`a` failed"), json!("`b` was skipped"), json!("`c` was skipped"))
    );
    assert_eq!(worked.of(0, "/error_analysis/affected_steps"), json!(["b", "c", "e"]));
    assert_eq!(worked.of(1, "/workflow_results/e"), "z");
}

#[test]
fn a_step_is_tried_again_as_its_retry_says_and_the_attempts_are_told() {
    let spec = |retry: &str, fail: &str| {
        format!(
            "steps: [{{ id: a, command: say, args: x, with: {{ fail: {fail} }}, retry: {{ jitter: false{retry} }} }}]"
        )
    };
    let worked = work(&spec("", "twice"), &["1"], 1);
    assert_eq!(worked.of(0, "/execution_metrics/steps/a/attempts"), 3);
    // The waits are 1 s and 2 s: Temporal's.
    assert_eq!(worked.of(0, "/execution_metrics/steps/a/duration_ms"), 3_000);
    let worked = work(&spec(", max_attempts: 2", "transient"), &["1"], 1);
    assert_eq!(worked.of(0, "/status"), "FAILED");
    assert_eq!(worked.of(0, "/error_analysis/attempts"), 2);
    assert_eq!(worked.of(0, "/error_analysis/class"), "transient");
}

#[test]
fn a_step_that_takes_longer_than_allowed_timed_out() {
    let spec = "
steps:
  - { id: a, command: say, args: x, with: { after: '2000' }, timeout: 1, retry: { max_attempts: 1 } }
  - { id: b, command: say, args: y, needs: a }
";
    let worked = work(spec, &["1"], 1);
    assert_eq!(worked.of(0, "/execution_metrics/steps/a/status"), "TIMED_OUT");
    assert_eq!(worked.of(0, "/execution_metrics/steps/a/duration_ms"), 1_000);
    assert_eq!(worked.of(0, "/execution_metrics/steps/b/reason"), "`a` timed out");
    assert_eq!(worked.of(0, "/error_analysis/class"), "timeout");
}

#[test]
fn a_condition_skips_and_is_no_failure_and_one_that_is_neither_is() {
    let spec = "
steps:
  - { id: a, command: say, args: x, if: '${input.wanted}' }
  - { id: b, command: say, args: y, needs: a }
  - { id: c, command: say, args: z }
";
    let worked = work(spec, &[r#"{"wanted": true}"#, r#"{"wanted": false}"#, r#"{"wanted": "yes"}"#, "{}"], 1);
    let states: Vec<_> = (0..4).map(|row| worked.of(row, "/status")).collect();
    assert_eq!(states, ["COMPLETED", "COMPLETED", "FAILED", "FAILED"]);
    assert_eq!(worked.of(1, "/workflow_results"), json!({ "c": "z" }));
    assert_eq!(worked.of(1, "/execution_metrics/steps/a/reason"), "its condition is false");
    assert_eq!(worked.of(2, "/error_analysis/class"), "validation");
    let detail = worked.of(3, "/error_analysis/detail").to_string();
    assert!(detail.contains("`${input.wanted}` has no value"), "{detail}");
}

#[test]
fn a_row_that_a_stage_refuses_is_a_failed_step() {
    let spec = "steps: [{ id: a, letters: '${input.text}' }]";
    let worked = work(spec, &[r#"{"text": ""}"#, r#"{"text": "abc"}"#], 1);
    assert_eq!(worked.of(0, "/error_analysis/detail"), "nothing to count");
    assert_eq!(worked.of(1, "/workflow_results/a"), "3");
}

#[test]
fn an_input_by_hand_can_be_checked_before_a_run_is_started() {
    let spec = "input: { schema: { required: [n] } }\nsteps: [{ id: a, command: say, args: x }]";
    let loaded = load(spec, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap();
    let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
    assert_eq!(check_input(chain, &json!({ "n": 1 })), Vec::<String>::new());
    assert_eq!(check_input(chain, &json!({})), ["\"n\" is a required property"]);
}
