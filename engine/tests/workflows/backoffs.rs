//! Attempts that come later: a wait between two of them outlives the process, and so does how many there were.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory, RunState};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::Runs;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run};

/// A step that fails in this way, beside another one and before a third.
fn spec(fail: &str, more: &str) -> String {
    format!(
        "steps:\n  - {{ id: ask, say: {{ text: a, fail: '{fail}' }}, {more} }}\n\
         \x20 - {{ id: side, command: say, args: s }}\n  - {{ id: after, command: say, args: '${{ask.results}} ${{side.results}}' }}\n\
         output_format: map\n"
    )
}

fn work(spec: &str, journal: &Memory) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&[r#"{"list": ["", "later:600", "later:900"]}"#])));
    let worked = run(spec, runs.with_journal(Arc::new(journal.clone()), 1), 1);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn known(journal: &Memory, step: &str) -> Option<Value> {
    let runs = journal.runs();
    let data = runs[&0].history.0.get(&History::backoff(step));
    data.map(|data| serde_json::from_str(data.get()).unwrap())
}

/// The next attempt comes so long after the first one.
fn due(journal: &Memory, step: &str, after: Duration) {
    let mut attempts = known(journal, step).unwrap();
    let micros = i64::try_from(after.as_micros()).unwrap();
    attempts["due"] = (attempts["since"].as_i64().unwrap() + micros).into();
    let data = RawValue::from_string(attempts.to_string()).unwrap();
    journal.runs().get_mut(&0).unwrap().history.0.insert(History::backoff(step), data);
}

/// A round that was to come ten minutes after the last one comes at this time of the world, which begins anew for each process.
fn due_at(journal: &Memory, step: &str, time: Duration) {
    let begin = Simulation::new(1).env().wall();
    let mut attempts = known(journal, step).unwrap();
    attempts["due"] = begin.after(time).0.into();
    attempts["since"] = attempts["due"].clone();
    let data = RawValue::from_string(attempts.to_string()).unwrap();
    journal.runs().get_mut(&0).unwrap().history.0.insert(History::backoff(step), data);
}

/// What a crash leaves that came before these steps ended.
fn forget(journal: &Memory, steps: &[&str]) {
    journal.runs().get_mut(&0).unwrap().history.0.retain(|step, _| !steps.contains(&step.as_str()));
}

#[test]
fn an_attempt_that_is_long_off_leaves_the_process_and_comes_when_it_is_time() {
    let (spec, journal) = (spec("later:7200", "retry: { max_attempts: 2 }"), Memory::default());
    let (worked, calls) = work(&spec, &journal);
    assert!(worked.took < Duration::from_secs(1), "{:?}", worked.took);
    assert_eq!((worked.of(0, "/status"), calls), (json!("WAITING"), 2));
    let states = ["ask", "side", "after"].map(|s| worked.of(0, &format!("/execution_metrics/steps/{s}/status")));
    assert_eq!(states, ["BACKING_OFF", "COMPLETED", "PENDING"]);
    assert_eq!(worked.of(0, "/execution_metrics/steps/ask/attempts"), 1);
    let reason = worked.of(0, "/execution_metrics/steps/ask/reason");
    assert!(reason.as_str().unwrap().starts_with("attempt 2 comes at "), "{reason}");
    assert!(reason.as_str().unwrap().ends_with(": busy"), "{reason}");
    assert_eq!((worked.of(0, "/recovery_plan"), worked.of(0, "/error_analysis")), (Value::Null, Value::Null));
    assert_eq!(journal.runs()[&0].state, RunState::Waiting);
    // It is asked too soon, and then in time.
    let (still, none) = work(&spec, &journal);
    assert_eq!((still.of(0, "/status"), none), (json!("WAITING"), 0));
    assert_eq!(still.of(0, "/execution_metrics/steps/ask/attempts"), 1);
    due(&journal, "ask", Duration::from_secs(20));
    let (ended, calls) = work(&spec, &journal);
    assert_eq!((ended.of(0, "/status"), calls), (json!("COMPLETED"), 2));
    assert_eq!(ended.of(0, "/execution_metrics/steps/ask/attempts"), 2);
    assert!(ended.took >= Duration::from_secs(19) && ended.took < Duration::from_secs(21), "{:?}", ended.took);
    assert!(ended.of(0, "/execution_metrics/steps/ask/duration_ms").as_u64().unwrap() >= 20_000);
}

#[test]
fn attempts_are_not_begun_anew_by_another_process() {
    let (spec, journal) = (spec("always:5", "retry: { max_attempts: 3 }"), Memory::default());
    let (worked, calls) = work(&spec, &journal);
    assert_eq!((worked.of(0, "/status"), calls), (json!("FAILED"), 4));
    assert!(worked.took >= Duration::from_secs(10) && worked.took < Duration::from_secs(11), "{:?}", worked.took);
    // A crash came while it waited for the third.
    assert_eq!(known(&journal, "ask").unwrap()["counted"], 2);
    due(&journal, "ask", Duration::from_secs(3));
    forget(&journal, &["ask", "after"]);
    let (gone_on, calls) = work(&spec, &journal);
    assert_eq!((gone_on.of(0, "/status"), calls), (json!("FAILED"), 1));
    assert_eq!(gone_on.of(0, "/error_analysis/attempts"), 3);
    assert!(
        gone_on.took >= Duration::from_millis(2_900) && gone_on.took < Duration::from_secs(4),
        "{:?}",
        gone_on.took
    );
}

#[test]
fn what_is_refused_because_of_a_limit_waits_as_long_as_was_asked_and_counts_as_no_attempt() {
    let spec = spec("limited:7", "retry: { max_attempts: 1 }").replace("fail:", "limits: { adaptive: true }, fail:");
    let journal = Memory::default();
    let (worked, calls) = work(&spec, &journal);
    assert_eq!((worked.of(0, "/status"), calls), (json!("COMPLETED"), 4));
    assert!(worked.took >= Duration::from_secs(7), "{:?}", worked.took);
    assert_eq!(known(&journal, "ask").unwrap()["counted"], 0);
    // A crash came in between, of which another process knows nothing else.
    due(&journal, "ask", Duration::from_secs(6));
    forget(&journal, &["ask", "after"]);
    let (gone_on, calls) = work(&spec, &journal);
    assert_eq!((gone_on.of(0, "/status"), calls), (json!("COMPLETED"), 2));
    assert!(gone_on.took >= Duration::from_millis(5_900), "{:?}", gone_on.took);
}

#[test]
fn a_short_wait_is_not_noted_and_a_job_without_a_journal_waits_in_the_process() {
    let (spec, journal) = (spec("later:1", "retry: { max_attempts: 2, initial_interval: 1ms }"), Memory::default());
    let (worked, _) = work(&spec, &journal);
    assert_eq!((worked.of(0, "/status"), known(&journal, "ask")), (json!("COMPLETED"), None));
    let alone = spec.replace("later:1", "later:600");
    let worked = run(&alone, Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))), 1);
    assert_eq!(worked.of(0, "/status"), "COMPLETED");
    assert!(worked.took >= Duration::from_mins(10), "{:?}", worked.took);
}

