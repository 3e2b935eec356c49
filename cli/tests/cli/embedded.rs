//! The engine inside a program, as the README shows it.

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

#[test]
fn the_readme_shows_these_lines() {
    let readme = include_str!("../../../README.md");
    let shown = readme.split("```rust\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let here = include_str!("embedded.rs");
    let missing: Vec<_> = shown.lines().map(str::trim).filter(|l| !here.contains(l)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
