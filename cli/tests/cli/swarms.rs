//! Swarms: one agent splits a task, others do its parts side by side, and the first joins what they found.

use serde_json::{Value, json};

use crate::mock_llm::Served;
use crate::support::{Ended, Folder};

/// The one that the project began with.
const SWARM: &str = include_str!("../../../engine/src/spec/tests/swarm.json");

/// Two subtasks for one specialist, one for the other; each takes a while.
const SCRIPT: &str = "
rules:
  - match: { text: Split this task }
    answer: { json: { subtasks: [
      { id: s1, description: look for keys, assigned_specialist: security_specialist },
      { id: s2, description: look for input, assigned_specialist: security_specialist },
      { id: p1, description: look for loops, assigned_specialist: performance_specialist } ] } }
  - { match: { text: 'Subtask s1' }, answer: { text: found keys }, latency: 300ms }
  - { match: { text: 'Subtask s2' }, answer: { text: found input }, latency: 300ms }
  - { match: { text: 'Subtask p1' }, answer: { text: found loops }, latency: 300ms }
  - { match: { text: Your specialists }, answer: { text: all is found } }
";

fn run(server: &Served, folder: &Folder, args: &[&str]) -> Ended {
    let mut command = folder.command(args);
    command.env("ANTHROPIC_BASE_URL", &server.address).env("ANTHROPIC_API_KEY", "any");
    crate::support::ended(command.output().unwrap())
}

fn document(ended: Ended) -> Value {
    serde_json::from_str(&ended.quietly()).unwrap()
}

#[test]
fn the_first_swarm_runs_unchanged_without_a_model() {
    let folder = Folder::with(&[("swarm.json", SWARM)]);
    let document = document(folder.bourn(&["run", "swarm.json", "--input", "review repo", "--mock", "-o", "json"]));
    assert_eq!((&document["status"], &document["workflow"]), (&json!("COMPLETED"), &json!("swarm")));
    let contributions = document["workflow_results"]["agent_contributions"].as_object().unwrap();
    let agents: Vec<_> = contributions.values().map(|c| c["agent"].as_str().unwrap()).collect();
    assert_eq!(agents, ["security_specialist", "performance_specialist"]);
    let results: String = contributions.values().map(|c| c["result"].to_string()).collect();
    assert!(results.contains("It is part of this task: review repo"), "{results}");
    let plan: Value = serde_json::from_str(&folder.bourn(&["plan", "swarm.json", "-o", "json"]).quietly()).unwrap();
    assert_eq!((&plan["mode"], &plan["mode_reason"]), (&json!("swarm"), &json!("the spec says `type: swarm`")));
}

#[tokio::test]
async fn every_subtask_is_done_side_by_side_and_none_is_lost_though_one_agent_has_two() {
    let server = Served::with(SCRIPT, &[]);
    let folder = Folder::with(&[("swarm.json", SWARM)]);
    let document = document(run(&server, &folder, &["run", "swarm.json", "--input", "review repo", "-o", "json"]));
    let results = &document["workflow_results"];
    let said = |id: &str| (&results["agent_contributions"][id]["agent"], &results["agent_contributions"][id]["result"]);
    assert_eq!(said("s1"), (&json!("security_specialist"), &json!("found keys")));
    assert_eq!(said("s2"), (&json!("security_specialist"), &json!("found input")));
    assert_eq!(said("p1"), (&json!("performance_specialist"), &json!("found loops")));
    assert_eq!(document["final_output"], "all is found");
    let stats = server.stats().await;
    assert_eq!((&stats["answered"], &stats["in_flight_most"]), (&json!(5), &json!(3)));
}

#[tokio::test]
async fn a_stream_of_tasks_is_worked_on_at_once_and_no_answer_is_paid_for_again() {
    let server = Served::with(SCRIPT, &[]);
    let tasks: Vec<_> = (0..6).map(|n| json!({ "task": format!("review {n}") }).to_string()).collect();
    let tasks = tasks.join("\n");
    let folder = Folder::with(&[("swarm.json", SWARM), ("tasks.jsonl", &tasks)]);
    let args = ["run", "swarm.json", "--inputs", "tasks.jsonl", "-o", "json"];
    let lines = run(&server, &folder, &args).quietly();
    let documents: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(documents.len(), 6);
    assert!(documents.iter().all(|d| d["workflow_results"]["agent_contributions"].as_object().unwrap().len() == 3));
    let stats = server.stats().await;
    assert_eq!((&stats["answered"], &stats["idempotency_keys"]["answered_again"]), (&json!(30), &json!(0)));
    assert!(stats["in_flight_most"].as_u64() > Some(3), "{stats}");
}

#[tokio::test]
async fn a_subtask_for_nobody_and_one_that_fails_are_told() {
    let nobody = SCRIPT.replacen("performance_specialist", "chef", 1);
    let server = Served::with(&nobody, &[]);
    let folder = Folder::with(&[("swarm.json", SWARM)]);
    let args = ["run", "swarm.json", "--input", "review repo", "-o", "json"];
    let failed = run(&server, &folder, &args);
    assert_eq!(failed.code, Some(1));
    let document: Value = serde_json::from_str(&failed.out).unwrap();
    assert_eq!(document["error_analysis"]["instance"], "/steps/decompose");
    let detail = document["error_analysis"]["detail"].as_str().unwrap();
    assert!(detail.contains("\"chef\" is not one of"), "{detail}");

    let fails = SCRIPT.replace("answer: { text: found keys }", "fault: { status: 400 }");
    let server = Served::with(&fails, &[]);
    let document: Value = serde_json::from_str(&run(&server, &folder, &args).quietly()).unwrap();
    let results = &document["workflow_results"];
    assert_eq!(results["agent_contributions"]["s1"]["result"], Value::Null);
    assert_eq!(results["agent_contributions"]["s2"]["result"], "found input");
    assert_eq!(document["final_output"], "all is found");
}

#[test]
fn what_is_wrong_with_a_swarm_is_told_with_its_place() {
    let told = |spec: &str| {
        let folder = Folder::with(&[("s.yaml", spec)]);
        let ended = folder.bourn(&["validate", "s.yaml"]);
        assert_eq!(ended.code, Some(2), "{}", ended.out);
        ended.err
    };
    let two = "agents:\n  a: { role: x }\n  b: { role: y }\n";
    assert!(told(two).contains("s.yaml:2:3 no agent coordinates the others"), "{}", told(two));
    let alone = "agents:\n  coordinator: { role: x }\n";
    assert!(told(alone).contains("there is no other"), "{}", told(alone));
    let model = "agents:\n  coordinator: { role: x, model: opsu }\n  b: { role: y, rloe: z }\n";
    assert!(told(model).contains("s.yaml:3:17 unknown key `rloe` (did you mean `role`?)"), "{}", told(model));
    let model = model.replace(", rloe: z", "");
    assert!(
        told(&model).contains("s.yaml:2:34 there is no model `opsu`") && told(&model).contains("opus"),
        "{}",
        told(&model)
    );
    let mesh = format!("topology: mesh\n{two}");
    assert!(told(&mesh).contains("s.yaml:1:11 `topology`") || told(&mesh).contains("later version"), "{}", told(&mesh));
    let named = format!("coordination: {{ coordinator: c }}\n{two}");
    assert!(told(&named).contains("there is no agent `c`"), "{}", told(&named));
}