#[test]
fn what_failed_for_good_is_not_tried_again_when_its_fallback_is() {
    let more = "retry: { max_attempts: 2, initial_interval: 1ms }, \
                fallback: [{ say: { text: other, fail: 'later:600' }, retry: { max_attempts: 2 } }]";
    let (spec, journal) = (spec("transient", more), Memory::default());
    let (worked, calls) = work(&spec, &journal);
    assert_eq!((worked.of(0, "/execution_metrics/steps/ask/status"), calls), (json!("BACKING_OFF"), 4));
    due(&journal, "ask", Duration::ZERO);
    let (ended, calls) = work(&spec, &journal);
    assert_eq!((ended.of(0, "/workflow_results/after"), calls), (json!("other s"), 2));
    assert_eq!(ended.of(0, "/execution_metrics/steps/ask/attempts"), 4);
    assert_eq!(ended.of(0, "/execution_metrics/steps/ask/fallback"), 1);
}

#[test]
fn elements_and_rounds_have_attempts_of_their_own() {
    let each = "
steps:
  - id: each
    for_each: { in: '${input.list}', as: fail }
    say: { text: done, fail: '${fail}' }
    retry: { max_attempts: 2 }
  - id: rounds
    repeat: { until: '${.rounds.rounds >= 2}', max_iterations: 2 }
    say: { text: done, fail: '${.rounds.rounds | if . == 1 then \"later:600\" else \"\" end}' }
    retry: { max_attempts: 2 }
output_format: map
";
    let journal = Memory::default();
    let (worked, calls) = work(each, &journal);
    assert_eq!((worked.of(0, "/status"), calls), (json!("WAITING"), 5));
    let status = |of: &Worked, step| of.of(0, &format!("/execution_metrics/steps/{step}/status"));
    assert_eq!((status(&worked, "each"), status(&worked, "rounds")), (json!("BACKING_OFF"), json!("BACKING_OFF")));
    for step in ["each[1]", "each[2]", "rounds#2"] {
        due(&journal, step, Duration::ZERO);
    }
    let (ended, calls) = work(each, &journal);
    assert_eq!((ended.of(0, "/status"), calls), (json!("COMPLETED"), 3));
    assert_eq!(ended.of(0, "/workflow_results"), json!({ "each": ["done", "done", "done"], "rounds": "done" }));
    assert_eq!(ended.of(0, "/execution_metrics/steps/rounds/attempts"), 3);
}

