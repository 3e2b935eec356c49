//! The plan as text.

use bourn_engine::graph::Graph;

use crate::support::{Collect, Counting, Func, simulate};

fn graph() -> Graph {
    let mut graph = Graph::new("numbers");
    graph.source("numbers", Counting { splits: 2, ..Counting::to(10, 5) }).lanes(2);
    graph.stage("a", Func::pass());
    graph.stage("b", Func::pass());
    graph.stage("c", Func::pass()).lanes(3);
    graph.sink("out", Collect { transactional: true, ..Collect::default() });
    graph.sink("copy", Collect::default()).from(["b"]);
    graph.dead_letters("rejected", Collect::default());
    graph
}

#[test]
fn a_plan_shows_schemas_lanes_exchanges_reservations_and_delivery() {
    let plan = simulate(1, async |engine| engine.plan(graph()).await.unwrap());
    insta::assert_snapshot!(plan.explain());
}

#[test]
fn a_plan_can_be_drawn() {
    let plan = simulate(1, async |engine| engine.plan(graph()).await.unwrap());
    insta::assert_snapshot!(plan.mermaid());
}
