//! Switches, fallbacks, what is undone, and what is done at the end.

use serde_json::{Value, json};

use crate::kinds::work;

const SWITCH: &str = "
steps:
  - { id: kind, command: say, args: '${input.kind}' }
  - id: route
    switch:
      - { when: '${.kind.results == \"a\"}', then: a }
      - { when: '${.kind.results == \"b\"}', then: [b, both] }
      - { then: other }
  - { id: a, command: say, args: took a }
  - { id: after_a, command: say, args: 'after ${a.results}' }
  - { id: b, command: say, args: took b }
  - { id: both, command: say, args: and this }
  - { id: other, command: say, args: took other, with: { fail: '${.input.fail // \"\"}' } }
  - { id: meet, command: say, args: '${[.after_a, .b, .other] | map(select(.status == \"COMPLETED\").results) | join(\" \")}' }
output_format: map
";

#[test]
fn a_switch_takes_the_first_way_that_is_open_and_the_ways_meet_again() {
    for seed in 1..5 {
        let inputs = [r#"{"kind": "a"}"#, r#"{"kind": "b"}"#, r#"{"kind": "z"}"#];
        let worked = work(SWITCH, &inputs, seed);
        let ran = |row: usize| {
            let Value::Object(results) = worked.of(row, "/workflow_results") else { panic!("no results") };
            results.keys().filter(|k| !["kind", "route"].contains(&k.as_str())).cloned().collect::<Vec<_>>()
        };
        assert_eq!(ran(0), ["a", "after_a", "meet"]);
        assert_eq!(ran(1), ["b", "both", "meet"]);
        assert_eq!(ran(2), ["other", "meet"]);
        assert_eq!(worked.of(0, "/workflow_results/meet"), "after took a");
        assert_eq!(worked.of(1, "/workflow_results/route"), json!(["b", "both"]));
        let of = |row, step: &str, what: &str| worked.of(row, &format!("/execution_metrics/steps/{step}/{what}"));
        assert_eq!(of(1, "after_a", "reason"), "`route` chose another way");
        assert_eq!(of(1, "after_a", "status"), "SKIPPED");
        assert!((0..3).all(|row| worked.of(row, "/status") == "COMPLETED"));
        // Where the ways meet none of them goes on.
        let ways = |row| worked.of(row, "/branch_results/route");
        assert_eq!(ways(0), json!({ "a": { "a": "took a", "after_a": "after took a" } }));
        assert_eq!(ways(1), json!({ "b": { "b": "took b" }, "both": { "both": "and this" } }));
        let path = worked.of(2, "/decision_path");
        assert_eq!(path, json!([{ "step": "route", "kind": "switch", "result": ["other"] }]));
    }
}

#[test]
fn where_ways_meet_a_failure_on_the_way_that_was_taken_is_one() {
    let worked = work(SWITCH, &[r#"{"kind": "z", "fail": "permanent"}"#], 1);
    assert_eq!(worked.of(0, "/status"), "FAILED");
    assert_eq!(worked.of(0, "/execution_metrics/steps/meet/reason"), "`other` failed");
    assert_eq!(worked.of(0, "/execution_metrics/steps/a/reason"), "`route` chose another way");
}

#[test]
fn a_way_without_a_match_skips_all_and_a_condition_that_is_none_is_an_error() {
    let spec = "
steps:
  - id: route
    switch: [{ when: '${input.x}', then: a }]
  - { id: a, command: say, args: took a }
  - { id: end, command: say, args: end, needs: a }
";
    let worked = work(spec, &[r#"{"x": false}"#, r#"{"x": 1}"#, r#"{"x": true}"#], 1);
    assert_eq!(worked.of(0, "/status"), "COMPLETED");
    assert_eq!(worked.of(0, "/workflow_results"), json!({ "route": [] }));
    assert_eq!(worked.of(1, "/error_analysis/detail"), "field `when`: the condition is neither true nor false: 1");
    assert_eq!(worked.of(1, "/error_analysis/instance"), "/steps/route");
    assert_eq!(worked.of(2, "/workflow_results/end"), "end");
}

#[test]
fn fallbacks_are_tried_in_order_and_the_one_that_answers_is_told() {
    let spec = "
steps:
  - id: ask
    command: say
    with: { text: first, fail: '${input.first}' }
    retry: { max_attempts: 1 }
    fallback:
      - { with: { text: second, fail: '${input.second}' } }
      - { letters: '${input.third}' }
    default: nothing
  - { id: end, command: say, args: 'got ${ask.results}' }
";
    let inputs = [
        r#"{"first": "", "second": "", "third": "x"}"#,
        r#"{"first": "permanent", "second": "", "third": "x"}"#,
        r#"{"first": "permanent", "second": "permanent", "third": "xyz"}"#,
        r#"{"first": "permanent", "second": "permanent", "third": ""}"#,
    ];
    for seed in 1..4 {
        let worked = work(spec, &inputs, seed);
        let end: Vec<_> = (0..4).map(|row| worked.of(row, "/workflow_results/end")).collect();
        assert_eq!(end, ["got first", "got second", "got 3", "got nothing"]);
        let attempts: Vec<_> = (0..4).map(|row| worked.of(row, "/execution_metrics/steps/ask/attempts")).collect();
        assert_eq!(attempts, [1, 2, 3, 3]);
        let path: Vec<_> = (0..4).map(|row| worked.of(row, "/execution_metrics/steps/ask/fallback")).collect();
        assert_eq!(path, [Value::Null, json!(1), json!(2), Value::Null]);
        assert_eq!(worked.of(3, "/degraded"), json!(["ask"]));
        assert_eq!(worked.of(2, "/degraded"), Value::Null);
    }
}

const SAGA: &str = "
steps:
  - { id: room, command: say, args: room, compensate: { command: say, args: 'cancel ${room.results}' } }
  - id: flight
    needs: room
    command: say
    args: flight
    compensate: { command: say, with: { text: 'cancel ${flight.results}', after: '5' } }
  - { id: car, needs: flight, command: say, args: car, with: { fail: '${input.fail}' },
      compensate: { command: say, args: cancel car } }
  - { id: bill, needs: car, command: say, args: bill }
finally:
  - { id: told, command: say, args: '${[.room, .car, .bill] | map(.status) | join(\" \")}' }
";

#[test]
fn what_completed_is_undone_the_last_one_first_when_the_run_fails() {
    for seed in 1..4 {
        let worked = work(SAGA, &[r#"{"fail": "permanent"}"#, r#"{"fail": ""}"#], seed);
        assert_eq!(worked.of(0, "/status"), "FAILED");
        assert_eq!(worked.of(0, "/error_analysis/instance"), "/steps/car");
        assert_eq!(worked.of(0, "/compensated"), json!(["flight", "room"]));
        let of = |row, step: &str, what: &str| worked.of(row, &format!("/execution_metrics/steps/{step}/{what}"));
        assert_eq!(of(0, "car.compensate", "reason"), "`car` did not complete");
        // What undoes and what cleans up is none of what the run gives.
        assert_eq!(worked.of(0, "/partial_results"), json!({ "room": "room", "flight": "flight" }));
        assert_eq!(of(0, "told", "status"), "COMPLETED");
        assert_eq!(worked.of(1, "/status"), "COMPLETED");
        assert_eq!(worked.of(1, "/final_output"), "bill");
        assert_eq!(worked.of(1, "/compensated"), Value::Null);
        assert_eq!(of(1, "room.compensate", "reason"), "the run has not failed");
        assert_eq!(of(1, "told", "status"), "COMPLETED");
    }
}

#[test]
fn what_is_done_at_the_end_sees_what_became_of_all_and_its_failure_is_one() {
    let spec = "
steps:
  - { id: a, command: say, args: x, with: { fail: '${input.a}' } }
  - { id: b, command: say, args: '${a.results}' }
finally:
  - { id: told, command: say, args: '${.a.status} ${.b.status}', with: { fail: '${input.told}' } }
";
    let worked = work(spec, &[r#"{"a": "permanent", "told": ""}"#, r#"{"a": "", "told": "permanent"}"#], 1);
    assert_eq!(worked.of(0, "/execution_metrics/steps/told/status"), "COMPLETED");
    assert_eq!(worked.of(0, "/status"), "FAILED");
    assert_eq!(worked.of(1, "/status"), "FAILED");
    assert_eq!(worked.of(1, "/error_analysis/instance"), "/steps/told");
}
