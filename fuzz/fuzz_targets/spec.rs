//! A text that may be a spec, through all that comes before it runs: read, compiled, planned and shown.
#![no_main]

mod finding;

use std::sync::LazyLock;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use bourn_connectors::{Blackhole, Memory};
use bourn_engine::Engine;
use bourn_engine::api::Registry;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::diagnostic::{Diagnostic, Report};
use bourn_engine::spec::{Spec, load};
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Runs, analyze, compile};
use libfuzzer_sys::fuzz_target;
use miette::{GraphicalReportHandler, GraphicalTheme};

const SECRET: &str = "s3cr3t-value";
const ROWS: &str = r#"{"id":1,"delay":20,"origin":"JFK","at":"2001-01-01T00:00:00Z","tags":["a"]}"#;

static ENGINE: LazyLock<Engine> =
    LazyLock::new(|| Engine::new(bourn_connectors::register(bourn_stages::register(Registry::new()))));

fuzz_target!(init: finding::only_what_escapes(), |bytes: &[u8]| finding::check(bytes, || {
    if let Ok(text) = std::str::from_utf8(bytes) {
        work(text);
    }
}));

fn work(text: &str) {
    let world = Simulation::new(0).variable("TOKEN", SECRET);
    for path in ["rows.jsonl", "a/1.jsonl", "a/2.jsonl"] {
        world.files().put(path, ROWS);
    }
    let engine = ENGINE.clone().with_env(world.env());
    let loaded = match load(text, "spec.yaml", engine.registry(), engine.env()) {
        Ok(loaded) => loaded,
        Err(problems) => return show(text, &problems),
    };
    let _analysis = analyze(&loaded);
    let line: ArrayRef = std::sync::Arc::new(StringArray::from(vec!["{}"]));
    let inputs = RecordBatch::try_from_iter([("text", line)]).expect("one column is a batch");
    let mut graph = compile(&loaded, &Runs::of("inputs", BoxConnector::new(Memory::rows([inputs]))));
    graph.options.mock = true;
    if !matches!(loaded.spec, Spec::Pipeline(_)) {
        graph.sink("@documents", Blackhole::default());
    }
    match world.run(engine.plan(graph)).done() {
        Ok(plan) => {
            for shown in [plan.explain(), plan.mermaid()] {
                assert!(!leaks(text, &shown), "a value of the environment is shown: {shown}");
            }
        }
        Err(problems) => {
            let placed: Vec<_> = problems.0.iter().map(|p| loaded.document.diagnostic(p)).collect();
            show(text, &placed);
        }
    }
}

/// Each place is in the text, can be drawn, and shows nothing of the environment.
fn show(text: &str, problems: &[Diagnostic]) {
    assert!(!problems.is_empty(), "refused without a reason");
    let handler = GraphicalReportHandler::new_themed(GraphicalTheme::unicode()).with_width(80);
    for problem in problems {
        // The text of a spec that is too long to read is not shown.
        let span = problem.span.clone();
        assert!(problem.source.inner().is_empty() || text.get(span).is_some(), "not in the text: {problem:?}");
        let mut drawn = String::new();
        handler.render_report(&mut drawn, &Report(problem)).expect("a place within the text can be drawn");
        assert!(!leaks(text, &format!("{problem} {drawn}")), "a value of the environment is shown: {drawn}");
    }
}

fn leaks(text: &str, shown: &str) -> bool {
    shown.contains(SECRET) && !text.contains(SECRET)
}
