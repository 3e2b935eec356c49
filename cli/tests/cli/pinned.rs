//! What a run begins with is what it ends with: input that was checked, and the spec as it was.

use std::collections::BTreeMap;

use serde_json::json;

use crate::support::{Folder, json_of};

const SPEC: &str = "\
name: held
input: { schema: { type: object, required: [n] } }
steps:
  - { id: first, set: '${input.n}' }
  - { id: held, process: { command: [sh, -c, 'until test -e open; do sleep 0.05; done; echo done'] }, needs: first }
  - { id: after, set: 'by the old spec: ${held.results}' }
";

#[test]
fn an_input_that_does_not_fit_begins_no_run() {
    let folder = Folder::with(&[("held.yaml", SPEC)]);
    for (input, why) in [("{}", "\"n\" is a required property"), ("7", "is not of type"), ("{", "not JSON")] {
        let run = folder.bourn(&["run", "held.yaml", "--input", input]);
        let told = [run.err, run.out].concat();
        assert!(run.code == Some(2) && told.contains(why), "{told}");
    }
    // One that fits is the first run that there is.
    std::fs::write(folder.path("open"), "").unwrap();
    folder.bourn(&["run", "held.yaml", "--input", r#"{"n": 1}"#]).out.clear();
    let list = json_of(&folder.bourn(&["runs", "list", "-o", "json"]).quietly());
    assert_eq!(list.as_array().map(Vec::len), Some(1), "{list}");
}

#[test]
fn a_run_that_was_cut_off_ends_by_the_spec_that_it_began_with() {
    let folder = Folder::with(&[("held.yaml", SPEC)]);
    let args = ["run", "held.yaml", "--input", r#"{"n": 1}"#, "--id", "a", "--label", "team=payments"];
    let mut child = folder.command(&args).spawn().unwrap();
    while !folder.bourn(&["runs", "show", "a", "--history"]).out.contains("StepCompleted") {}
    child.kill().unwrap();
    child.wait().unwrap();
    std::fs::write(folder.path("open"), "").unwrap();
    std::fs::write(folder.path("held.yaml"), SPEC.replace("the old spec", "another one")).unwrap();
    let shown = |run: &str| {
        json_of(&folder.bourn(&["runs", "show", run, "-o", "json"]).quietly())["execution_metadata"].clone()
    };
    let before = shown("a");
    let resumed = json_of(&folder.bourn(&["runs", "resume", "a", "-o", "json"]).quietly());
    assert_eq!((&resumed["status"], &resumed["final_output"]), (&json!("COMPLETED"), &json!("by the old spec: done")));
    let after = shown("a");
    let new = json_of(&folder.bourn(&["run", "held.yaml", "--input", r#"{"n": 1}"#, "--id", "b", "-o", "json"]).out);
    assert_eq!(new["final_output"], "by another one: done");
    let other = shown("b");
    for pinned in ["spec_hash", "engine_version", "trace_id", "labels", "start_time", "forked_from"] {
        assert_eq!(before[pinned], after[pinned], "{pinned}");
    }
    assert_eq!(after["labels"], json!(BTreeMap::from([("team", "payments")])));
    assert_eq!(after["trace_id"].as_str().map(str::len), Some(32));
    assert!(after["spec_hash"] != other["spec_hash"] && after["trace_id"] != other["trace_id"]);
    // A fork says what it was made from.
    folder.bourn(&["runs", "fork", "a", "--at", "held", "--id", "c"]).out.clear();
    let forked = shown("c");
    assert_eq!((&forked["forked_from"], &forked["spec_hash"]), (&json!("a"), &after["spec_hash"]));
}
