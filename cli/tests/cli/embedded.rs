//! The engine inside a program, as the README shows it: the tests of the book compare.

use bourn_connectors::{Generate, Memory};
use bourn_engine::{Engine, api::Registry, graph::Graph};
use bourn_stages::Filter;

async fn evens() -> bourn_engine::Result<usize> {
    let mut graph = Graph::new("evens");
    graph.source("numbers", Generate::rows(1_000));
    graph.stage("even", Filter("n % 2 = 0".into()));
    let (sink, kept) = Memory::collect();
    graph.sink("kept", sink);
    Engine::new(Registry::new()).run(graph).await?;
    Ok(kept.count())
}

#[tokio::test]
async fn a_program_runs_a_pipeline_in_a_few_lines() {
    assert_eq!(evens().await.unwrap(), 500);
}
