//! Runs at rest that come back in the process that they were begun in.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::env::Env;
use bourn_engine::journal::{Ask, History, Journal, Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::json;
use serde_json::value::RawValue;

use crate::kinds::{SEEN, Worked, lines_of, run_beside};

fn spec(hold: &str) -> String {
    format!(
        "steps:\n  - {{ id: before, command: say, args: '${{input.n}}' }}\n  - {{ id: held, hold: {hold}, needs: before }}\n\
         \x20 - {{ id: after, command: say, args: '${{before.results}} ${{.held.results}}' }}\n"
    )
}

/// A job that stays until all of its runs have ended.
pub fn stay<F: Future<Output = ()>>(
    spec: &str,
    lines: &[&str],
    journal: &Memory,
    beside: impl FnOnce(Env) -> F,
) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(lines)));
    let runs = runs.with_journal(Arc::new(journal.clone()), 1).staying(true);
    let worked = run_beside(spec, runs, 1, beside);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn told(worked: &Worked) -> Vec<(String, String)> {
    let of = |at: usize, path: &str| worked.of(at, path).as_str().unwrap_or_default().to_owned();
    (0..worked.documents.len()).map(|at| (of(at, "/status"), of(at, "/final_output"))).collect()
}

fn pair(status: &str, output: &str) -> (String, String) {
    (status.to_owned(), output.to_owned())
}

#[test]
fn a_run_comes_back_when_its_time_does_and_no_step_is_done_again() {
    let journal = Memory::default();
    let (worked, calls) =
        stay(&spec("{ seconds: 7200 }"), &[r#"{"n": 1}"#, "no JSON", ""], &journal, |_| std::future::ready(()));
    assert_eq!(told(&worked), [pair("WAITING", ""), pair("FAILED", ""), pair("COMPLETED", "1 null")]);
    assert_eq!(worked.documents[0]["run_id"], worked.documents[2]["run_id"]);
    assert_eq!((calls, journal.runs()[&0].state), (2, RunState::Completed));
    assert!(worked.took >= Duration::from_hours(2) && worked.took < Duration::from_secs(7_300), "{:?}", worked.took);
}

#[test]
fn a_run_comes_back_when_it_gets_a_signal_or_somebody_ends_it() {
    let journal = Memory::default();
    let other = journal.clone();
    let beside = |env: Env| async move {
        env.sleep(Duration::from_secs(100)).await;
        let go = RawValue::from_string(json!("go").to_string()).unwrap();
        other.runs().get_mut(&1).unwrap().history.0.insert(History::signal("go"), go);
        other.asked().rest().wake(1);
        env.sleep(Duration::from_secs(100)).await;
        other.asked().tell(0, Ask::Cancel);
    };
    let lines = [r#"{"n": 0}"#, r#"{"n": 1}"#, r#"{"n": 2}"#];
    let (worked, calls) = stay(&spec("{ signal: go, seconds: 600 }"), &lines, &journal, beside);
    let waiting = [pair("WAITING", ""), pair("WAITING", ""), pair("WAITING", "")];
    // Nothing came for the last one in time.
    let ended = [pair("COMPLETED", "1 go"), pair("CANCELED", ""), pair("FAILED", "")];
    assert_eq!(told(&worked), [waiting, ended].concat());
    assert_eq!(calls, 4);
    assert!(worked.took >= Duration::from_mins(10) && worked.took < Duration::from_secs(700), "{:?}", worked.took);
}

#[test]
fn a_paused_run_comes_back_when_the_pause_is_taken_back() {
    let journal = Memory::default();
    journal.asked().tell(0, Ask::Pause);
    let other = journal.clone();
    let beside = |env: Env| async move {
        env.sleep(Duration::from_secs(50)).await;
        other.asked().tell(0, Ask::Resume);
    };
    // The other one keeps the job about; for one that is paused nobody waits.
    let lines = [r#"{"n": 5}"#, r#"{"n": 6}"#];
    let (worked, calls) = stay(&spec("{ seconds: 100 }"), &lines, &journal, beside);
    let told_first = [pair("PAUSED", ""), pair("WAITING", "")];
    assert_eq!(told(&worked)[..2], told_first);
    assert_eq!(worked.documents.len(), 5);
    assert_eq!(told(&worked)[2..], [pair("WAITING", ""), pair("COMPLETED", "6 null"), pair("COMPLETED", "5 null")]);
    assert_eq!(calls, 4);
    let alone = Memory::default();
    alone.asked().tell(0, Ask::Pause);
    let (left, _) = stay(&spec("{ seconds: 100 }"), &lines[..1], &alone, |_| std::future::ready(()));
    assert_eq!(told(&left), [pair("PAUSED", "")]);
}

#[test]
fn a_long_backoff_comes_back_and_a_job_that_does_not_stay_leaves_it() {
    let spec = "steps: [{ id: ask, command: say, with: { text: done, fail: 'later:3600' } }]";
    let journal = Memory::default();
    let (worked, calls) = stay(spec, &["{}"], &journal, |_| std::future::ready(()));
    assert_eq!(told(&worked), [pair("WAITING", ""), pair("COMPLETED", "done")]);
    assert_eq!(calls, 2);
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).with_journal(Arc::new(Memory::default()), 1);
    let left = run_beside(spec, runs, 1, |_| std::future::ready(()));
    assert_eq!(told(&left), [pair("WAITING", "")]);
}
