//! What was asked before is answered from the cache: by whichever run, as long as it holds, and never when it failed.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::Cache;
use bourn_engine::api::cache::Memory as Kept;
use bourn_engine::api::memo::Key;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::Memory;
use bourn_engine::time::Timestamp;
use bourn_engine::workflow::Runs;
use bourn_engine::{Error, Kind};
use futures::FutureExt;
use futures::future::{BoxFuture, ready};
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run};

/// Runs a workflow for each line, and counts the calls.
fn work(spec: &str, lines: &[&str], cache: &Arc<dyn Cache>) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(lines))).with_cache(cache.clone());
    let worked = run(spec, runs.with_journal(Arc::new(Memory::default()), 1), 1);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn kept() -> Arc<dyn Cache> {
    Arc::new(Kept::default())
}

fn statuses(worked: &Worked, step: &str) -> Vec<String> {
    let status = |at: usize| worked.of(at, &format!("/execution_metrics/steps/{step}/status"));
    let mut all: Vec<_> = (0..worked.documents.len()).map(|at| status(at).as_str().unwrap().to_owned()).collect();
    all.sort();
    all
}

const ASKS: &str = "steps: [ { id: ask, say: { text: '${input.a}', after: '50' }, cache: {} } ]";

#[test]
fn of_runs_that_ask_the_same_at_once_one_asks_and_the_others_have_its_answer_for_nothing() {
    let lines = ["{\"a\": 1}", "{\"a\": 1, \"b\": 2}", "{\"a\": 2}", "{\"a\": 1}", "{\"a\": 2}"];
    let (worked, calls) = work(ASKS, &lines, &kept());
    assert_eq!(
        (calls, statuses(&worked, "ask").as_slice()),
        (2, ["CACHED", "CACHED", "CACHED", "COMPLETED", "COMPLETED"].map(str::to_owned).as_slice())
    );
    let outputs: Vec<_> = (0..5).map(|at| worked.of(at, "/final_output")).collect();
    assert_eq!(outputs, ["1", "1", "2", "1", "2"]);
    let paid = |at: usize| worked.of(at, "/execution_metrics/usage/usd").as_f64().unwrap();
    assert_eq!((0..5).map(paid).sum::<f64>(), 1.0);
    let attempts = |at: usize| worked.of(at, "/execution_metrics/attempts").as_u64().unwrap();
    assert_eq!((0..5).map(attempts).sum::<u64>(), 2);
}

#[test]
fn an_answer_holds_for_its_time_and_for_every_step_that_asks_the_same() {
    let spec = |ttl: &str, version: &str| {
        format!(
            "steps:\n  - {{ id: first, say: {{ text: '${{input}}' }}, cache: {{ ttl: {ttl} }} }}\n\
             \x20 - {{ id: later, hold: {{ seconds: 10 }}, needs: first }}\n\
             \x20 - {{ id: again, say: {{ text: '${{input}}' }}, cache: {{ ttl: {ttl}, version: '{version}' }}, needs: later }}\n"
        )
    };
    let again = |ttl: &str, version: &str| {
        let (worked, calls) = work(&spec(ttl, version), &["\"x\""], &kept());
        (statuses(&worked, "again").remove(0), calls)
    };
    assert_eq!(again("60s", ""), ("CACHED".into(), 1));
    assert_eq!(again("5s", ""), ("COMPLETED".into(), 2));
    assert_eq!(again("60s", "2"), ("COMPLETED".into(), 2));
}

#[test]
fn what_failed_is_not_kept_and_who_waited_for_it_asks_for_itself() {
    let spec =
        "steps: [ { id: ask, say: { text: x, after: '50', fail: permanent }, cache: {}, retry: { max_attempts: 1 } } ]";
    let (worked, calls) = work(spec, &["1", "2", "3"], &kept());
    assert_eq!((calls, statuses(&worked, "ask")), (3, vec!["FAILED".to_owned(); 3]));
    // Nor is what a step gives when it has failed.
    let (cache, spec) = (kept(), spec.replace("retry", "default: none, retry"));
    let both = [work(&spec, &["1"], &cache), work(&spec, &["1"], &cache)];
    assert!(both.iter().all(|(worked, calls)| *calls == 1 && worked.of(0, "/final_output") == "none"));
    // What a fallback gave is, for those that come to it.
    let spec = spec.replace("default: none", "fallback: [{ say: { text: y } }]");
    let (worked, calls) = work(&spec, &["1"], &cache);
    assert_eq!((worked.of(0, "/final_output"), calls), ("y".into(), 2));
    let (worked, calls) = work(&spec, &["1"], &cache);
    let step = worked.of(0, "/execution_metrics/steps/ask");
    assert_eq!(
        (&step["status"], &step["fallback"], &step["attempts"], calls),
        (&"CACHED".into(), &1.into(), &1.into(), 1)
    );
}