#[test]
fn a_step_that_waits_for_its_next_attempt_gives_its_place_to_others_and_never_more_than_there_are_ask() {
    let spec = "
optimization: { max_concurrency: 1 }
steps: [ { id: ask, say: { text: done, after: '1000', fail: '${input.fail}' }, retry: { max_attempts: 2 } } ]
";
    let lines: Vec<_> = (0..13).map(|n| format!(r#"{{"fail": "{}"}}"#, if n < 3 { "later:30" } else { "" })).collect();
    let lines: Vec<_> = lines.iter().map(String::as_str).collect();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&lines)));
    let worked = run(spec, runs.with_journal(Arc::new(Memory::default()), 1), 1);
    assert!((0..13).all(|run| worked.of(run, "/status") == "COMPLETED"));
    // The three are tried, then the others; after half a minute the three come back, one behind the other.
    assert!(worked.took >= Duration::from_secs(34) && worked.took < Duration::from_secs(35), "{:?}", worked.took);
    assert_eq!(SEEN.with(|seen| (seen.calls.load(SeqCst), seen.most.load(SeqCst))), (16, 1));
}

#[test]
fn the_next_round_comes_at_its_time_in_whatever_process() {
    let spec = "steps: [ { id: poll, say: { text: '${.poll.rounds}' }, \
                repeat: { until: '${.poll.rounds >= 3}', max_iterations: 9, every: 10m } } ]";
    let journal = Memory::default();
    let (worked, calls) = work(spec, &journal);
    assert_eq!((worked.of(0, "/status"), calls), (json!("WAITING"), 1));
    assert!(worked.took < Duration::from_secs(10), "nothing is held for so long: {:?}", worked.took);
    let reason = worked.of(0, "/execution_metrics/steps/poll/reason");
    assert!(reason.as_str().unwrap().starts_with("round 2 comes at "), "{reason}");
    // It is asked too soon, and then in time.
    let (still, calls) = work(spec, &journal);
    assert_eq!((still.of(0, "/status"), calls), (json!("WAITING"), 0));
    due_at(&journal, "poll#2", Duration::from_secs(20));
    let (second, calls) = work(spec, &journal);
    assert_eq!((second.of(0, "/status"), calls), (json!("WAITING"), 1));
    assert!(second.took >= Duration::from_secs(19) && second.took < Duration::from_secs(22), "{:?}", second.took);
    due_at(&journal, "poll#3", Duration::ZERO);
    let (ended, calls) = work(spec, &journal);
    assert_eq!((ended.of(0, "/status"), ended.of(0, "/final_output"), calls), (json!("COMPLETED"), json!("2"), 1));
    assert_eq!(ended.of(0, "/execution_metrics/steps/poll/rounds"), Value::Null);
    assert_eq!(ended.of(0, "/execution_metrics/steps/poll/attempts"), 3);
    // A job that stays until its runs have ended goes on by itself, and takes that long.
    let journal = Memory::default();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).with_journal(Arc::new(journal), 1);
    let stayed = run(spec, runs.staying(true), 1);
    assert_eq!(stayed.of(stayed.documents.len() - 1, "/status"), "COMPLETED");
    assert!(stayed.took >= Duration::from_mins(20) && stayed.took < Duration::from_mins(21), "{:?}", stayed.took);
}
