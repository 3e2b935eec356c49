//! The stage `model` against a server that speaks as the services do.

use crate::mock_llm::Served;
use crate::support::{Ended, Folder};

const SPEC: &str = "name: ask
source:
  generate: { rows: 20, columns: { id: n } }
stages:
  - model:
      prompt: \"question ${id}\"
      model: MODEL
      max_tokens: 100
      price: { input: 1000, output: 2000 }
      limits: { in_flight: 4, retry: { initial_interval: 1ms, max_attempts: 5 } }
sink:
  file: { path: out.jsonl, format: json }
";

/// Runs the spec against the server.
fn run(server: &Served, spec: &str) -> (Folder, Ended) {
    let folder = Folder::with(&[("s.yaml", spec)]);
    let ended = run_in(server, &folder, &["run", "s.yaml", "--quiet"]);
    (folder, ended)
}

/// Runs the command where the server is what models are asked at.
pub fn run_in(server: &Served, folder: &Folder, args: &[&str]) -> Ended {
    let mut command = folder.command(args);
    command.env("ANTHROPIC_BASE_URL", &server.address).env("ANTHROPIC_API_KEY", "any");
    command.env("OPENAI_BASE_URL", format!("{}/v1", server.address)).env("OPENAI_API_KEY", "any");
    crate::support::ended(command.output().unwrap())
}

