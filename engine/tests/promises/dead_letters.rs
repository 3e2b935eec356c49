//! A row that fails goes to the dead letters with its reason and place; no other row is lost.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::array::AsArray;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{Output, Progress};
use bourn_engine::error::Error;
use bourn_engine::graph::Graph;

use crate::support::{Collect, Counting, Func, simulate, values};

fn no_sevens(rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
    out.emit(rows.clone());
    if values(rows).iter().any(|n| n % 7 == 0) {
        Err(Error::validation("a seven").at_field("n"))
    } else {
        Ok(Progress::Done)
    }
}

#[test]
fn rejected_rows_and_the_others_add_up_under_any_schedule() {
    for seed in 0..30 {
        let (sink, letters) = (Collect::default(), Collect { slow: Duration::from_millis(5), ..Collect::default() });
        let mut graph = Graph::new("letters");
        graph.source("numbers", Counting { splits: 4, ..Counting::to(100, 9) }).lanes(2);
        graph.stage("sevens", Func::new(no_sevens));
        graph.sink("out", sink.clone());
        graph.dead_letters("rejected", letters.clone());
        graph.options.edge_rows = Some(1);
        graph.options.epoch_every = Some(Duration::from_millis(1));
        simulate(seed, async |engine| engine.run(graph).await).unwrap();
        assert_eq!(sink.sorted(), (0..400).filter(|n| n % 7 != 0).collect::<Vec<_>>());
        let batches = letters.rows.lock().unwrap();
        let text = |b: &RecordBatch, c: &str, r| b.column_by_name(c).unwrap().as_string::<i32>().value(r).to_owned();
        let mut rows: Vec<String> = Vec::new();
        for batch in batches.iter() {
            for r in 0..batch.num_rows() {
                assert_eq!(text(batch, "stage", r), "sevens");
                assert_eq!(text(batch, "reason", r), "field `n`: a seven");
                assert!(!batch.column_by_name("split").unwrap().is_null(r));
                rows.push(text(batch, "row", r));
            }
        }
        let mut expected: Vec<String> = (0..400).filter(|n| n % 7 == 0).map(|n| format!("{{\"n\":{n}}}")).collect();
        rows.sort();
        expected.sort();
        assert_eq!(rows, expected, "seed {seed}");
    }
}

#[test]
fn rejections_are_counted() {
    let mut graph = Graph::new("count");
    graph.source("numbers", Counting::to(100, 9));
    graph.stage("sevens", Func::new(no_sevens));
    graph.sink("out", Collect::default());
    graph.dead_letters("rejected", Collect::default());
    let stats = simulate(1, async |engine| {
        let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
        let stats = job.stats().clone();
        job.wait().await.unwrap();
        stats
    });
    let sevens = stats.stages.iter().find(|s| &*s.stage == "sevens").unwrap();
    let get = |c: &std::sync::atomic::AtomicU64| c.load(Relaxed);
    let s = &sevens.stats;
    assert_eq!((get(&s.rows_in), get(&s.rows_out), get(&s.rows_rejected)), (100, 85, 15));
}
