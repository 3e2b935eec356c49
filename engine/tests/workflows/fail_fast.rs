//! `fail_fast`: what fails ends the rest of its run, or of its list, at once.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::json;

use crate::kinds::{SEEN, Worked, lines_of, run, work};

/// The second of three fails after a second; the others take ten.
const THREE: &str = "
fail_fast: true
steps:
  - { id: first, command: say, args: done, compensate: { command: say, args: undone } }
  - { id: a, command: say, args: a, with: { after: '10000' }, needs: first }
  - { id: b, say: { text: b, after: '1000', fail: '${input.fail}' }, needs: first }
  - { id: c, command: say, args: c, with: { after: '10000' }, needs: first }
  - { id: d, command: say, args: d, needs: a }
finally: [{ id: last, command: say, args: 'a ${a.status}' }]
";

fn states(worked: &Worked, row: usize, steps: &[&str]) -> Vec<String> {
    let state = |step| worked.of(row, &format!("/execution_metrics/steps/{step}/status"));
    steps.iter().map(|step| state(step).as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_step_that_fails_cancels_its_siblings_and_the_run_cleans_up_and_other_runs_go_on() {
    for seed in 0..5 {
        let journal = Memory::default();
        let lines = lines_of(&[r#"{"fail": "permanent"}"#, r#"{"fail": ""}"#]);
        let runs = Runs::of("lines", BoxConnector::new(lines)).with_journal(Arc::new(journal.clone()), 1);
        let worked = run(THREE, runs, seed);
        let all = ["first", "a", "b", "c", "d", "first.compensate", "last"];
        let wanted = ["COMPLETED", "CANCELED", "FAILED", "CANCELED", "CANCELED", "COMPLETED", "COMPLETED"];
        assert_eq!(states(&worked, 0, &all), wanted);
        assert_eq!(worked.of(0, "/execution_metrics/steps/a/reason"), "`b` failed");
        assert_eq!(worked.of(0, "/execution_metrics/steps/a/duration_ms"), 1_000);
        assert_eq!((worked.of(0, "/status"), worked.of(0, "/compensated")), (json!("FAILED"), json!(["first"])));
        assert_eq!(worked.of(0, "/error_analysis/instance"), "/steps/b");
        assert_eq!(worked.of(1, "/status"), "COMPLETED");
        assert_eq!(journal.runs()[&0].state, RunState::Failed);
    }
}

#[test]
fn without_it_the_siblings_end_and_keep_what_they_gave() {
    let worked = work(&THREE.replace("fail_fast: true\n", ""), &[r#"{"fail": "permanent"}"#], 1);
    assert_eq!(states(&worked, 0, &["a", "b", "c", "d"]), ["COMPLETED", "FAILED", "COMPLETED", "COMPLETED"]);
}

#[test]
fn what_fails_with_a_default_or_a_fallback_left_cancels_nothing() {
    let spec = THREE.replace(
        "needs: first }\n  - { id: c",
        "needs: first, fallback: [{ command: say, args: other }] }\n  - { id: c",
    );
    let worked = work(&spec, &[r#"{"fail": "permanent"}"#], 1);
    assert_eq!((worked.of(0, "/status"), worked.of(0, "/workflow_results/b")), (json!("COMPLETED"), json!("other")));
}

#[test]
fn a_run_that_is_tried_again_does_what_was_canceled() {
    let journal = Memory::default();
    let again = |fail: &str| {
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).with_journal(Arc::new(journal.clone()), 1);
        run(&THREE.replace("${input.fail}", fail), runs, 1)
    };
    assert_eq!(again("permanent").of(0, "/status"), "FAILED");
    // As `bourn runs recover` does it: what has no results is forgotten.
    journal.runs().get_mut(&0).unwrap().history.0.retain(|_, record| record.get().contains("\"COMPLETED\""));
    let worked = again("");
    assert_eq!(states(&worked, 0, &["a", "b", "c", "d"]), ["COMPLETED"; 4]);
}

#[test]
fn elements_are_canceled_when_more_have_failed_than_may() {
    let spec = |tolerated: u32| {
        format!(
            "
steps:
  - id: each
    for_each: {{ in: '${{input}}', as: one, fail_fast: true, tolerated_failure_percentage: {tolerated}, max_concurrency: 2 }}
    say: {{ text: '${{one}}', after: '1000', fail: '${{one}}' }}
"
        )
    };
    let line = r#"["ok", "permanent", "ok", "permanent", "ok", "ok", "ok", "ok", "ok", "ok"]"#;
    let calls = |tolerated| {
        let before = SEEN.with(|seen| seen.calls.load(SeqCst));
        let worked = work(&spec(tolerated), &[line], 1);
        (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
    };
    let (worked, asked) = calls(0);
    assert!(asked < 5, "{asked} were asked");
    assert_eq!(
        (worked.of(0, "/status"), worked.of(0, "/error_analysis/instance")),
        (json!("FAILED"), json!("/steps/each/items/1"))
    );
    assert_eq!(worked.of(0, "/error_analysis/detail"), "1 of 10 items failed; item 1: no such luck");
    let (worked, asked) = calls(20);
    assert_eq!((worked.of(0, "/status"), asked), (json!("COMPLETED"), 10));
}

#[test]
fn it_ends_workflows_within_and_only_what_is_within_where_it_is_said_there() {
    let spec = "
steps:
  - id: inner
    workflow:
      spec:
        INNER
        steps:
          - { id: bad, say: { text: x, after: '1000', fail: '${.input.fail}' } }
          - { id: slow, say: { text: x, after: '9000' } }
  - { id: beside, say: { text: y, after: '5000', fail: '${input.beside}' } }
";
    let within = spec.replace("INNER", "fail_fast: true");
    let worked = work(&within, &[r#"{"fail": "permanent", "beside": ""}"#], 1);
    assert_eq!(states(&worked, 0, &["inner", "beside"]), ["FAILED", "COMPLETED"]);
    assert_eq!((worked.of(0, "/error_analysis/instance"), worked.took.as_secs()), (json!("/steps/inner/steps/bad"), 5));
    let outer = spec.replace("        INNER\n", "") + "fail_fast: true\n";
    let worked = work(&outer, &[r#"{"fail": "", "beside": "permanent"}"#], 1);
    assert_eq!(
        (states(&worked, 0, &["inner", "beside"]), worked.took.as_secs()),
        (vec!["CANCELED".into(), "FAILED".into()], 5)
    );
    assert_eq!(worked.of(0, "/execution_metrics/steps/inner/reason"), "`beside` failed");
    assert_eq!(worked.of(0, "/error_analysis/instance"), "/steps/beside");
}

#[test]
fn a_workflow_that_undoes_a_step_is_not_canceled_with_the_run_that_failed() {
    let undo = "compensate: { workflow: { spec: { steps: [{ id: u, command: say, args: undone }, { id: v, command: say, args: x, needs: u }] } } }";
    let spec = THREE.replace("compensate: { command: say, args: undone }", undo);
    let worked = work(&spec, &[r#"{"fail": "permanent"}"#], 1);
    assert_eq!(worked.of(0, "/compensated"), json!(["first"]));
    assert_eq!(states(&worked, 0, &["a", "first.compensate"]), ["CANCELED", "COMPLETED"]);
}
