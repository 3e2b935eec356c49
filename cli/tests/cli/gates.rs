//! Quality gates as people write them: programs, models, and what is told of them.

use serde_json::{Value, json};

use crate::mock_llm::Served;
use crate::models::run_in;
use crate::support::Folder;

const FLOW: &str = "
name: reviewed
steps:
  - id: draft
    set: { value: 'three words here' }
    quality_gates:
      - name: words
        process: { command: [sh, -c, 'test $(echo \"$0\" | wc -w) -ge MIN || { echo too short >&2; exit 3; }', '${draft.results}'] }
      - name: review
        model: { model: opus, prompt: 'Score ${draft.results}', json_schema: { type: object, properties: { score: { type: number, minimum: SCORE } } } }
        score: '${ .score }'
        at_least: 0.8
        on_fail: warn
";

#[tokio::test]
async fn programs_and_models_judge_and_are_asked_once() {
    let server = Served::with("rules: []", &[]);
    let folder = Folder::with(&[("s.yaml", &FLOW.replace("MIN", "3").replace("SCORE", "0.9"))]);
    let run = |more: &[&str]| run_in(&server, &folder, &[&["run", "s.yaml", "-o", "json"], more].concat());
    let ended = run(&["--id", "good"]);
    let document: Value = serde_json::from_str(&ended.out).unwrap_or_else(|e| panic!("{e}: {}", ended.err));
    assert_eq!((&document["status"], &document["final_output"]), (&json!("COMPLETED"), &json!("three words here")));
    let gates = &document["execution_metrics"]["steps"]["draft"]["quality_gates"];
    let expected = json!([
        { "name": "words", "passed": true, "on_fail": "block" },
        { "name": "review", "passed": true, "score": 0.9, "on_fail": "warn" },
    ]);
    assert_eq!(gates, &expected);
    // What it decided is decided again without asking anybody.
    let replayed = folder.bourn(&["runs", "replay", "good"]);
    assert_eq!(replayed.code, Some(0), "{}{}", replayed.out, replayed.err);
    assert_eq!(server.stats().await["answered"], 1);

    std::fs::write(folder.path("s.yaml"), FLOW.replace("MIN", "3").replace("SCORE", "0.5")).unwrap();
    let warned = run(&["--id", "warned", "--fail-on-degraded"]);
    assert_eq!(warned.code, Some(4), "{}", warned.err);
    let document: Value = serde_json::from_str(&warned.out).unwrap();
    assert_eq!((&document["status"], &document["degraded"]), (&json!("COMPLETED"), &json!(["draft"])));

    let told = folder.bourn(&["runs", "result", "warned"]).quietly();
    assert!(
        told.ends_with("degraded: draft did not pass `review`: its score is 0.5, and at least 0.8 is asked for\n"),
        "{told}"
    );

    std::fs::write(folder.path("s.yaml"), FLOW.replace("MIN", "4").replace("SCORE", "0.5")).unwrap();
    let blocked = run(&["--id", "blocked"]);
    let document: Value = serde_json::from_str(&blocked.out).unwrap();
    let analysis = &document["error_analysis"];
    assert_eq!((&analysis["class"], &analysis["instance"]), (&json!("validation"), &json!("/steps/draft")));
    assert_eq!(analysis["detail"], "quality gate `words`: `sh` ended with status 3: too short");
    assert_eq!(server.stats().await["answered"], 2, "the gate behind it is not asked");
}
