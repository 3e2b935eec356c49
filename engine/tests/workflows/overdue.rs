//! `timeout` of a workflow: a run that takes longer than it may is ended, wherever it is by then.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Ask, Journal as _, Memory, RunState};
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run, run_beside, work};

/// Ten seconds in three steps, or two, with something to undo and something at the end.
const SLOW: &str = "\
timeout: 5s
steps:
  - { id: a, command: say, args: a, with: { after: '1000' }, compensate: { command: say, args: undone } }
  - { id: b, command: say, args: b, with: { after: '${input.ms}' }, needs: a, default: none }
  - { id: c, command: say, args: c, needs: b }
finally:
  - { id: last, command: say, args: 'b ${b.status}', with: { after: '2000' } }
output_format: map
";

const LINES: [&str; 2] = [r#"{"ms": "8000"}"#, r#"{"ms": "1000"}"#];

fn states(worked: &Worked, row: usize, steps: &[&str]) -> Vec<String> {
    let state = |step| worked.of(row, &format!("/execution_metrics/steps/{step}/status"));
    steps.iter().map(|step| state(step).as_str().unwrap_or_default().to_owned()).collect()
}

fn statuses(worked: &Worked) -> Vec<Value> {
    (0..worked.documents.len()).map(|at| worked.of(at, "/status")).collect()
}

fn kept(lines: &[&str], journal: &Memory) -> Runs {
    Runs::of("lines", BoxConnector::new(lines_of(lines))).with_journal(Arc::new(journal.clone()), 1)
}

#[track_caller]
fn ended_at_five_seconds(worked: &Worked) {
    assert_eq!(states(worked, 0, &["a", "b", "c"]), ["COMPLETED", "CANCELED", "CANCELED"]);
    assert_eq!(states(worked, 0, &["a.compensate", "last"]), ["COMPLETED", "COMPLETED"]);
    assert_eq!((worked.of(0, "/status"), worked.of(0, "/compensated")), (json!("TIMED_OUT"), json!(["a"])));
    assert_eq!(worked.of(0, "/execution_metrics/steps/b/duration_ms"), 4_000);
    let analysis = json!({
        "type": "urn:bourn:error:timeout", "title": "it took longer than allowed", "class": "timeout",
        "detail": "it took longer than its `timeout` of 5s", "instance": "/run", "attempts": 1,
        "affected_steps": ["b", "c"],
    });
    assert_eq!(worked.of(0, "/error_analysis"), analysis);
    assert_eq!((worked.of(1, "/status"), worked.of(1, "/workflow_results/c")), (json!("COMPLETED"), json!("c")));
}

#[test]
fn a_run_that_takes_too_long_drops_what_is_in_flight_and_cleans_up_and_the_others_go_on() {
    for seed in 0..5 {
        let journal = Memory::default();
        let worked = run(SLOW, kept(&LINES, &journal), seed);
        ended_at_five_seconds(&worked);
        assert_eq!(worked.of(0, "/recovery_plan/strategy"), "recover");
        let kept_as: Vec<RunState> = journal.runs().values().map(|run| run.state).collect();
        assert_eq!(kept_as, [RunState::TimedOut, RunState::Completed]);
        // Nothing of it is done again.
        let before = SEEN.with(|seen| seen.calls.load(SeqCst));
        assert_eq!(statuses(&run(SLOW, kept(&LINES, &journal), seed)), ["TIMED_OUT", "COMPLETED"]);
        assert_eq!(SEEN.with(|seen| seen.calls.load(SeqCst)), before);
    }
}

#[test]
fn it_does_without_a_journal() {
    ended_at_five_seconds(&work(SLOW, &LINES, 1));
}

#[test]
fn a_step_that_waits_for_its_turn_or_its_next_attempt_is_ended_and_so_is_one_that_has_another_try() {
    for step in [
        "command: say, with: { text: x, fail: transient }, retry: { initial_interval: 50s, jitter: false }",
        "hold: { seconds: 50 }",
        "command: say, with: { text: x, after: '90000' }, fallback: [{ command: say, args: y }], default: z",
        "repeat: { until: '${.input == 2}', max_iterations: 99, every: 3s }, command: say, args: x",
        "for_each: { in: '${[1, 2]}', max_concurrency: 1 }, command: say, with: { text: x, after: '4000' }",
    ] {
        let spec = format!("timeout: 5s\nsteps:\n  - {{ id: a, {step} }}\n");
        let worked = run(&spec, kept(&["1"], &Memory::default()), 1);
        assert_eq!((worked.of(0, "/status"), worked.took.as_secs()), (json!("TIMED_OUT"), 5), "{step}");
        assert_eq!(states(&worked, 0, &["a"]), ["CANCELED"], "{step}");
    }
}

#[test]
fn a_run_at_rest_comes_back_to_end_whatever_it_waits_for() {
    let later = "command: say, with: { text: x, fail: 'later:90000' }";
    for step in ["hold: { signal: go }", "hold: { seconds: 90000 }", later] {
        let spec = format!(
            "timeout: 2h\nsteps:\n  - {{ id: a, {step} }}\nfinally:\n  - {{ id: z, hold: {{ seconds: 600 }} }}\n"
        );
        let journal = Memory::default();
        let worked = run(&spec, kept(&["1"], &journal).staying(true), 1);
        // What cleans up has the time that it needs, and the run comes back for that alone.
        assert_eq!(statuses(&worked), ["WAITING", "WAITING", "TIMED_OUT"], "{step}");
        assert_eq!(states(&worked, 1, &["a", "z"]), ["CANCELED", "WAITING"], "{step}");
        let end = Duration::from_mins(130);
        assert!(worked.took >= end && worked.took < end + Duration::from_secs(5), "{step}: {:?}", worked.took);
    }
}

#[test]
fn time_passes_for_a_run_that_is_paused() {
    let journal = Memory::default();
    journal.asked().tell(0, Ask::Pause);
    let spec = "timeout: 1m\nsteps: [{ id: a, command: say, args: x }, { id: b, hold: { seconds: 90 } }]";
    // The other one keeps the job about.
    let worked = run(spec, kept(&["1", "2"], &journal).staying(true), 1);
    assert_eq!(statuses(&worked), ["PAUSED", "WAITING", "TIMED_OUT", "TIMED_OUT"]);
    assert_eq!(states(&worked, 2, &["a", "b"]), ["CANCELED", "CANCELED"]);
}

#[test]
fn it_counts_over_restarts_and_ends_a_run_at_once_that_comes_too_late() {
    let spec = "timeout: 1h\nsteps: [{ id: a, command: say, args: x }, { id: b, hold: { signal: go }, needs: a }]";
    let journal = Memory::default();
    assert_eq!(statuses(&run(spec, kept(&["1"], &journal), 1)), ["WAITING"]);
    let begun = journal.runs()[&0].deadline.unwrap();
    // Another world has the same clock: the run began fifty minutes before it.
    let earlier = |minutes: i64| Some(Timestamp(begun.0 - minutes * 60_000_000));
    journal.runs().get_mut(&0).unwrap().deadline = earlier(50);
    let worked = run(spec, kept(&["1"], &journal).staying(true), 1);
    assert_eq!((statuses(&worked), worked.took.as_secs()), (vec![json!("WAITING"), json!("TIMED_OUT")], 600));
    assert_eq!(journal.runs()[&0].deadline, earlier(50));
    let late = Memory::default();
    run(spec, kept(&["1"], &late), 1);
    late.runs().get_mut(&0).unwrap().deadline = earlier(70);
    let worked = run(spec, kept(&["1"], &late), 1);
    assert_eq!((statuses(&worked), worked.took.as_secs()), (vec![json!("TIMED_OUT")], 0));
    assert_eq!(states(&worked, 0, &["a", "b"]), ["COMPLETED", "CANCELED"]);
}

#[test]
fn somebody_who_cancels_first_has_canceled_it_and_a_failure_before_it_is_not_what_ended_it() {
    let spec = "\
timeout: 5s
steps:
  - { id: bad, command: say, with: { text: x, fail: permanent }, retry: { max_attempts: 1 } }
  - { id: slow, command: say, with: { text: y, after: '9000' } }
";
    let worked = work(spec, &["1"], 1);
    assert_eq!(
        (worked.of(0, "/status"), worked.of(0, "/error_analysis/class")),
        (json!("TIMED_OUT"), json!("timeout"))
    );
    let journal = Memory::default();
    let asked = journal.asked();
    let worked = run_beside(spec, kept(&["1"], &journal), 1, |env| async move {
        env.sleep(Duration::from_secs(4)).await;
        asked.tell(0, Ask::Cancel);
    });
    assert_eq!(worked.of(0, "/status"), "CANCELED");
}

#[test]
fn a_run_that_took_too_long_takes_the_same_decisions_again_however_long_it_may_take_then() {
    let journal = Memory::default();
    let spec = format!("{SLOW}\n")
        .replace("steps:\n", "steps:\n  - { id: d, if: '${.input.ms == \"8000\"}', set: { value: 1 }, needs: a }\n");
    run(&spec, kept(&LINES, &journal), 1);
    for past in crate::replays::past(&journal) {
        for spec in [spec.clone(), spec.replace("timeout: 5s\n", "")] {
            crate::replays::same(&spec, &past);
        }
    }
}

/// Two workflows within, one of them with a time of its own.
const WITHIN: &str = "\
OUTER
steps:
  - { id: first, command: say, args: x, with: { after: '1000' } }
  - id: each
    needs: first
    for_each: { in: '${input.ms}', as: ms, tolerated_failure_percentage: 50 }
    INNER
    workflow:
      input: { ms: '${ms}' }
      spec:
        steps:
          - { id: slow, command: say, args: x, with: { after: '${input.ms}' }, compensate: { command: say, args: u } }
          - { id: after, command: say, args: '${slow.results}', with: { after: '${input.ms}' } }
  - { id: end, command: say, args: '${.each.results}' }
output_format: map
";

#[test]
fn a_workflow_in_the_place_of_a_step_has_a_time_of_its_own_and_fails_as_a_step_does() {
    let own = WITHIN.replace("OUTER\n", "").replace("INNER", "timeout: 3s");
    let worked = work(&own, &[r#"{"ms": ["2000", "100"]}"#], 1);
    assert_eq!(
        (worked.of(0, "/status"), worked.of(0, "/workflow_results/each")),
        (json!("COMPLETED"), json!([null, "x"]))
    );
    // One second before it, then three.
    assert_eq!(worked.took.as_secs(), 4);
    let worked = work(&own.replace("percentage: 50", "percentage: 0"), &[r#"{"ms": ["2000", "100"]}"#], 1);
    assert_eq!(
        (worked.of(0, "/status"), worked.of(0, "/error_analysis/class"), worked.of(0, "/error_analysis/instance")),
        (json!("FAILED"), json!("timeout"), json!("/steps/each/items/0"))
    );
    let message = "1 of 2 items failed; item 0: it took longer than its `timeout` of 3s";
    assert_eq!(worked.of(0, "/error_analysis/detail"), message);
    // It is the same where the workflow says it of itself.
    let said = WITHIN
        .replace("OUTER\n", "")
        .replace("    INNER\n", "")
        .replace("        steps", "        timeout: 3s\n        steps");
    assert_eq!(work(&said, &[r#"{"ms": ["2000", "100"]}"#], 1).of(0, "/workflow_results/each"), json!([null, "x"]));
}

#[test]
fn a_default_stands_in_for_a_workflow_that_took_too_long_and_undoing_it_is_no_part_of_its_time() {
    let alone = "\
steps:
  - id: inner
    timeout: 3s
    default: none
    workflow:
      spec: { steps: [{ id: a, command: say, args: x, compensate: { command: say, args: u } }, { id: b, hold: { signal: go }, needs: a }] }
";
    let journal = Memory::default();
    let worked = run(alone, kept(&["1"], &journal).staying(true), 1);
    assert_eq!(statuses(&worked), ["WAITING", "COMPLETED"]);
    assert_eq!((worked.of(1, "/degraded"), worked.took.as_secs()), (json!(["inner"]), 3));
    let undone = journal.runs()[&0].history.0["inner/a.compensate"].get().to_owned();
    assert!(undone.contains("COMPLETED"), "{undone}");
}

#[test]
fn the_time_of_a_run_is_over_for_the_workflows_within_it() {
    for inner in ["", "timeout: 1h"] {
        for seed in 0..4 {
            let spec = WITHIN.replace("OUTER", "timeout: 4s").replace("INNER", inner);
            let journal = Memory::default();
            let worked = run(&spec, kept(&[r#"{"ms": ["2000", "100"]}"#], &journal), seed);
            assert_eq!(
                (worked.of(0, "/status"), worked.took.as_secs()),
                (json!("TIMED_OUT"), 4),
                "{:#}",
                worked.documents[0]
            );
            assert_eq!(states(&worked, 0, &["first", "each", "end"]), ["COMPLETED", "CANCELED", "CANCELED"]);
            let of = |name: &str| journal.runs()[&0].history.0[name].get().to_owned();
            assert!(of("each[0]/slow.compensate").contains("COMPLETED"));
            assert!(of("each[1]").contains("COMPLETED"));
        }
    }
}
