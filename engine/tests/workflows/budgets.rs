//! What all runs of a job may spend together, and what becomes of those that may need more.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::Usage;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::Memory;
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run, try_run};

/// Two steps, of which each costs five tokens.
fn spec(on_exceeded: &str) -> String {
    format!(
        "budget: {{ tokens: 12, on_exceeded: {on_exceeded} }}\n\
         steps:\n  - {{ id: a, command: say, args: first }}\n  - {{ id: b, command: say, args: '${{a.results}} b', default: none }}\n"
    )
}

fn runs(journal: &Memory, spent: Usage) -> Runs {
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["1", "2", "3"]))).having_spent(spent);
    runs.with_journal(Arc::new(journal.clone()), 1)
}

fn calls<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let worked = work();
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn statuses(worked: &Worked) -> Vec<Value> {
    (0..3).map(|at| worked.of(at, "/status")).collect()
}

#[test]
fn runs_that_may_need_more_than_is_left_fail_by_themselves() {
    let spec = spec("fail").replace(", default: none", "");
    let (worked, calls) = calls(|| run(&spec, runs(&Memory::default(), Usage::default()), 1));
    assert_eq!(calls, 2, "12 tokens are enough for two requests of 5");
    assert!(statuses(&worked).iter().filter(|s| **s == "FAILED").count() >= 2, "{:?}", statuses(&worked));
    let failed = (0..3).find(|at| worked.of(*at, "/status") == "FAILED").unwrap();
    assert_eq!(worked.of(failed, "/error_analysis/class"), "budget");
    let detail = worked.of(failed, "/error_analysis/detail");
    assert!(detail.as_str().unwrap().starts_with("the budget of the job is spent: 10 of 12 tokens"), "{detail}");
}

#[test]
fn what_is_not_asked_any_more_gives_its_default_and_counts_as_degraded() {
    let (worked, calls) = calls(|| run(&spec("degrade"), runs(&Memory::default(), Usage::default()), 1));
    assert_eq!((calls, statuses(&worked)), (2, vec![json!("COMPLETED"); 3]));
    let degraded: Vec<Value> = (0..3).map(|at| worked.of(at, "/degraded")).collect();
    assert_eq!(degraded.iter().map(|ids| ids.as_array().map_or(0, Vec::len)).sum::<usize>(), 4, "{degraded:?}");
    assert_eq!(
        (0..3).filter(|at| worked.of(*at, "/workflow_results/b") == "none").count(),
        3 - usize::from(degraded.contains(&Value::Null))
    );
}

#[test]
fn a_job_that_pauses_goes_on_with_more_and_counts_what_it_has_spent() {
    let journal = Memory::default();
    let (stopped, first) = calls(|| try_run(&spec("pause"), runs(&journal, Usage::default()), 1));
    let error = stopped.err().unwrap().to_string();
    assert!(error.contains("is spent: 10 of 12 tokens") && error.contains("goes on where it stopped"), "{error}");
    let spent = Usage { input_tokens: 6, output_tokens: 4, usd: 1.0 };
    // The same budget is spent at once.
    let (again, none) = calls(|| try_run(&spec("pause"), runs(&journal, spent), 2));
    assert_eq!((again.is_err(), none), (true, 0));
    let more = spec("pause").replace("tokens: 12", "tokens: 30");
    let (worked, rest) = calls(|| run(&more, runs(&journal, spent), 3));
    assert_eq!((first, rest, statuses(&worked)), (2, 4, vec![json!("COMPLETED"); 3]));
}
