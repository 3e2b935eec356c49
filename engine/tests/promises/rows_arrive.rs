//! Every row that a source reads arrives at the sink, in order where one lane carries it.

use bourn_engine::Engine;
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;

use crate::support::{Collect, Counting, Func, simulate};

fn graph(sink: &Collect) -> Graph {
    let mut graph = Graph::new("numbers");
    graph.source("numbers", Counting::to(1_000, 7));
    graph.stage("a", Func::pass());
    graph.stage("b", Func::pass());
    graph.sink("out", sink.clone());
    graph
}

#[test]
fn a_chain_keeps_rows_and_order_under_any_schedule() {
    for seed in 0..20 {
        let sink = Collect::default();
        simulate(seed, async |engine| engine.run(graph(&sink)).await).unwrap();
        assert_eq!(sink.values(), (0..1_000).collect::<Vec<_>>(), "seed {seed}");
        assert_eq!(sink.log.said(), ["prepare 1", "finish"], "seed {seed}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_keeps_rows_and_order_on_real_threads() {
    let sink = Collect::default();
    Engine::new(Registry::new()).run(graph(&sink)).await.unwrap();
    assert_eq!(sink.values(), (0..1_000).collect::<Vec<_>>());
}
