//! `cache` of a step: without a server it is the journal, which the next process has too.

use serde_json::Value;

use crate::support::Folder;

const SPEC: &str = "\
name: looks
steps:
  - { id: look, process: { command: [sh, -c, 'echo call >> calls; echo found \"$0\"', '${input.what}'] }, cache: { ttl: 1h } }
  - { id: told, set: '${look.results}' }
";

fn calls(folder: &Folder) -> usize {
    std::fs::read_to_string(folder.path("calls")).unwrap_or_default().lines().count()
}

fn look(folder: &Folder, spec: &str, id: &str, input: &str) -> String {
    let ended = folder.bourn(&["run", spec, "--id", id, "--input", input, "-o", "json"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap_or_else(|_| panic!("{}", ended.err));
    assert_eq!(document["final_output"], "found x");
    document["execution_metrics"]["steps"]["look"]["status"].as_str().unwrap().to_owned()
}

#[test]
fn the_second_run_of_the_same_is_answered_from_the_journal_and_asks_nobody() {
    let folder = Folder::with(&[("looks.yaml", SPEC)]);
    let same = "{\"what\": \"x\", \"who\": \"me\"}";
    assert_eq!(look(&folder, "looks.yaml", "one", same), "COMPLETED");
    assert_eq!(look(&folder, "looks.yaml", "two", same), "CACHED");
    // What the step does not read counts for nothing, and neither does the name of the workflow.
    std::fs::write(folder.path("others.yaml"), SPEC.replace("name: looks", "name: others")).unwrap();
    assert_eq!(look(&folder, "others.yaml", "three", "{\"what\": \"x\"}"), "CACHED");
    assert_eq!(calls(&folder), 1);
    let shown = folder.bourn(&["runs", "show", "two"]).quietly();
    assert!(shown.lines().any(|line| line.starts_with("look  CACHED")), "{shown}");
    let history = folder.bourn(&["runs", "show", "two", "--history"]).quietly();
    assert!(history.lines().any(|line| line.contains("StepCached ") && line.ends_with(" look")), "{history}");
    // Another step is another thing, and so is a version that somebody has raised.
    std::fs::write(folder.path("newer.yaml"), SPEC.replace("ttl: 1h", "ttl: 1h, version: '2'")).unwrap();
    assert_eq!(look(&folder, "newer.yaml", "four", same), "COMPLETED");
    assert_eq!(calls(&folder), 2);
    // A run that takes over what the cache gave asks nobody either, and it is counted by itself.
    let forked = folder.bourn(&["runs", "fork", "two", "--at", "told", "--id", "five", "-o", "json"]);
    let document: Value = serde_json::from_str(&forked.out).unwrap();
    assert_eq!((&document["execution_metrics"]["steps"]["look"]["status"], calls(&folder)), (&"REUSED".into(), 2));
    let insights = folder.bourn(&["insights", "looks", "-o", "json"]).quietly();
    let insights: Value = serde_json::from_str(&insights).unwrap();
    assert_eq!(insights["steps"]["look"]["status"]["CACHED"], 1, "{insights:#}");
}

#[test]
fn runs_of_one_job_ask_once_and_the_table_says_how_many_did_not() {
    let folder = Folder::with(&[("looks.yaml", SPEC)]);
    let lines = "{\"what\": \"x\"}\n".repeat(50);
    std::fs::write(folder.path("in.jsonl"), lines).unwrap();
    let ended = folder.bourn(&["run", "looks.yaml", "--inputs", "in.jsonl", "--stats"]);
    assert_eq!((ended.code, calls(&folder)), (Some(0), 1), "{}", ended.err);
    assert!(ended.err.contains("`look`: 0 tokens read, 0 written; 49 rows answered from the cache"), "{}", ended.err);
}

#[test]
fn without_a_journal_it_is_in_the_process_and_a_plan_says_what_is_looked_up() {
    let spec = SPEC.replace("name: looks", "name: looks\noptimization: { state_persistence: false }");
    let folder = Folder::with(&[("looks.yaml", &spec)]);
    assert_eq!(look(&folder, "looks.yaml", "one", "{\"what\": \"x\"}"), "COMPLETED");
    assert_eq!(look(&folder, "looks.yaml", "two", "{\"what\": \"x\"}"), "COMPLETED");
    let planned: Value = serde_json::from_str(&folder.bourn(&["plan", "looks.yaml", "-o", "json"]).quietly()).unwrap();
    let wishes = planned["optimizations"].as_array().unwrap_or_else(|| panic!("{planned:#}"));
    let cache = wishes.iter().find(|wish| wish["name"] == "cache").unwrap();
    assert_eq!(
        (&cache["applied"], &cache["reason"]),
        (&true.into(), &"the step that says so is answered from there".into())
    );
}