pub fn rows(folder: &Folder) -> Vec<serde_json::Value> {
    folder.read("out.jsonl").lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn every_row_is_answered_by_either_service_and_asked_in_strict_words() {
    let server = Served::with("rules: []", &[]);
    for (model, id) in [("claude-4-opus", "claude-opus-5"), ("gpt-5", "gpt-5")] {
        let more = "effort: low\n      temperature: 0.5\n      stop: [END]\n      system: be short";
        let (folder, ended) = run(&server, &SPEC.replace("MODEL", &format!("{model}\n      {more}")));
        ended.quietly();
        let rows = rows(&folder);
        assert_eq!(rows.len(), 20);
        let first = rows[0]["result"].as_str().unwrap();
        assert!(first.starts_with("mock answer ") && first.contains(&format!(" of {id} to: question ")), "{first}");
    }
    let stats = server.stats().await;
    assert_eq!((&stats["answered"], &stats["refused"]), (&40.into(), &0.into()));
    assert_eq!(stats["idempotency_keys"]["answered_again"], 0);
}

#[tokio::test]
async fn a_document_fits_the_schema_that_the_service_is_told() {
    let server = Served::with("rules: []", &[]);
    let schema = "json_schema: { type: object, properties: { mood: { enum: [calm] } } }";
    for model in ["sonnet", "gpt-5"] {
        let (folder, ended) = run(&server, &SPEC.replace("MODEL", &format!("{model}\n      {schema}")));
        ended.quietly();
        assert_eq!(rows(&folder)[19]["result"], serde_json::json!({ "mood": "calm" }));
    }
}

#[tokio::test]
async fn faults_are_tried_again_and_nothing_is_lost() {
    let kinds = ["kind: rubbish", "kind: half_json", "kind: cut", "status: 500", "status: 529"];
    let rule = |kind: &&str| format!("  - match: {{ text: question }}\n    fault: {{ {kind} }}\n    times: 2\n");
    let server = Served::with(&format!("rules:\n{}", kinds.iter().map(rule).collect::<String>()), &[]);
    let (folder, ended) = run(&server, &SPEC.replace("MODEL", "opus"));
    // What fails twice is told.
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    assert!(ended.err.lines().all(|line| line.contains("WARN `model`: ")), "{}", ended.err);
    assert_eq!(rows(&folder).len(), 20);
    let stats = server.stats().await;
    assert_eq!((&stats["answered"], &stats["faults"]), (&20.into(), &10.into()));
}

#[tokio::test]
async fn what_the_service_refuses_for_good_is_told_once_and_without_the_key() {
    let server = Served::with("rules: []", &["--key", "the-right-key"]);
    let spec = SPEC.replace("MODEL", "opus\n      api_key: the-wrong-key");
    let (_, ended) = run(&server, &spec);
    let told = ended.err;
    assert!(told.contains("401 authentication_error") && !told.contains("the-wrong-key"), "{told}");
    assert_eq!(server.stats().await["answered"], 0);
}

#[test]
fn a_model_that_nobody_knows_is_a_problem_of_the_spec() {
    let folder = Folder::with(&[("s.yaml", &SPEC.replace("MODEL", "sonet"))]);
    let told = folder.bourn(&["validate", "s.yaml"]).refused(2);
    assert!(told.contains("there is no model `sonet`") && told.contains("did you mean `sonnet`?"), "{told}");
}

#[test]
fn the_names_of_models_are_listed() {
    let folder = Folder::with(&[]);
    let told = folder.bourn(&["models"]).quietly();
    assert!(told.contains("claude-4-opus") && told.contains("claude-opus-5") && told.contains("anthropic"), "{told}");
    let told = folder.bourn(&["models", "-o", "json"]).quietly();
    let list: Vec<serde_json::Value> = serde_json::from_str(&told).unwrap();
    assert!(
        list.contains(
            &serde_json::json!({ "name": "claude-4-sonnet", "id": "claude-sonnet-5", "provider": "anthropic" })
        )
    );
}

#[tokio::test]
async fn a_limit_that_the_service_hides_loses_no_row() {
    let server = Served::with("rules: []", &["--requests-per-minute", "600", "--burst", "500ms", "--hidden"]);
    let spec = SPEC.replace("MODEL", "gpt-5").replace("in_flight: 4", "in_flight: 20");
    let (folder, ended) = run(&server, &spec);
    ended.quietly();
    assert_eq!(rows(&folder).len(), 20);
    let stats = server.stats().await;
    // Those that were sent before the first of them was refused.
    assert!(stats["429"].as_u64().unwrap() > 0 && stats["answered"] == 20, "{stats}");
}

#[tokio::test]
async fn texts_in_pieces_get_their_vectors_in_few_requests() {
    let server = Served::with("rules: []", &[]);
    let spec = "name: embed
source:
  generate: { rows: 10, columns: { id: n, text: \"'first words. second words'\" } }
stages:
  - chunk: { column: text, size: 14 }
  - embed: { text: \"${chunk}\", model: embed-mock, dimensions: 8, shorten: true }
sink:
  file: { path: out.jsonl, format: json }
";
    let (folder, ended) = run(&server, spec);
    ended.quietly();
    let rows = rows(&folder);
    assert_eq!((rows.len(), &rows[0]["chunk"]), (20, &"first words.".into()));
    assert_eq!(
        (rows[0]["embedding"].as_array().unwrap().len(), rows[0]["embedding"] == rows[2]["embedding"]),
        (8, true)
    );
    assert_eq!(server.stats().await["requests"], 1);
}

#[tokio::test]
async fn a_model_thinks_as_hard_as_its_task_looks_where_the_spec_wishes_so() {
    let spec = "\
steps:
  - { id: easy, model: { prompt: '${input.easy}', model: sonnet } }
  - { id: hard, model: { prompt: '${input.hard}', model: gpt-5 } }
  - { id: said, model: { prompt: '${input.hard}', model: sonnet, effort: max } }
optimization: { adaptive_thinking: true }
";
    let hard = format!("Mend this:\n```\n{}\n```\n{}", "x".repeat(20_000), "- and that?\n".repeat(5));
    let input = serde_json::json!({ "easy": "hi", "hard": hard }).to_string();
    for (spec, efforts) in [
        (spec.to_owned(), serde_json::json!({ "low": 1, "high": 1, "max": 1 })),
        (spec.replace("adaptive_thinking: true", ""), serde_json::json!({ "max": 1 })),
    ] {
        // Strict fields: what a service does not know is refused.
        let server = Served::with("rules: []", &[]);
        let folder = Folder::with(&[("s.yaml", &spec), ("input.json", &input)]);
        let mut command = folder.command(&["run", "s.yaml", "--input", "@input.json", "-q"]);
        command.env("ANTHROPIC_BASE_URL", &server.address).env("ANTHROPIC_API_KEY", "any");
        command.env("OPENAI_BASE_URL", format!("{}/v1", server.address)).env("OPENAI_API_KEY", "any");
        let ended = crate::support::ended(command.output().unwrap());
        assert_eq!(ended.code, Some(0), "{}{}", ended.err, ended.out);
        assert_eq!(server.stats().await["efforts"], efforts);
    }
}

#[tokio::test]
async fn a_fallback_asks_under_a_key_of_its_own() {
    let rule = "rules:\n  - { match: { text: first }, fault: { status: 500 } }\n";
    let server = Served::with(rule, &[]);
    let model = |prompt: &str| format!("model: {{ model: opus, max_tokens: 9, prompt: {prompt} }}");
    let retry = "retry: { max_attempts: 3, initial_interval: 1ms }";
    let spec =
        format!("steps:\n  - {{ id: a, {}, {retry}, fallback: [ {{ {} }} ] }}\n", model("first"), model("second"));
    let folder = Folder::with(&[("w.yaml", &spec)]);
    let ended = run_in(&server, &folder, &["run", "w.yaml", "--id", "r"]);
    assert_eq!(ended.code, Some(0), "{}", ended.err);
    let keys = server.stats().await["idempotency_keys"].clone();
    let of = |key: &str| keys["most"][key]["requests"].as_u64();
    assert_eq!((&keys["distinct"], of("r/a"), of("r/a#fallback1")), (&2.into(), Some(3), Some(1)), "{keys}");
}
