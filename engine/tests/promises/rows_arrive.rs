//! Every row that a source reads arrives at the sink, in order where one lane carries it.

use bourn_engine::Engine;
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;

use crate::support::{Collect, Counting, Func, KeyedPass, simulate};

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

#[test]
fn an_exchange_by_key_joins_small_parts_and_loses_none() {
    for seed in 0..20 {
        let sink = Collect { transactional: true, ..Collect::default() };
        let mut graph = Graph::new("exchange");
        graph.source("numbers", Counting { every: std::time::Duration::from_millis(1), ..Counting::to(500, 10) });
        graph.stage("keyed", KeyedPass {}).lanes(4);
        graph.sink("out", sink.clone());
        graph.options.epoch_every = Some(std::time::Duration::from_millis(7));
        simulate(seed, async |engine| {
            let job = engine.start(engine.plan(graph).await.unwrap()).await.unwrap();
            // An epoch commits every row that was read before its barrier, also those that waited for company.
            engine.env().sleep(std::time::Duration::from_millis(100)).await;
            assert!(sink.values().len() >= 800 / 10, "{}", sink.values().len());
            job.wait().await.unwrap();
        });
        assert_eq!(sink.sorted(), (0..500).collect::<Vec<_>>(), "seed {seed}");
    }
}
