//! What is told before anything runs: problems of steps, and what a spec is made of.

use std::sync::Arc;

use bourn_engine::Engine;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::diagnostic::Problems;
use bourn_engine::journal::Memory;
use bourn_engine::spec::{Spec, load};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Dependencies, Runs, analyze, compile, dependencies, redundant};

use crate::kinds::{Shelf, lines_of, registry};

/// What planning tells of a spec that loads.
fn told(spec: &str) -> Vec<String> {
    let simulation = Simulation::new(1);
    let loaded = load(spec, "work.yaml", &registry(), &simulation.env()).unwrap();
    let mut graph = compile(&loaded, &Runs::of("lines", BoxConnector::new(lines_of(&[]))));
    graph.sink("shelf", Shelf::default());
    let engine = Engine::new(registry()).with_env(simulation.env());
    let planned = simulation.run(async move { engine.plan(graph).await.map(drop) }).done();
    let Problems(all) = planned.err().unwrap_or_else(|| Problems(Vec::new()));
    all.iter().map(|p| loaded.document.diagnostic(p).to_string()).collect()
}

#[test]
fn a_problem_of_planning_points_to_what_the_step_says() {
    let by_args = told("steps:\n  - id: a\n    command: say\n    args: unplannable\n");
    assert_eq!(by_args, ["work.yaml:4:11 that can't be said"]);
    let by_name = told("steps:\n  - id: a\n    uses: say\n    with: { text: unplannable }\n");
    assert_eq!(by_name, ["work.yaml:4:19 that can't be said"]);
    let by_kind = told("steps:\n  - id: a\n    say: { after: '1', text: unplannable }\n");
    assert_eq!(by_kind, ["work.yaml:3:30 that can't be said"]);
}

#[test]
fn a_stage_that_does_not_give_one_row_for_one_can_be_no_step() {
    let told = told("steps:\n  - id: a\n    command: keep\n    args: x > 1\n");
    assert_eq!(told, ["work.yaml:3:14 `keep` can't be a step: it does not give one row for one"]);
}

#[test]
fn what_a_spec_is_made_of_is_told_in_figures() {
    let env = Simulation::new(1).env();
    let spec = "
steps:
  - { id: a, command: say, args: x }
  - { id: b, command: say, args: x, needs: a }
  - { id: c, command: say, args: x, needs: a, if: '${input.x}' }
  - { id: d, command: say, args: x, needs: [b, c] }
optimization: { adaptive_thinking: true }
";
    let analysis = analyze(&load(spec, "work.yaml", &registry(), &env).unwrap());
    let complexity = &analysis.complexity;
    let parts = [complexity.size, complexity.depth, complexity.width, complexity.branches];
    assert_eq!(parts.map(|p| (p * 10.0).round()), [12.0, 9.0, 5.0, 10.0]);
    assert!((complexity.total - parts.iter().sum::<f64>()).abs() < 1e-9);
    assert_eq!((analysis.parallel_opportunities, analysis.is_sequential), (0.25, false));
    let wishes: Vec<_> = analysis.optimizations.iter().map(|w| (w.name, w.applied)).collect();
    assert_eq!(
        wishes,
        [
            ("parallel_where_possible", true),
            ("max_concurrency", true),
            ("state_persistence", true),
            ("adaptive_thinking", true)
        ]
    );
    let chain = analyze(&load("steps: [{ id: a, command: say, args: x }]", "a", &registry(), &env).unwrap());
    assert_eq!((chain.is_sequential, chain.parallel_opportunities), (true, 0.0));
}

