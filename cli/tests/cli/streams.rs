//! Answers of models that come in pieces, against a server that streams as the services do.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};

use crate::mock_llm::Served;
use crate::models::{rows, run_in};
use crate::support::{Ended, Folder};

/// Texts that a stream could trip over, and others, the same each time.
fn texts(count: usize) -> String {
    let any = prop_oneof![
        any::<String>(),
        "(data: |event: |\\[DONE\\]|\n|\r|\r\n|:|\u{feff}|é|🦀| ){1,12}",
        "[a-z ]{100,400}",
    ];
    let mut runner = TestRunner::deterministic();
    let line = |id: usize, text: String| format!("{}\n", json!({ "id": id, "text": text }));
    (0..count).map(|id| line(id, any.new_tree(&mut runner).unwrap().current())).collect()
}

fn spec(model: &str, more: &str) -> String {
    format!(
        "name: ask
source:
  file: {{ path: in.jsonl }}
stages:
  - model:
      prompt: \"${{id}} ${{text}}\"
      model: {model}
      max_tokens: 60
      usage: cost
      price: {{ input: 1000, output: 2000 }}
{more}
      limits: {{ in_flight: 4, retry: {{ initial_interval: 1ms, max_attempts: 5 }} }}
sink:
  file: {{ path: out.jsonl, format: json }}
"
    )
}

fn ask(server: &Served, model: &str, more: &str, input: &str) -> (Vec<Value>, Ended) {
    let folder = Folder::with(&[("s.yaml", &spec(model, more)), ("in.jsonl", input)]);
    let ended = run_in(server, &folder, &["run", "s.yaml", "--quiet"]);
    let all = if ended.code == Some(0) { rows(&folder) } else { Vec::new() };
    (all, ended)
}

#[tokio::test]
async fn rows_are_the_same_with_pieces_and_without_also_when_bytes_dribble() {
    let server = Served::with("rules: [ { fault: { kind: dribble }, one_in: 3 } ]", &["--lenient"]);
    let input = texts(150);
    for model in ["claude-opus-5", "gpt-5"] {
        let (whole, ended) = ask(&server, model, "", &input);
        ended.quietly();
        let (pieces, ended) = ask(&server, model, "      stream: true", &input);
        ended.quietly();
        assert_eq!((whole.len(), &pieces), (150, &whole));
        assert!(whole.iter().all(|row| row["cost"]["output_tokens"].as_u64() > Some(0)), "{whole:?}");
        // What is asked for is the same document.
        let schema = "      json_schema: { type: object, properties: { mood: { enum: [calm] } } }";
        let (documents, ended) = ask(&server, model, &format!("{schema}\n      stream: true"), &texts(3));
        ended.quietly();
        assert_eq!(documents[2]["result"], json!({ "mood": "calm" }));
    }
    assert_eq!(server.stats().await["answered"], 606);
}

#[tokio::test]
async fn what_breaks_off_is_no_answer_and_is_asked_again() {
    let kinds = ["half_json", "cut", "error", "rubbish", "endless"];
    let rule = |kind: &&str| format!("  - fault: {{ kind: {kind} }}\n    times: 2\n");
    let server = Served::with(&format!("rules:\n{}", kinds.iter().map(rule).collect::<String>()), &[]);
    let line = |id: i32| format!("{}\n", json!({ "id": id, "text": "x" }));
    let input: String = (0..20).map(line).collect();
    for model in ["claude-opus-5", "gpt-5"] {
        let (rows, ended) = ask(&server, model, "      stream: true", &input);
        assert_eq!((ended.code, rows.len()), (Some(0), 20), "{}", ended.err);
    }
    let stats = server.stats().await;
    assert_eq!((&stats["answered"], &stats["faults"]), (&40.into(), &10.into()));
}

