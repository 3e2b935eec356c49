//! The source, the sink and the stage are put through the suites that those of the engine pass.

use bourn_engine::Engine;
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::rows;
use bourn_engine::testing::conformance::{self, Target};
use bourn_engine::testing::harness::{Harness, json};
use bourn_engine::testing::simulation::Simulation;
use outside::{Countdown, Double, Note};

#[test]
fn the_source_keeps_its_promises() {
    let simulation = Simulation::new(1);
    let suite = conformance::source(Countdown { from: 2_500 }).rows(2_500);
    simulation.run(suite.check(&simulation.env())).done();
}

#[test]
fn the_sink_keeps_its_promises() {
    let simulation = Simulation::new(1);
    let suite = conformance::sink(|n| {
        let path = format!("out/{n}.txt");
        let files = simulation.files().clone();
        // What a reader of the file would see, as rows; the suite compares them with what it wrote.
        Target::new(Note { path: path.clone().into() }).read_back(move || {
            let text = String::from_utf8(files.get(&path).unwrap_or_default()).expect("lines are text");
            let rows: Vec<_> = text.lines().map(|name| json!({"name": name})).collect();
            async { Ok(rows) }
        })
    });
    let sample = rows![{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "d"}, {"name": "e"}, {"name": "f"}];
    simulation.run(suite.rows(sample).check(&simulation.env())).done();
}

#[test]
fn the_stage_keeps_its_promises() {
    let sample = rows![{"n": 1}, {"n": -7}, {"n": null}, {"n": 9_223_372_036_854_775_807_i64}, {"n": 0}, {"n": 3}];
    conformance::stage(Double { column: "n".into() }, sample).check();
}

#[test]
fn a_number_too_large_is_rejected_alone() {
    let rows = rows![{"n": 2}, {"n": 9_223_372_036_854_775_807_i64}, {"n": 4}];
    let mut stage = Harness::new(&Double { column: "n".into() }, &[rows.schema()]).unwrap();
    stage.process(&rows).unwrap();
    assert_eq!((stage.said.count(0), stage.said.rejections()), (2, 1));
    assert_eq!(stage.said.rows(0)[1], json!({"n": 8}));
}

#[test]
fn all_three_make_a_pipeline() {
    let simulation = Simulation::new(1);
    let mut graph = Graph::new("outside");
    graph.source("numbers", Countdown { from: 3 });
    graph.stage("doubled", Double { column: "n".into() });
    graph.sink("notes", Note { path: "notes.txt".into() });
    let engine = Engine::new(outside::register(Registry::new())).with_env(simulation.env());
    simulation.run(engine.run(graph)).done().unwrap();
    assert_eq!(simulation.files().get("notes.txt").unwrap(), b"6\n4\n2\n");
}