#[test]
fn the_graph_of_a_diamond_gathers_where_branches_meet() {
    let env = Simulation::new(1).env();
    let spec = "
steps:
  - { id: a, command: say, args: x }
  - { id: b, command: say, args: x }
  - { id: c, command: say, args: x }
  - { id: d, command: say, args: x, needs: [a, b, c] }
  - { id: e, command: say, args: x, needs: [a, b] }
";
    let loaded = load(spec, "work.yaml", &registry(), &env).unwrap();
    let graph = compile(&loaded, &Runs::of("lines", BoxConnector::new(lines_of(&[]))));
    let nodes: Vec<_> = graph
        .nodes
        .iter()
        .map(|n| format!("{} <- {}", n.id, n.inputs.iter().map(|i| i.node.as_str()).collect::<Vec<_>>().join(", ")))
        .collect();
    insta::assert_snapshot!(nodes.join("\n"), @r"
    lines <- 
    @admit <- lines
    a <- @admit
    b <- @admit
    c <- @admit
    @a+b <- a, b
    @a+b+c <- @a+b, c
    d <- @a+b+c
    e <- @a+b
    @d+e <- d, e
    @document <- @d+e
    @result <- @document
    ");
    assert_eq!(graph.nodes[0].admission, Some(4_096));
}

#[test]
fn steps_that_are_soon_done_stand_in_a_line_and_are_kept_together() {
    let env = Simulation::new(1).env();
    let spec = "
steps:
  - { id: a, set: 1 }
  - { id: b, set: '${a.results}' }
  - { id: asked, command: say, args: '${a.results}' }
  - { id: c, set: '${a.results}' }
  - { id: d, set: '${[.b, .c, .asked] | length}' }
  - { id: e, set: '${b.results}', for_each: { in: '${a.results}' } }
";
    let loaded = load(spec, "work.yaml", &registry(), &env).unwrap();
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&[]))).with_journal(Arc::new(Memory::default()), 1);
    let graph = compile(&loaded, &runs);
    let told = |of: &str| {
        let node = graph.nodes.iter().find(|node| node.id == of).unwrap();
        let from = node.inputs.iter().map(|i| i.node.as_str()).collect::<Vec<_>>().join(", ");
        format!("{of} <- {from}")
    };
    insta::assert_snapshot!(["b", "c", "@kept:c", "@aside:asked", "asked", "@meet:asked", "@kept:asked", "@c+asked", "d", "@items:e"].map(told).join("\n"), @r"
    b <- @kept:a
    c <- b
    @kept:c <- c
    @aside:asked <- @kept:a
    asked <- @aside:asked
    @meet:asked <- asked, @aside:asked
    @kept:asked <- @meet:asked
    @c+asked <- @kept:c, @kept:asked
    d <- @c+asked
    @items:e <- @kept:c
    ");
}

/// The steps of a workflow as a graph, and what is said of them twice.
fn steps(spec: &str) -> (Dependencies, Vec<String>) {
    let loaded = load(spec, "work.yaml", &registry(), &Simulation::new(1).env()).unwrap();
    let Spec::Chain(chain) = &loaded.spec else { panic!("no chain") };
    (dependencies(chain), redundant(chain).iter().map(|p| loaded.document.diagnostic(p).to_string()).collect())
}

#[test]
fn edges_say_whether_they_are_said_or_read_and_which_of_them_need_not_be_said() {
    let spec = "
steps:
  - { id: a, command: say, args: x }
  - { id: b, command: say, args: '${a.results}', needs: a }
  - { id: c, command: say, args: x, depends_on: [a] }
  - { id: d, command: say, args: '${.b.results}', needs: [c, a] }
  - { id: way, needs: d, switch: [{ then: e }] }
  - { id: e, command: say, args: x }
";
    let (graph, told) = steps(spec);
    let edges: Vec<_> = graph
        .edges
        .iter()
        .map(|e| format!("{} -> {}: {:?}{}", e.from, e.to, e.why, if e.redundant { ", redundant" } else { "" }))
        .collect();
    insta::assert_snapshot!(edges.join("\n"), @"
    a -> b: Explicit, redundant
    a -> b: Ref
    a -> c: Explicit
    a -> d: Explicit, redundant
    b -> d: Ref
    c -> d: Explicit
    d -> way: Explicit
    way -> e: Explicit
    ");
    insta::assert_snapshot!(told.join("\n"), @"
    work.yaml:4:57 that `b` needs `a` need not be said: a place in it reads `a` already
    work.yaml:6:62 that `d` needs `a` need not be said: `b` needs it already
    ");
}

#[test]
fn steps_that_do_not_need_each_other_are_told_as_clusters_and_parts() {
    let diamond = "
steps:
  - { id: a, command: say, args: x }
  - { id: b, command: say, args: '${a.results}' }
  - { id: c, command: say, args: '${a.results}', compensate: { command: say, args: y } }
  - { id: d, command: say, args: x, needs: [b, c] }
  - { id: alone, command: say, args: x }
finally: [{ id: end, command: say, args: x }]
";
    let (graph, told) = steps(diamond);
    assert_eq!(graph.shown(), "{a, alone}, {b, c}, {d}");
    assert_eq!(graph.components, [vec!["a", "b", "c", "d"], vec!["alone"]]);
    assert_eq!(told, Vec::<String>::new());
}
