//! Several engines in one process do not know each other.

use bourn_engine::Engine;
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;

use crate::support::{Collect, Counting, Func};

fn graph(rows: i64, sink: &Collect) -> Graph {
    let mut graph = Graph::new("same name");
    graph.source("numbers", Counting::to(rows, 10));
    graph.stage("pass", Func::pass());
    graph.sink("out", sink.clone());
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_engines_have_their_own_registry_and_their_own_counts() {
    let (first, second) = (Engine::new(Registry::new().stage::<Func>()), Engine::new(Registry::new()));
    assert_eq!((first.registry().stages().len(), second.registry().stages().len()), (1, 0));
    let (a, b) = (Collect::default(), Collect::default());
    let one = first.start(first.plan(graph(1_000, &a)).await.unwrap()).await.unwrap();
    let two = second.start(second.plan(graph(50, &b)).await.unwrap()).await.unwrap();
    let (counts_one, counts_two) = (one.stats().clone(), two.stats().clone());
    one.wait().await.unwrap();
    two.wait().await.unwrap();
    assert_eq!((counts_one.rows_written(), counts_two.rows_written()), (1_000, 50));
    assert_eq!((a.values().len(), b.values().len()), (1_000, 50));
}
