//! An edge holds no more than was reserved for it, and a slow reader stops a fast source.

use std::sync::Arc;
use std::time::Duration;

use bourn_engine::graph::Graph;

use crate::support::{Collect, Counting, Func, simulate};

#[test]
fn a_slow_sink_stops_the_source_and_no_edge_exceeds_its_reservation() {
    for seed in 0..10 {
        let sink = Collect { slow: Duration::from_secs(1), ..Collect::default() };
        let mut graph = Graph::new("slow");
        graph.source("numbers", Counting { endless: true, ..Counting::to(1_000_000, 100) });
        graph.stage("pass", Func::pass());
        graph.sink("out", sink.clone());
        graph.options.edge_rows = Some(250);
        simulate(seed, async |engine| {
            let plan = engine.plan(graph).await.unwrap();
            let job = engine.start(plan).await.unwrap();
            let stats = Arc::clone(job.stats());
            for _ in 0..60 {
                engine.env().sleep(Duration::from_millis(900)).await;
                let read = stats.rows_read();
                let written = stats.rows_written();
                // Two edges of at most 250 rows, and one batch of 100 in the hands of each of the three tasks.
                assert!(read.saturating_sub(written) <= 2 * 250 + 3 * 100 + 100, "{read} read, {written} written");
                for edge in &stats.edges {
                    let queued = edge.stats.queued_rows();
                    assert!((0..=250).contains(&queued), "{queued} rows queued before {}", edge.stage);
                }
            }
            assert!(stats.rows_written() > 0);
            drop(job);
        });
    }
}
