//! What a flow says of the way that it took.

use serde_json::{Value, json};

use crate::support::Folder;

const SPEC: &str = "\
name: sizes
steps:
  - id: size
    switch: [ { when: '${.input.n > 9}', then: large }, { then: small } ]
  - { id: large, set: 'large ${input.n}' }
  - { id: more, set: '${large.results}!' }
  - { id: small, set: '${.input.n | if . == 3 then error(\"three\") else . end}' }
  - { id: told, set: '${[.more.results, .small.results] | map(values) | first}' }
";

#[test]
fn a_result_has_the_way_that_was_taken_what_it_gave_and_what_all_runs_say_of_it() {
    let folder = Folder::with(&[("sizes.yaml", SPEC)]);
    let lines = [1, 2, 3, 4, 10, 11].map(|n| json!({ "n": n }).to_string()).join("\n");
    let ended = folder.fed(&["run", "sizes.yaml", "--inputs", "-", "-o", "json"], &lines);
    let documents: Vec<Value> = ended.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let schema: Value = serde_json::from_str(&folder.bourn(&["schema", "--of", "results"]).quietly()).unwrap();
    let schema = jsonschema::validator_for(&schema).unwrap();
    assert!(documents.iter().all(|document| schema.is_valid(document)));
    // What is learnt is in no document of a run that ends: the next one could not have the same.
    assert!(documents.iter().all(|document| document.get("learning_insights").is_none()));
    let large = &documents[4];
    assert_eq!(large["final_output"], "large 10!");
    assert_eq!(large["decision_path"], json!([{ "step": "size", "kind": "switch", "result": ["large"] }]));
    assert_eq!(large["branch_results"], json!({ "size": { "large": { "large": "large 10", "more": "large 10!" } } }));
    assert_eq!(
        (&documents[2]["status"], &documents[2]["branch_results"]),
        (&json!("FAILED"), &json!({ "size": { "small": {} } }))
    );
    let result = folder.bourn(&["runs", "result", large["run_id"].as_str().unwrap(), "-o", "json"]).quietly();
    let result: Value = serde_json::from_str(&result).unwrap();
    assert!(schema.is_valid(&result));
    let learnt = &result["learning_insights"];
    assert_eq!((&learnt["runs"], &learnt["advice"]), (&json!(6), &json!([])));
    let way = |way: &str| learnt["ways"]["size"][way].clone();
    assert_eq!(way("small"), json!({ "taken": 4, "completed": 3, "failed": 1, "usd": 0.0 }));
    assert_eq!(way("large"), json!({ "taken": 2, "completed": 2, "failed": 0, "usd": 0.0 }));
}

const ROUTED: &str = "\
name: routed
steps:
  - id: who
    route: { policy: epsilon_greedy, epsilon: 0, ways: [cheap, dear], reward: '${.cheap.results // .dear.results}' }
  - { id: cheap, set: { value: 1 } }
  - { id: dear, set: { value: 5 } }
";

#[test]
fn a_route_knows_what_its_ways_have_brought_in_earlier_processes() {
    let folder = Folder::with(&[("routed.yaml", ROUTED)]);
    let run = |id: &str| {
        let told = folder.bourn(&["run", "routed.yaml", "--input", "{}", "--id", id, "-o", "json"]).quietly();
        let document: Value = serde_json::from_str(&told).unwrap();
        document["decision_path"].clone()
    };
    let took = |way: &str| json!([{ "step": "who", "kind": "route", "result": [way] }]);
    assert_eq!(["a", "b", "c", "d"].map(run), ["cheap", "dear", "dear", "dear"].map(took));
    let found: Value = serde_json::from_str(&folder.bourn(&["insights", "routed", "-o", "json"]).quietly()).unwrap();
    let expected = json!({ "who": { "cheap": { "rewards": 1, "mean": 1.0 }, "dear": { "rewards": 3, "mean": 5.0 } } });
    assert_eq!(found["routes"], expected);
    let text = folder.bourn(&["insights", "routed"]).quietly();
    assert!(text.contains("rewards of who: cheap 1.000 in 1 runs; dear 5.000 in 3 runs"), "{text}");
    let result: Value = serde_json::from_str(&folder.bourn(&["runs", "result", "d", "-o", "json"]).quietly()).unwrap();
    assert_eq!(result["learning_insights"]["ways"]["who"]["dear"]["reward"], 5.0);
    // A run that goes on knows it too, and decides nothing anew.
    let again = folder.bourn(&["runs", "show", "a", "--decisions", "-o", "json"]).quietly();
    assert!(again.contains("route") && again.contains("cheap"), "{again}");
    assert_eq!(folder.bourn(&["runs", "replay", "a"]).code, Some(0));
}