#[test]
fn elements_of_a_list_are_looked_up_one_by_one() {
    let spec = "steps: [ { id: each, for_each: { in: '${input}' }, say: { text: 'of ${item}' }, cache: {} } ]";
    let cache = kept();
    let (worked, calls) = work(spec, &["[1, 2, 1]"], &cache);
    assert_eq!((calls, worked.of(0, "/final_output")), (2, json!(["of 1", "of 2", "of 1"])));
    assert_eq!(statuses(&worked, "each"), ["COMPLETED"]);
    let (worked, calls) = work(spec, &["[2, 1]", "[3, 1]"], &cache);
    assert_eq!((calls, statuses(&worked, "each")), (1, vec!["CACHED".to_owned(), "COMPLETED".to_owned()]));
}

#[test]
fn what_the_cache_gave_is_kept_in_the_journal_and_read_by_what_follows_and_is_not_undone() {
    let spec = "steps:\n\
        \x20 - { id: ask, say: { text: x }, cache: {}, compensate: { say: { text: undone } } }\n\
        \x20 - { id: read, say: { text: '${ask.results} ${ask.status}', fail: '${input}' }, retry: { max_attempts: 1 } }\n";
    let (cache, journal) = (kept(), Memory::default());
    let (worked, _) = work(spec, &["\"\""], &cache);
    assert_eq!(worked.of(0, "/final_output"), "x COMPLETED");
    let work = |line: &str, journal: &Memory| {
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&[line]))).with_cache(cache.clone());
        run(spec, runs.with_journal(Arc::new(journal.clone()), 1), 1)
    };
    assert_eq!(work("\"\"", &journal).of(0, "/final_output"), "x CACHED");
    let record: Value = serde_json::from_str(journal.runs()[&0].history.0["ask"].get()).unwrap();
    assert_eq!(
        (&record["status"], &record["results"], &record["attempts"]),
        (&"CACHED".into(), &"x".into(), &0.into())
    );
    let failed = work("\"permanent\"", &Memory::default());
    assert_eq!(failed.of(0, "/status"), "FAILED");
    let undo = failed.of(0, "/execution_metrics/steps/ask.compensate");
    assert_eq!((&undo["status"], &undo["reason"]), (&"SKIPPED".into(), &"`ask` was answered from the cache".into()));
}

/// A stage says nothing of what its answer depends on.
#[test]
fn where_nobody_knows_what_an_answer_depends_on_the_whole_row_counts_but_not_when_it_came() {
    // One after the other, so that what was said was said at other times.
    let spec = "optimization: { max_concurrency: 1 }\nsteps:\n  - { id: said, say: { text: '${input.a}', after: '${input.after}' } }\n\
                \x20 - { id: count, letters: { of: '${said.results}' }, cache: {}, needs: said }\n";
    let cache = kept();
    let counted = |lines: &[&str]| statuses(&work(spec, lines, &cache).0, "count");
    assert_eq!(counted(&["{\"a\": \"x\", \"after\": 0}"]), ["COMPLETED"]);
    assert_eq!(counted(&["{\"a\": \"x\", \"after\": 0}"]), ["CACHED"]);
    assert_eq!(counted(&["{\"a\": \"x\", \"after\": 70}"]), ["COMPLETED"]);
    assert_eq!(counted(&["{\"a\": \"y\", \"after\": 70}"; 2]), ["CACHED", "COMPLETED"]);
}

#[test]
fn steps_that_change_nothing_are_looked_up_when_the_spec_says_it_of_all() {
    let spec = "optimization: { cache: true }\nsteps:\n  - { id: a, say: { text: x }, stateless: true }\n  - { id: b, say: { text: y } }\n";
    let (worked, calls) = work(spec, &["1", "2"], &kept());
    assert_eq!((calls, statuses(&worked, "a")), (3, vec!["CACHED".to_owned(), "COMPLETED".to_owned()]));
    assert_eq!(statuses(&worked, "b"), ["COMPLETED", "COMPLETED"]);
    let applied = |row: usize| worked.of(row, "/performance_report/optimization_applied");
    let answered = json!({ "name": "cache", "effect": "1 answer from the cache", "answers": 1 });
    let has = |row: usize| applied(row).as_array().is_some_and(|all| all.contains(&answered));
    // Which of the two runs asked first is not said.
    assert!(has(0) != has(1), "{} {}", applied(0), applied(1));
}

/// It fails whatever it is asked.
struct Gone;

impl Cache for Gone {
    fn find(&self, _: Key, _: Timestamp) -> BoxFuture<'_, bourn_engine::Result<Option<Vec<u8>>>> {
        ready(Err(Error::new(Kind::Io, "gone"))).boxed()
    }

    fn keep(&self, _: Key, _: Vec<u8>, _: Timestamp) -> BoxFuture<'_, bourn_engine::Result<()>> {
        ready(Err(Error::new(Kind::Io, "gone"))).boxed()
    }
}

#[test]
fn a_cache_that_is_gone_has_nothing_and_the_run_completes() {
    let (worked, calls) = work(ASKS, &["{\"a\": 1}", "{\"a\": 1}"], &(Arc::new(Gone) as Arc<dyn Cache>));
    assert_eq!((calls, statuses(&worked, "ask")), (2, vec!["COMPLETED".to_owned(); 2]));
}
