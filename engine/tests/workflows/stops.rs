//! Runs that somebody cancels or pauses while they are under way.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Ask, Journal as _, Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::json;

use crate::kinds::{SEEN, Worked, lines_of, run_beside};

/// Asks this of the first run when so much time has passed; how it ended, and how many calls there were.
fn work(spec: &str, journal: &Memory, ask: Option<(u64, Ask)>, seed: u64) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["1", "2"]))).with_journal(Arc::new(journal.clone()), 1);
    let asked = journal.asked();
    let worked = run_beside(spec, runs, seed, |env| async move {
        if let Some((millis, ask)) = ask {
            env.sleep(Duration::from_millis(millis)).await;
            asked.tell(0, ask);
        }
    });
    // What a run is comes to the same in the journal and in its document.
    for (at, run) in journal.runs().values().enumerate() {
        assert_eq!(worked.of(at, "/status"), run.state.name());
    }
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn states(worked: &Worked, steps: &[&str]) -> Vec<String> {
    let state = |step| worked.of(0, &format!("/execution_metrics/steps/{step}/status"));
    steps.iter().map(|step| state(step).as_str().unwrap().to_owned()).collect()
}

/// Ten seconds in three steps, with something to undo and something at the end.
const SLOW: &str = "\
steps:
  - { id: a, command: say, args: a, with: { after: '1000' }, compensate: { command: say, args: undone } }
  - { id: b, command: say, args: b, with: { after: '8000' }, needs: a, default: none }
  - { id: c, command: say, args: c, with: { after: '1000' }, needs: b }
finally:
  - { id: last, command: say, args: 'b ${b.status}' }
output_format: map
";

#[test]
fn a_run_that_is_canceled_drops_what_is_in_flight_and_cleans_up_and_the_others_go_on() {
    for seed in 0..5 {
        let journal = Memory::default();
        let (worked, _) = work(SLOW, &journal, Some((3_000, Ask::Cancel)), seed);
        assert_eq!(states(&worked, &["a", "b", "c"]), ["COMPLETED", "CANCELED", "CANCELED"]);
        assert_eq!(states(&worked, &["a.compensate", "last"]), ["COMPLETED", "COMPLETED"]);
        assert_eq!((worked.of(0, "/status"), worked.of(0, "/compensated")), (json!("CANCELED"), json!(["a"])));
        assert_eq!(worked.of(0, "/execution_metrics/steps/b/duration_ms"), 2_000);
        assert_eq!((worked.of(1, "/status"), worked.of(1, "/workflow_results/c")), (json!("COMPLETED"), json!("c")));
        assert_eq!(journal.runs()[&0].state, RunState::Canceled);
    }
}

#[test]
fn a_run_that_waits_to_be_tried_again_or_for_a_time_is_canceled_at_once() {
    for step in [
        "command: say, with: { text: x, fail: transient }, retry: { initial_interval: 50s, jitter: false }",
        "hold: { seconds: 50 }",
    ] {
        let spec = format!("steps:\n  - {{ id: a, {step} }}\n");
        let journal = Memory::default();
        let asked = journal.asked();
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&["1"]))).with_journal(Arc::new(journal.clone()), 1);
        let worked = run_beside(&spec, runs, 1, |env| async move {
            env.sleep(Duration::from_secs(2)).await;
            asked.tell(0, Ask::Cancel);
        });
        assert_eq!((worked.of(0, "/status"), worked.took.as_secs()), (json!("CANCELED"), 2), "{step}");
        assert_eq!(states(&worked, &["a"]), ["CANCELED"]);
    }
}

#[test]
fn a_run_that_is_paused_ends_what_is_in_flight_and_goes_on_where_it_was() {
    for seed in 0..5 {
        let journal = Memory::default();
        let (worked, calls) = work(SLOW, &journal, Some((3_000, Ask::Pause)), seed);
        assert_eq!(states(&worked, &["a", "b", "c", "last"]), ["COMPLETED", "COMPLETED", "PENDING", "PENDING"]);
        assert_eq!((worked.of(0, "/status"), worked.of(1, "/status")), (json!("PAUSED"), json!("COMPLETED")));
        assert_eq!((worked.of(0, "/recovery_plan"), worked.of(0, "/error_analysis")), (json!(null), json!(null)));
        // Two steps of the one, four of the other.
        assert_eq!(calls, 6);
        assert_eq!(work(SLOW, &journal, None, seed).1, 0);
        journal.asked().tell(0, Ask::Resume);
        let (ended, calls) = work(SLOW, &journal, None, seed);
        assert_eq!((ended.of(0, "/status"), calls), (json!("COMPLETED"), 2));
    }
}

