//! Steps that wait: in this process for a short time, in the journal for a long one or a signal.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{History, Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run};

/// A step that waits between others, and one beside it.
fn spec(hold: &str) -> String {
    format!(
        "steps:\n  - {{ id: before, command: say, args: b }}\n  - {{ id: held, hold: {hold}, needs: before }}\n\
         \x20 - {{ id: side, command: say, args: s }}\n  - {{ id: after, command: say, args: '${{.held.results}} ${{side.results}}' }}\n\
         output_format: map\n"
    )
}

fn work(spec: &str, journal: &Memory) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"])));
    let worked = run(spec, runs.with_journal(Arc::new(journal.clone()), 1), 1);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn known(journal: &Memory, name: &str) -> Option<Value> {
    journal.runs()[&0].history.0.get(name).map(|data| serde_json::from_str(data.get()).unwrap())
}

fn put(journal: &Memory, name: &str, data: &Value) {
    let data = RawValue::from_string(data.to_string()).unwrap();
    journal.runs().get_mut(&0).unwrap().history.0.insert(name.to_owned(), data);
}

#[test]
fn a_short_wait_passes_in_the_process_and_is_not_begun_anew_after_a_crash() {
    let (spec, journal) = (spec("{ seconds: 30 }"), Memory::default());
    let (worked, calls) = work(&spec, &journal);
    assert_eq!((worked.of(0, "/status"), calls), (json!("COMPLETED"), 3));
    assert_eq!(worked.of(0, "/workflow_results/after"), "null s");
    assert!(worked.took >= Duration::from_secs(30) && worked.took < Duration::from_secs(31), "{:?}", worked.took);
    assert_eq!(worked.of(0, "/execution_metrics/steps/held/duration_ms"), 30_000);
    // A crash came during the wait, of which two seconds are left.
    let mut wait = known(&journal, &History::wait("held")).unwrap();
    wait["due"] = (wait["due"].as_i64().unwrap() - 28_000_000).into();
    put(&journal, &History::wait("held"), &wait);
    journal.runs().get_mut(&0).unwrap().history.0.retain(|step, _| step != "held" && step != "after");
    let (gone_on, calls) = work(&spec, &journal);
    assert_eq!((gone_on.of(0, "/status"), calls), (json!("COMPLETED"), 1));
    assert!(gone_on.took <= Duration::from_secs(3), "{:?}", gone_on.took);
}

#[test]
fn a_long_wait_leaves_the_process_and_the_run_comes_back() {
    let (spec, journal) = (spec("{ seconds: 7200 }"), Memory::default());
    let (worked, calls) = work(&spec, &journal);
    assert!(worked.took < Duration::from_secs(1), "{:?}", worked.took);
    // What does not need the step has ended.
    assert_eq!((worked.of(0, "/status"), calls), (json!("WAITING"), 2));
    let states =
        ["before", "held", "side", "after"].map(|s| worked.of(0, &format!("/execution_metrics/steps/{s}/status")));
    assert_eq!(states, ["COMPLETED", "WAITING", "COMPLETED", "PENDING"]);
    assert_eq!(worked.of(0, "/partial_results"), json!({ "before": "b", "side": "s" }));
    assert_eq!((worked.of(0, "/recovery_plan"), worked.of(0, "/error_analysis")), (Value::Null, Value::Null));
    assert_eq!(journal.runs()[&0].state, RunState::Waiting);
    assert_eq!((known(&journal, "held"), known(&journal, "after")), (None, None));
    // It is asked too soon, and then in time.
    let (still, none) = work(&spec, &journal);
    assert_eq!((still.of(0, "/status"), none), (json!("WAITING"), 0));
    let mut wait = known(&journal, &History::wait("held")).unwrap();
    wait["due"] = wait["since"].clone();
    put(&journal, &History::wait("held"), &wait);
    let (ended, calls) = work(&spec, &journal);
    assert_eq!((ended.of(0, "/status"), calls), (json!("COMPLETED"), 1));
    assert_eq!(journal.runs()[&0].state, RunState::Completed);
}

#[test]
fn a_signal_is_what_the_step_gives_and_one_that_does_not_come_in_time_fails_it() {
    let (spec, journal) = (spec("{ signal: go, seconds: 60 }"), Memory::default());
    let (worked, _) = work(&spec, &journal);
    assert_eq!(worked.of(0, "/status"), "WAITING");
    let reason = worked.of(0, "/execution_metrics/steps/held/reason");
    assert!(reason.as_str().unwrap().starts_with("waits for the signal `go` until "), "{reason}");
    let late = Memory::default();
    work(&spec, &late);
    let mut wait = known(&late, &History::wait("held")).unwrap();
    wait["due"] = wait["since"].clone();
    put(&late, &History::wait("held"), &wait);
    let (timed_out, _) = work(&spec, &late);
    assert_eq!(timed_out.of(0, "/status"), "FAILED");
    assert_eq!(timed_out.of(0, "/execution_metrics/steps/held/status"), "TIMED_OUT");
    assert_eq!(timed_out.of(0, "/error_analysis/detail"), "no signal `go` has come");
    put(&journal, &History::signal("stop"), &json!(1));
    assert_eq!(work(&spec, &journal).0.of(0, "/status"), "WAITING");
    put(&journal, &History::signal("go"), &json!({ "by": "me" }));
    let (ended, calls) = work(&spec, &journal);
    assert_eq!((ended.of(0, "/workflow_results/held"), calls), (json!({ "by": "me" }), 1));
    assert_eq!(ended.of(0, "/workflow_results/after"), "{\"by\":\"me\"} s");
}

/// Three runs, of which the first ends with the signal that it has.
fn three(journal: &Memory) -> Worked {
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}", "{\"n\": 1}", "no JSON"])));
    run(&spec("{ signal: go, seconds: 86400 }"), runs.with_journal(Arc::new(journal.clone()), 1), 1)
}

#[test]
fn a_run_in_which_there_is_nothing_to_do_passes_no_step_and_its_document_is_the_same() {
    let journal = Memory::default();
    let begun = three(&journal);
    let states = |worked: &Worked| [0, 1, 2].map(|run| worked.of(run, "/status"));
    assert_eq!(states(&begun), ["WAITING", "WAITING", "FAILED"]);
    // Of the one whose input is none no step is asked anything.
    assert_eq!((begun.read["before"], begun.read["@end"]), (2, 3));
    put(&journal, &History::signal("go"), &json!("now"));
    let gone_on = three(&journal);
    assert_eq!(states(&gone_on), ["COMPLETED", "WAITING", "FAILED"]);
    // The one that goes on is the only one that passes, and what it has is asked nobody again.
    assert_eq!((gone_on.read["before"], gone_on.read["@end"], gone_on.read["@result"]), (0, 1, 3));
    let ended = three(&journal);
    assert_eq!((ended.read["before"], ended.read["@end"], ended.read["@result"]), (0, 0, 3));
    assert_eq!(ended.documents[0], gone_on.documents[0]);
    assert_eq!(ended.documents[2], begun.documents[2]);
    // The time that it has waited aside.
    let timeless = |worked: &Worked| {
        let mut document = worked.documents[1].clone();
        for place in ["/execution_metrics", "/execution_metrics/steps/held"] {
            document.pointer_mut(place).unwrap()["duration_ms"] = Value::Null;
        }
        for figure in ["critical_path", "critical_path_ms", "steps_ms", "optimization_applied"] {
            document["performance_report"][figure] = Value::Null;
        }
        document
    };
    assert_eq!(timeless(&ended), timeless(&begun));
}
