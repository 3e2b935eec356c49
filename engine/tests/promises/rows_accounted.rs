//! A row that a stage swallows without a word is found, and the job ends.

use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Cardinality, Output, Progress};
use bourn_engine::graph::Graph;
use bourn_engine::{Kind, Result};

use crate::support::{Collect, Counting, Func, simulate};

fn swallow(rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
    out.emit(rows.slice(0, rows.num_rows() - 1));
    Ok(Progress::Done)
}

fn filter(rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
    out.filtered(1);
    swallow(rows, out)
}

fn run(work: fn(&RecordBatch, &mut Output) -> Result<Progress>, cardinality: fn() -> Cardinality) -> Result<Vec<i64>> {
    let sink = Collect::default();
    let mut graph = Graph::new("swallow");
    graph.source("numbers", Counting::to(10, 5));
    graph.stage("swallow", Func { work, cardinality });
    graph.sink("out", sink.clone());
    simulate(1, async |engine| engine.run(graph).await)?;
    Ok(sink.values())
}

#[test]
fn a_swallowed_row_is_an_error_of_the_engine() {
    let error = run(swallow, || Cardinality::AtMostOne).unwrap_err();
    assert_eq!(error.kind(), Kind::Engine);
    assert!(error.message().contains("10 in, 8 out"), "{error}");
}

#[test]
fn a_row_that_was_counted_as_filtered_is_accounted_for() {
    assert_eq!(run(filter, || Cardinality::AtMostOne).unwrap(), [0, 1, 2, 3, 5, 6, 7, 8]);
}
