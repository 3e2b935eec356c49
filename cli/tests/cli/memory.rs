//! What a run and a workflow have by name: checkpoints, and files beside the journal.

use serde_json::{Value, json};

use crate::support::Folder;

const SPEC: &str = "\
name: letters
steps:
  - { id: draft, set: 'dear ${input.who}' }
  - { id: agreed, needs: draft, wait: { signal: agreement } }
  - { id: sent, for_each: { in: '${input.to}' }, set: '${draft.results} to ${item}', needs: agreed }
";

fn begun() -> Folder {
    let folder = Folder::with(&[("letters.yaml", SPEC)]);
    let input = "{\"who\": \"ann\", \"to\": [\"a\", \"b\"]}";
    let ended = folder.bourn(&["run", "letters.yaml", "--id", "one", "--input", input]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    folder.bourn(&["approve", "one/agreed"]).quietly();
    folder
}

#[test]
fn the_checkpoints_of_a_run_are_its_beginning_and_each_step_and_each_can_be_forked_from() {
    let folder = begun();
    let list = folder.bourn(&["checkpoints", "list", "one"]).quietly();
    let names: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    let steps = ["step_completion_draft", "step_completion_agreed"];
    let items = ["step_completion_sent[0]", "step_completion_sent[1]", "step_completion_sent"];
    assert_eq!(names, [["workflow_initialization"].as_slice(), &steps, &items].concat(), "{list}");
    let told: Value =
        serde_json::from_str(&folder.bourn(&["checkpoints", "list", "one", "-o", "json"]).quietly()).unwrap();
    assert_eq!(
        (&told[0]["checkpoint"], &told[1]["event"]),
        (&json!("workflow_initialization"), &json!("StepCompleted"))
    );
    let forked = folder.bourn(&["runs", "fork", "one", "--at", names[2], "--id", "two", "-o", "json"]);
    let document: Value = serde_json::from_str(&forked.out).unwrap();
    assert_eq!(document["final_output"], json!(["dear ann to a", "dear ann to b"]));
    let none = folder.bourn(&["checkpoints", "list", "nobody"]).refused(2);
    assert!(none.contains("there is no run `nobody`"), "{none}");
    // What is called as a spec is one.
    assert!(folder.bourn(&["checkpoints", "list", "nothing.yaml"]).err.contains("nothing.yaml"));
}

#[test]
fn a_workflow_has_three_files_that_are_made_when_somebody_looks_and_left_alone_then() {
    let folder = begun();
    let path = |name: &str| folder.path(&format!(".bourn/memory/letters/{name}.json"));
    let all = ["learned_preferences", "optimization_patterns", "workflow_metadata"];
    assert!(all.iter().all(|name| !path(name).exists()));
    let list = folder.bourn(&["memory", "list", "letters"]).quietly();
    let names: Vec<&str> = list.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(names, all);
    assert!(all.iter().all(|name| path(name).exists()));
    let show = |name: &str| -> Value {
        serde_json::from_str(&folder.bourn(&["memory", "show", "letters", name]).quietly()).unwrap()
    };
    let metadata = show("workflow_metadata");
    assert_eq!(
        (&metadata["workflow"], &metadata["runs"], &metadata["file"]),
        (&json!("letters"), &json!(1), &json!("letters.yaml"))
    );
    assert_eq!(show("optimization_patterns")["steps"]["draft"]["n"], 1);
    assert_eq!(show("learned_preferences"), json!({ "signals": { "agreement": { "approved": 1 } } }));
    std::fs::write(path("learned_preferences"), "{\"mine\": true}").unwrap();
    assert_eq!(show("learned_preferences"), json!({ "mine": true }));
    let refused = |args: &[&str]| folder.bourn(args).refused(2);
    assert!(refused(&["memory", "show", "letters", "../../journal"]).contains("there is no `../../journal`"));
    assert!(refused(&["memory", "list", "nobody"]).contains("`nobody` has no runs"));
}
