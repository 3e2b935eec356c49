//! What each run may spend, and what becomes of one that may need more.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Memory, RunState};
use bourn_engine::workflow::Runs;
use serde_json::{Value, json};

use crate::kinds::{SEEN, Worked, lines_of, run};

/// Three steps one after the other, of which each costs five tokens, or two.
fn spec(budget: &str) -> String {
    format!(
        "budget: {budget}\nsteps:\n  - {{ id: a, command: say, args: a }}\n\
         \x20 - {{ id: b, command: say, args: b, needs: a }}\n\
         \x20 - {{ id: c, if: '${{.input == 1}}', command: say, args: c, needs: b, default: none }}\n"
    )
}

fn kept(lines: &[&str], journal: &Memory) -> Runs {
    Runs::of("lines", BoxConnector::new(lines_of(lines))).with_journal(Arc::new(journal.clone()), 1)
}

/// How it ended, and how many were asked.
fn go(spec: &str, lines: &[&str], journal: &Memory, seed: u64) -> (Worked, usize) {
    let before = SEEN.with(|seen| seen.calls.load(SeqCst));
    let worked = run(spec, kept(lines, journal), seed);
    (worked, SEEN.with(|seen| seen.calls.load(SeqCst)) - before)
}

fn statuses(worked: &Worked) -> Vec<Value> {
    (0..worked.documents.len()).map(|at| worked.of(at, "/status")).collect()
}

#[test]
fn a_run_that_may_need_more_than_is_left_to_it_fails_and_the_others_go_on() {
    let spec = spec("{ per_run: { tokens: 12 } }").replace(", default: none", "");
    for seed in 0..4 {
        let (worked, calls) = go(&spec, &["1", "2", "1", "2"], &Memory::default(), seed);
        assert_eq!(
            (statuses(&worked), calls),
            (["FAILED", "COMPLETED"].repeat(2).iter().map(|s| json!(s)).collect(), 8)
        );
        assert_eq!(
            (worked.of(0, "/error_analysis/class"), worked.of(0, "/error_analysis/instance")),
            (json!("budget"), json!("/steps/c"))
        );
        let detail = "the budget of the run is spent: 10 of 12 tokens, and the next request may need more than is left";
        assert_eq!(worked.of(0, "/error_analysis/detail"), detail);
    }
}

#[test]
fn a_run_that_pauses_is_alone_in_it_and_goes_on_with_more() {
    let (spec, journal) = (spec("{ per_run: { tokens: 12, on_exceeded: pause } }"), Memory::default());
    let (worked, calls) = go(&spec, &["1", "2", "1"], &journal, 1);
    assert_eq!((statuses(&worked), calls), (vec![json!("PAUSED"), json!("COMPLETED"), json!("PAUSED")], 6));
    assert_eq!(worked.of(0, "/execution_metrics/steps/c/status"), "PENDING");
    // What it has spent counts in the next process too.
    assert_eq!(go(&spec, &["1", "2", "1"], &journal, 2).1, 0);
    let (worked, calls) = go(&spec.replace("12", "15"), &["1", "2", "1"], &journal, 3);
    assert_eq!((statuses(&worked), calls), (vec![json!("COMPLETED"); 3], 2));
    assert!(journal.runs().values().all(|run| run.state == RunState::Completed));
}

#[test]
fn what_a_run_does_not_ask_any_more_gives_its_default() {
    let (worked, calls) =
        go(&spec("{ per_run: { tokens: 12, on_exceeded: degrade } }"), &["1", "2"], &Memory::default(), 1);
    assert_eq!((statuses(&worked), calls), (vec![json!("COMPLETED"); 2], 4));
    assert_eq!((worked.of(0, "/degraded"), worked.of(0, "/workflow_results/c")), (json!(["c"]), json!("none")));
    assert_eq!(worked.of(1, "/degraded"), Value::Null);
}

#[test]
fn both_budgets_hold() {
    // The job has enough for three requests, each run for two.
    let spec = spec("{ tokens: 15, per_run: { tokens: 12 } }").replace(", default: none", "");
    let (worked, calls) = go(&spec, &["1", "1"], &Memory::default(), 1);
    assert_eq!((statuses(&worked), calls), (vec![json!("FAILED"); 2], 3));
    let details: Vec<String> = (0..2).map(|at| worked.of(at, "/error_analysis/detail").to_string()).collect();
    assert!(details.iter().any(|detail| detail.contains("of the job is spent: 15 of 15 tokens")), "{details:?}");
}

/// Elements that are workflows, and a fallback, all of which ask.
const PARTS: &str = "\
budget: { per_run: { tokens: 22, on_exceeded: pause } }
steps:
  - id: each
    for_each: { in: '${[1, 2, 3, 4]}', max_concurrency: 1 }
    workflow: { spec: { steps: [{ id: one, command: say, args: x }, { id: two, set: { value: '${one.results}' } }] } }
  - id: last
    needs: each
    command: say
    with: { text: x, fail: permanent }
    retry: { max_attempts: 1 }
    fallback: [{ command: say, args: y }]
";

#[test]
fn elements_workflows_within_and_fallbacks_pay_from_it_over_restarts() {
    let journal = Memory::default();
    let (worked, calls) = go(&PARTS.replace("22", "12"), &["1"], &journal, 1);
    assert_eq!((statuses(&worked), calls), (vec![json!("PAUSED")], 2), "{:#}", worked.documents[0]);
    let (worked, calls) = go(PARTS, &["1"], &journal, 2);
    // Two more elements; what fails costs nothing, and there is nothing left for what is tried then.
    assert_eq!((statuses(&worked), calls), (vec![json!("PAUSED")], 2), "{:#}", worked.documents[0]);
    let (worked, calls) = go(&PARTS.replace("22", "25"), &["1"], &journal, 3);
    assert_eq!((statuses(&worked), calls), (vec![json!("COMPLETED")], 2), "{:#}", worked.documents[0]);
}
