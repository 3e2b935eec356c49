//! The document of a run: its form, and what is in it.

use bourn_engine::api::registry::BoxConnector;
use bourn_engine::workflow::{Runs, result, run_id};
use serde_json::{Value, json};

use crate::kinds::{lines_of, run, work};

const DIAMOND: &str = "
name: diamond
steps:
  - { id: start, command: say, args: 'a ${input.name}' }
  - { id: left, command: say, args: '${start.results}-l', with: { after: '30' } }
  - { id: right, letters: { of: '${steps.start.results}' } }
  - { id: far, command: say, args: 'x', with: { after: '10' } }
  - { id: end, command: say, args: '${left.results} ${right.results} $${not} ${far.status}' }
";

fn assert_fits(document: &Value) {
    let schema = result::schema();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<_> = validator.iter_errors(document).map(|e| format!("{}: {e}", e.instance_path())).collect();
    assert!(faults.is_empty(), "{faults:?}\n{document:#}");
}

#[test]
fn a_diamond_loses_no_column_and_no_row() {
    let inputs: Vec<String> = (0..50).map(|n| json!({ "name": format!("n{n}") }).to_string()).collect();
    let inputs: Vec<&str> = inputs.iter().map(String::as_str).collect();
    for seed in 0..5 {
        let worked = work(DIAMOND, &inputs, seed);
        assert_eq!(worked.documents.len(), 50);
        for (n, document) in worked.documents.iter().enumerate() {
            let text = format!("a n{n}");
            let expected = json!({
                "start": text, "left": format!("{text}-l"), "right": text.len().to_string(), "far": "x",
                "end": format!("{text}-l {} ${{not}} COMPLETED", text.len()),
            });
            assert_eq!(document["workflow_results"], expected);
        }
    }
}

#[test]
fn the_document_of_a_good_run_fits_its_schema_and_adds_up() {
    let worked = work(DIAMOND, &[r#"{"name": "n"}"#], 1);
    let document = &worked.documents[0];
    assert_fits(document);
    let metrics = &document["execution_metrics"];
    assert_eq!((&document["schema"], &document["status"]), (&json!("bourn.result/v1"), &json!("COMPLETED")));
    assert_eq!(document["final_output"], "a n-l 3 ${not} COMPLETED");
    assert_eq!((&metrics["completed"], &metrics["failed"], &metrics["attempts"]), (&json!(5), &json!(0), &json!(5)));
    // Four of the five steps cost something.
    assert_eq!(metrics["usage"], json!({ "input_tokens": 12, "output_tokens": 8, "usd": 2.0 }));
    assert_eq!(metrics["duration_ms"], 30);
    let report = &document["performance_report"];
    assert_eq!(report["critical_path"], json!(["start", "left", "end"]));
    assert_eq!((&report["critical_path_ms"], &report["steps_ms"]), (&json!(30), &json!(40)));
    let applied = json!([{ "name": "parallel_where_possible", "effect": "steps of 40 ms took 30 ms", "saved_ms": 10 }]);
    assert_eq!(report["optimization_applied"], applied);
    assert!(document.get("error_analysis").is_none() && document.get("partial_results").is_none());
}

#[test]
fn the_document_of_a_failed_run_fits_its_schema_and_says_what_can_be_done() {
    let spec = DIAMOND.replace("after: '30'", "fail: permanent");
    let worked = work(&spec, &[r#"{"name": "n"}"#], 1);
    let document = &worked.documents[0];
    assert_fits(document);
    assert_eq!((&document["status"], &document["workflow_results"]), (&json!("FAILED"), &json!({})));
    assert_eq!(document["partial_results"], json!({ "start": "a n", "right": "3", "far": "x" }));
    let expected = json!({
        "type": "urn:bourn:error:permanent", "title": "a lasting failure", "class": "permanent", "detail": "no such luck",
        "instance": "/steps/left", "attempts": 1, "affected_steps": ["end"],
    });
    assert_eq!(document["error_analysis"], expected);
    assert_eq!(document["execution_metrics"]["steps"]["end"]["reason"], "`left` failed");
    let action = &document["recovery_plan"]["actions"][0];
    assert_eq!(action["command"], "bourn run work.yaml --input @input.json");
}

#[test]
fn the_three_sets_of_steps_are_always_the_whole() {
    for fail in ["", "permanent", "${input.how}"] {
        let spec = DIAMOND.replace("after: '10'", &format!("fail: '{fail}'"));
        let worked = work(&spec, &[r#"{"name": "n", "how": "permanent"}"#, "no json", r#"{"name": ""}"#], 3);
        for document in &worked.documents {
            assert_fits(document);
            let count = |key: &str| document["execution_metrics"][key].as_u64().unwrap();
            assert_eq!(count("completed") + count("failed") + count("skipped"), 5, "{document:#}");
        }
    }
}

#[test]
fn a_line_that_is_read_again_is_the_same_run_and_a_run_by_hand_has_its_own_id() {
    let spec = "steps: [{ id: a, command: say, args: x }]";
    let ids = |seed| {
        let worked = work(spec, &["1", "2"], seed);
        (worked.of(0, "/run_id"), worked.of(1, "/run_id"))
    };
    assert_eq!(ids(1), ids(2));
    assert_ne!(ids(1).0, ids(1).1);
    assert_eq!(ids(1).0.as_str().map(str::len), Some(32));
    let simulation = bourn_engine::testing::simulation::Simulation::new(1);
    let id = run_id(&simulation.env());
    assert_eq!((id.len(), id.as_bytes()[14]), (36, b'7'));
    let worked = run(spec, Runs::of("input", BoxConnector::new(lines_of(&["1"]))).with_id(&id), 1);
    assert_eq!(worked.of(0, "/run_id"), Value::String(id));
}

#[test]
fn the_output_has_the_format_that_was_asked_for() {
    let output = |format: &str| {
        let spec = format!(
            "steps: [{{ id: a, command: say, args: x }}, {{ id: b, letters: '${{a.results}}' }}]\noutput_format: {format}"
        );
        work(&spec, &["1"], 1).of(0, "/final_output")
    };
    assert_eq!(output("last"), "1");
    assert_eq!(output("map"), json!({ "a": "x", "b": "1" }));
    assert_eq!(output("list"), json!(["x", "1"]));
    assert_eq!(output("text"), "x\n\n1");
}

#[test]
fn what_a_step_gave_is_data_and_never_a_template() {
    let spec = "steps:\n  - { id: a, command: say, args: '${input.text}' }\n  - { id: b, command: say, args: 'it said ${a.results}' }\n";
    let worked = work(spec, &[r#"{"text": "${b.results} ${input}"}"#], 1);
    assert_eq!(worked.of(0, "/workflow_results/b"), "it said ${b.results} ${input}");
}

#[test]
fn a_step_may_have_the_name_of_the_column_that_a_stage_makes() {
    let spec =
        "steps:\n  - { id: said, command: say, args: one }\n  - { id: b, command: say, args: '${said.results} two' }\n";
    let worked = work(spec, &["1"], 1);
    assert_eq!(worked.of(0, "/workflow_results"), json!({ "said": "one", "b": "one two" }));
}