#[test]
fn elements_of_a_list_that_were_not_begun_are_left_and_those_that_were_done_are_kept() {
    let spec = "\
steps:
  - { id: list, command: say, args: x }
  - id: each
    needs: list
    for_each: { in: '${.list | [1, 2, 3, 4]}', as: n, max_concurrency: 1, tolerated_failure_percentage: 100 }
    command: say
    with: { text: '${n}', after: '1000' }
";
    let runs = || Runs::of("lines", BoxConnector::new(lines_of(&["1"])));
    for (ask, status, calls) in [(Ask::Cancel, "CANCELED", 4), (Ask::Pause, "PAUSED", 4)] {
        let journal = Memory::default();
        let before = SEEN.with(|seen| seen.calls.load(SeqCst));
        let asked = journal.asked();
        let worked = run_beside(spec, runs().with_journal(Arc::new(journal.clone()), 1), 1, |env| async move {
            env.sleep(Duration::from_millis(2_500)).await;
            asked.tell(0, ask);
        });
        assert_eq!(worked.of(0, "/status"), status);
        assert_eq!(SEEN.with(|seen| seen.calls.load(SeqCst)) - before, calls);
        let kept = |name: &str| journal.runs()[&0].history.0.contains_key(name);
        assert!(kept("each[0]") && kept("each[1]"));
        assert_eq!(kept("each"), ask == Ask::Cancel);
        assert_eq!(kept("each[3]"), ask == Ask::Cancel);
    }
}

/// The same ten seconds within another workflow, for each of two elements.
const WITHIN: &str = "\
steps:
  - id: each
    for_each: { in: '${[1, 2]}' }
    workflow:
      spec:
        steps:
          - { id: a, command: say, args: a, with: { after: '1000' }, compensate: { command: say, args: undone } }
          - { id: b, command: say, args: b, with: { after: '8000' }, needs: a }
          - { id: c, command: say, args: c, with: { after: '1000' }, needs: b }
  - { id: end, command: say, args: '${each.results}' }
output_format: map
";

#[test]
fn what_is_asked_of_a_run_is_asked_of_the_workflows_within_it() {
    for seed in 0..4 {
        let journal = Memory::default();
        let (canceled, _) = work(WITHIN, &journal, Some((3_000, Ask::Cancel)), seed);
        assert_eq!(states(&canceled, &["each", "end"]), ["CANCELED", "CANCELED"], "{:#}", canceled.documents[0]);
        // Both were undone, and nothing that came later was begun.
        let of = |name: &str| journal.runs()[&0].history.0.get(name).map(|r| r.get().to_owned()).unwrap_or_default();
        for at in 0..2 {
            assert!(of(&format!("each[{at}]/a.compensate")).contains("COMPLETED"));
            assert!(of(&format!("each[{at}]/c")).contains("CANCELED"));
        }
        assert_eq!(canceled.of(1, "/status"), "COMPLETED");

        let journal = Memory::default();
        let (paused, calls) = work(WITHIN, &journal, Some((3_000, Ask::Pause)), seed);
        assert_eq!(states(&paused, &["each", "end"]), ["PENDING", "PENDING"], "{:#}", paused.documents[0]);
        assert_eq!((paused.of(0, "/status"), calls), (json!("PAUSED"), 4 + 7));
        journal.asked().tell(0, Ask::Resume);
        let (ended, calls) = work(WITHIN, &journal, None, seed);
        assert_eq!((ended.of(0, "/workflow_results/each"), calls), (json!(["c", "c"]), 3), "{:#}", ended.documents[0]);
    }
}

#[test]
fn a_workflow_that_undoes_a_step_is_done_in_a_run_that_was_canceled() {
    let undo = "compensate: { workflow: { spec: { steps: [{ id: u, command: say, args: undone }] } } }";
    let spec = SLOW.replace("compensate: { command: say, args: undone }", undo);
    let (worked, _) = work(&spec, &Memory::default(), Some((3_000, Ask::Cancel)), 1);
    assert_eq!((worked.of(0, "/status"), worked.of(0, "/compensated")), (json!("CANCELED"), json!(["a"])));
}