#[tokio::test]
async fn a_stream_that_ends_too_soon_is_told_with_the_class_that_passes() {
    for (kind, told) in [
        ("half_json", "the answer broke off: its end did not come"),
        ("error", "529 overloaded_error: Overloaded"),
        ("rubbish", "the answer broke off: its end did not come"),
        ("endless", "the answer has more than 10485760 bytes (`answers of models`)"),
    ] {
        let server = Served::with(&format!("rules: [ {{ fault: {{ kind: {kind} }} }} ]"), &[]);
        let flow =
            "steps: [ { id: ask, model: { prompt: hi, model: opus, stream: true }, retry: { max_attempts: 1 } } ]";
        let folder = Folder::with(&[("s.yaml", flow)]);
        let ended = run_in(&server, &folder, &["run", "s.yaml", "-o", "json"]);
        let document: Value = serde_json::from_str(&ended.out).unwrap();
        let analysis = &document["error_analysis"];
        assert!(analysis["detail"].as_str().unwrap().contains(told), "{kind}: {analysis}");
        assert_eq!(analysis["class"], if kind == "endless" { "budget" } else { "transient" }, "{kind}: {analysis}");
        assert_eq!(document["final_output"], Value::Null);
    }
}

#[tokio::test]
async fn a_stream_that_stalls_is_missed_by_its_heartbeat_and_one_that_dribbles_is_alive() {
    let server = Served::with(
        "rules: [ { match: { text: stall }, fault: { kind: stall } }, { fault: { kind: dribble } } ]",
        &[],
    );
    let flow = |text: &str, timeout: &str| {
        let model = format!("model: {{ prompt: {text}, model: opus, stream: true }}");
        let flow = format!("steps: [ {{ id: ask, {model}, timeout: {timeout}, retry: {{ max_attempts: 1 }} }} ]");
        let folder = Folder::with(&[("s.yaml", &flow)]);
        let ended = run_in(&server, &folder, &["run", "s.yaml", "-o", "json"]);
        serde_json::from_str::<Value>(&ended.out).unwrap_or_else(|e| panic!("{e}: {}", ended.err))
    };
    let stalled = flow("stall", "{ heartbeat: 300ms, start_to_close: 1h }");
    assert_eq!(stalled["execution_metrics"]["steps"]["ask"]["status"], "TIMED_OUT", "{stalled}");
    assert_eq!(stalled["error_analysis"]["detail"], "no sign of life within 300ms (`heartbeat`)");
    let alive = flow("go on", "{ heartbeat: 1m }");
    assert_eq!(alive["status"], "COMPLETED", "{alive}");
}

#[test]
fn a_model_that_does_not_stream_has_no_heartbeat() {
    let model = "model: { prompt: hi, model: opus }";
    let flow = format!("steps: [ {{ id: ask, {model}, timeout: {{ heartbeat: 10s }} }} ]");
    let told = Folder::with(&[("s.yaml", &flow)]).bourn(&["validate", "s.yaml"]).refused(2);
    let reason = "`model` has no `heartbeat`: without `stream: true` a model says nothing until its answer is there";
    assert!(told.contains(reason), "{told}");
}

#[test]
fn what_a_program_writes_is_a_sign_of_life_and_its_silence_ends_it() {
    let run = |script: &str| {
        let process = format!("process: {{ command: [sh, -c, '{script}'] }}");
        let timeout = "timeout: { heartbeat: 400ms, start_to_close: 1h }";
        let flow = format!("steps: [ {{ id: work, {process}, {timeout}, retry: {{ max_attempts: 1 }} }} ]");
        let ended = Folder::with(&[("s.yaml", &flow)]).bourn(&["run", "s.yaml", "-o", "json"]);
        serde_json::from_str::<Value>(&ended.out).unwrap_or_else(|e| panic!("{e}: {}", ended.err))
    };
    let silent = run("echo begun; sleep 1000");
    assert_eq!(silent["error_analysis"]["detail"], "no sign of life within 400ms (`heartbeat`)", "{silent}");
    assert_eq!(run("echo begun; echo on >&2; echo done")["final_output"], "begun\ndone");
}
