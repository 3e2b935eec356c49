//! What a run gives in the end: every `output_format`, and what `output` makes of it.

use std::sync::Arc;

use bourn_engine::Engine;
use bourn_engine::api::registry::BoxConnector;
use bourn_engine::journal::{Memory, RunState};
use bourn_engine::spec::load;
use bourn_engine::testing::simulation::Simulation;
use bourn_engine::workflow::{Runs, compile};
use serde_json::{Value, json};

use crate::kinds::{Shelf, Worked, lines_of, registry, run, work};

const STEPS: &str = "
steps:
  - { id: first, set: { value: { n: 3, name: \"a/../b\" } } }
  - { id: skipped, set: { value: x }, if: \"${.first.results.n > 5}\" }
  - { id: last, say: { text: \"n is ${first.results.n}\" } }
";

fn made(more: &str) -> Worked {
    work(&format!("{STEPS}{more}"), &["{}"], 1)
}

#[test]
fn each_format_makes_its_own_of_what_the_steps_gave() {
    let first = json!({ "n": 3, "name": "a/../b" });
    for (format, output) in [
        ("last", json!("n is 3")),
        ("map", json!({ "first": first, "last": "n is 3" })),
        ("list", json!([first, "n is 3"])),
        ("text", json!("{\"n\":3,\"name\":\"a/../b\"}\n\nn is 3")),
        (
            "'${ {sum: (.first.n + 1), said: .last, none: .skipped} }'",
            json!({ "sum": 4, "said": "n is 3", "none": null }),
        ),
        ("'${ .first.n }'", json!(3)),
    ] {
        let worked = made(&format!("output_format: {format}"));
        assert_eq!((worked.of(0, "/status"), worked.of(0, "/final_output")), (json!("COMPLETED"), output), "{format}");
    }
}

/// The document of one run in a world that keeps files, and the world.
fn in_world(spec: &str) -> (Value, Simulation) {
    let simulation = Simulation::new(1);
    let env = simulation.env();
    let loaded = load(spec, "work.yaml", &registry(), &env).unwrap_or_else(|p| panic!("{p:?}"));
    let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"]))).with_id("run-1");
    let mut graph = compile(&loaded, &runs);
    let shelf = Shelf::default();
    graph.sink("shelf", shelf.clone());
    let engine = Engine::new(registry()).with_env(env);
    let work = async move { engine.start(engine.plan(graph).await?).await?.wait().await };
    simulation.run(work).done().unwrap();
    let document = shelf.documents.lock().unwrap().remove(0);
    (document, simulation)
}

#[test]
fn a_file_has_the_output_and_the_document_says_where() {
    for (format, path, content) in [
        (
            "map",
            "out/run-1.json",
            "{\n  \"first\": {\n    \"n\": 3,\n    \"name\": \"a/../b\"\n  },\n  \"last\": \"n is 3\"\n}\n",
        ),
        ("last", "out/run-1.json", "n is 3"),
        ("'${ .first.n }'", "out/run-1.json", "3\n"),
    ] {
        let (document, simulation) =
            in_world(&format!("{STEPS}output_format: {{ file: 'out/${{run_id}}.json', format: {format} }}"));
        assert_eq!(document["status"], "COMPLETED", "{document}");
        let file = simulation.env().files().open(path.as_ref()).unwrap().content().unwrap();
        assert_eq!(String::from_utf8(file).unwrap(), content);
        let told = &document["final_output"];
        assert_eq!((&told["path"], &told["bytes"]), (&json!(path), &json!(content.len())));
        assert_eq!(told["sha256"].as_str().unwrap().len(), 64);
        let mut artifact = told.clone();
        artifact["step"] = json!("@output");
        assert_eq!(document["state_artifacts"], json!([artifact]));
        assert!(simulation.env().glob("out/*").unwrap().len() == 1, "nothing else is left");
    }
    // A value names a file, and no folder above it.
    let (document, _) = in_world(&format!("{STEPS}output_format: {{ file: 'out/${{first.name}}' }}"));
    assert_eq!(document["final_output"]["path"], "out/a%2F..%2Fb");
}

#[test]
fn a_run_that_gives_nothing_writes_nothing() {
    let spec = "steps: [ { id: a, say: { text: x, fail: permanent } } ]\noutput_format: { file: out.txt }";
    let (document, simulation) = in_world(spec);
    assert_eq!((&document["status"], &document["final_output"]), (&json!("FAILED"), &Value::Null));
    assert_eq!(simulation.env().glob("*").unwrap().len(), 0);
}

#[test]
fn what_a_run_gives_is_made_and_checked_before_it_counts() {
    let schema = "schema: { type: integer, maximum: 3 }";
    let good = made(&format!("output_format: map\noutput: {{ as: '${{ .first.n }}', {schema} }}"));
    assert_eq!((good.of(0, "/status"), good.of(0, "/final_output")), (json!("COMPLETED"), json!(3)));
    let spec = format!("{STEPS}output_format: map\noutput: {{ as: '${{ .first.n + 1 }}', {schema} }}");
    let journal = Memory::default();
    let go = || {
        let runs = Runs::of("lines", BoxConnector::new(lines_of(&["{}"])));
        run(&spec, runs.with_journal(Arc::new(journal.clone()), 1), 1)
    };
    // Also when it comes to it again, at rest.
    for worked in [go(), go()] {
        assert_eq!((worked.of(0, "/status"), worked.of(0, "/final_output")), (json!("FAILED"), Value::Null));
        let analysis = worked.of(0, "/error_analysis");
        assert_eq!((&analysis["class"], &analysis["instance"]), (&json!("validation"), &json!("/output")));
        let told = "the output does not fit `output.schema`: 4 is greater than the maximum of 3";
        assert_eq!(analysis["detail"], told);
        assert_eq!(worked.of(0, "/partial_results/last"), "n is 3");
        assert_eq!(journal.runs()[&0].state, RunState::Failed);
    }
    let failed = made("output_format: '${ .first + 1 }'");
    let detail = failed.of(0, "/error_analysis/detail");
    assert!(detail.as_str().unwrap().starts_with("`output_format` can't be made: `${.first + 1}`: "), "{detail}");
}

#[test]
fn a_step_gives_what_is_made_of_it_to_the_next_and_a_workflow_within_does() {
    let step = "
steps:
  - { id: asked, say: { text: 'Here: {\"list\": [1, 2]}' }, output: { as: { count: '${ .list | length }' } } }
  - { id: after, say: { text: 'there are ${asked.results.count}' } }
  - id: within
    workflow:
      spec:
        steps: [ { id: a, set: { value: [1, 2, 3] } } ]
        output: { as: '${ add }' }
  - id: failing
    workflow: { spec: { steps: [ { id: a, set: { value: x } } ], output: { schema: { type: integer } } } }
    default: none
output_format: map
";
    let worked = work(step, &["{}"], 1);
    let expected = json!({ "asked": { "count": 2 }, "after": "there are 2", "within": 6, "failing": "none" });
    assert_eq!(worked.of(0, "/final_output"), expected, "{:?}", worked.documents);
}

#[test]
fn what_can_never_be_made_is_a_problem() {
    let told = |more: &str| {
        let env = Simulation::new(1).env();
        let problems = load(&format!("{STEPS}{more}"), "work.yaml", &registry(), &env).err().expect(more);
        problems.iter().map(|problem| problem.message.clone()).collect::<Vec<_>>().join("; ")
    };
    assert!(told("output_format: lsat").contains("lsat"), "{}", told("output_format: lsat"));
    assert_eq!(told("output: {}"), "this says nothing of the output");
    assert_eq!(told("output: { as: '${ .a } and' }"), "this is one place, and nothing around it");
    assert_eq!(told("output: { as: '${ result }' }"), "`result` has no filter `result` to use");
    assert_eq!(told("output: { schema: { type: intgr } }").split(':').next(), Some("this is no JSON Schema"));
    assert_eq!(told("output_format: { file: 'out/${lst}' }"), "unknown name `lst`");
    assert_eq!(
        told("output_format: { file: a, format: { file: b } }"),
        "a file has what is made of the results, and no other file"
    );
}
