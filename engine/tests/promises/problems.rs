//! A graph with a problem never starts, and every problem is told at once.

use bourn_engine::diagnostic::Problems;
use bourn_engine::graph::{Graph, OnError};

use crate::support::{Collect, Counting, Func, simulate};

fn problems(graph: Graph) -> Vec<String> {
    let Err(Problems(found)) = simulate(1, async |engine| engine.plan(graph).await.map(|_| ())) else {
        return Vec::new();
    };
    found
        .into_iter()
        .map(|p| format!("{}{}", p.message, p.help.map(|h| format!(" ({h})")).unwrap_or_default()))
        .collect()
}

#[test]
fn all_problems_of_a_graph_are_told_in_one_go() {
    let mut graph = Graph::new("bad");
    graph.source("numbers", Counting::to(1, 1));
    graph.stage("pass", Func::pass()).from(["nmbers"]);
    graph.stage("pass", Func::pass()).from(["numbers.late"]).on_error(OnError::DeadLetter);
    graph.sink("out", Counting::to(1, 1));
    let mut found = problems(graph);
    found.sort();
    let mut expected = [
        "`pass` reads `nmbers`, which does not exist (did you mean `numbers`?)",
        "the id `pass` is used twice",
        "`pass` sends failed rows to the dead letters, and there are none \
         (add `dead_letters: { file: { path: rejected.jsonl } }`)",
        "`counting` can't be a sink",
        "`numbers` has no port `late` (`numbers` has no ports beside the main one: read `numbers`)",
    ];
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[test]
fn a_cycle_is_refused_with_its_path() {
    let mut graph = Graph::new("cycle");
    graph.source("numbers", Counting::to(1, 1));
    graph.stage("a", Func::pass()).from(["numbers", "c"]);
    graph.stage("b", Func::pass()).from(["a"]);
    graph.stage("c", Func::pass()).from(["b"]);
    graph.sink("out", Collect::default());
    let found = problems(graph);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("cycle: ") && found[0].contains(" -> "), "{found:?}");
}

#[test]
fn an_id_that_is_used_twice_is_not_taken_for_a_cycle() {
    let mut graph = Graph::new("twice");
    graph.source("numbers", Counting::to(1, 1));
    graph.stage("pass", Func::pass());
    graph.stage("pass", Func::pass());
    graph.sink("out", Collect::default());
    assert_eq!(problems(graph), ["the id `pass` is used twice"]);
}

#[test]
fn a_graph_without_a_reader_or_with_too_little_memory_is_refused() {
    let mut graph = Graph::new("unread");
    graph.source("numbers", Counting::to(1, 1));
    assert_eq!(problems(graph), ["nothing reads `numbers` (add a sink, or remove it)"]);
    let mut graph = Graph::new("small");
    graph.source("numbers", Counting::to(1, 1));
    graph.sink("out", Collect::default());
    graph.options.memory = 1 << 10;
    let found = problems(graph);
    assert!(found[0].starts_with("`limits.memory` is too small"), "{found:?}");
}
