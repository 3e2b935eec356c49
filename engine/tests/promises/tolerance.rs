//! A job ends when a larger share of its rows has failed than it tolerates, and commits nothing of the epoch in which it did.

use std::time::Duration;

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Output, Progress};
use bourn_engine::data::units::Percentage;
use bourn_engine::graph::Graph;
use bourn_engine::{Error, Kind, Result};

use crate::support::{Collect, Counting, Func, simulate, values};

/// One row in ten fails.
fn no_tens(rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
    if values(rows).iter().any(|n| n % 10 == 0) {
        return Err(Error::validation("a ten"));
    }
    out.emit(rows.clone());
    Ok(Progress::Done)
}

/// What such a job comes to, and the rows that were committed.
fn run(seed: u64, rows: i64, most: f64, every: Option<Duration>) -> (Result<()>, Vec<i64>) {
    let sink = Collect { transactional: true, ..Collect::default() };
    let mut graph = Graph::new("tolerant");
    graph.source("numbers", Counting { every: Duration::from_millis(1), ..Counting::to(rows, 50) });
    graph.stage("tens", Func::new(no_tens));
    graph.sink("out", sink.clone());
    graph.dead_letters("rejected", Collect::default());
    graph.options.tolerated = Some(Percentage(most));
    graph.options.epoch_every = every;
    let ended = simulate(seed, async |engine| engine.run(graph).await);
    (ended, sink.sorted())
}

#[test]
fn a_job_ends_well_with_no_more_failures_than_it_tolerates() {
    for seed in 0..10 {
        for every in [None, Some(Duration::from_millis(5))] {
            let (ended, rows) = run(seed, 3_000, 10.0, every);
            ended.unwrap();
            assert_eq!(rows.len(), 2_700);
        }
    }
}

#[test]
fn a_small_job_with_more_is_judged_at_its_end_and_commits_nothing() {
    for seed in 0..10 {
        let (ended, rows) = run(seed, 200, 9.9, None);
        let error = ended.unwrap_err();
        assert_eq!((error.kind(), rows), (Kind::Validation, vec![]));
        let said =
            "20 of 200 rows have failed, most of them in `tens`: 10.0 %, and `tolerated_failure_percentage` is 9.9 %";
        assert_eq!(error.message(), said);
    }
}

#[test]
fn the_end_judges_all_rows_of_the_run_and_not_those_of_its_last_epoch() {
    for seed in 0..10 {
        // Too few to be judged before, and spread over many epochs.
        let (ended, _) = run(seed, 900, 9.9, Some(Duration::from_millis(5)));
        let said = ended.unwrap_err().message().to_owned();
        assert!(said.starts_with("90 of 900 rows have failed"), "{said}");
    }
}

#[test]
fn a_long_job_ends_soon_after_a_thousand_rows_and_commits_no_more() {
    for seed in 0..10 {
        let (ended, rows) = run(seed, 1_000_000, 5.0, Some(Duration::from_millis(5)));
        assert!(ended.unwrap_err().message().contains("`tolerated_failure_percentage` is 5 %"));
        // What was committed came before there were a thousand to judge by.
        assert!(rows.len() < 1_000, "{}", rows.len());
    }
}
