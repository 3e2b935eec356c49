//! What each run may spend, as people say it.

use serde_json::json;

use crate::support::{Folder, json_of};

/// Two questions to the mock model, one after the other.
const SPEC: &str = "\
name: asks
budget: { per_run: { tokens: 1, on_exceeded: pause } }
steps:
  - { id: a, model: { model: haiku, prompt: 'a question about ${input.n}', max_tokens: 50 } }
  - { id: b, model: { model: haiku, prompt: 'another one: ${a.results}', max_tokens: 50 } }
";

#[test]
fn a_run_that_has_spent_what_it_may_is_paused_and_goes_on_with_more() {
    let folder = Folder::with(&[("asks.yaml", SPEC)]);
    let run = folder.bourn(&["run", "asks.yaml", "--mock", "--input", r#"{"n": 1}"#, "--id", "a", "-o", "json"]);
    assert_eq!((run.code, &json_of(&run.out)["status"]), (Some(1), &json!("PAUSED")), "{}", run.err);
    assert!(run.err.contains("1 run has spent what it may, and is paused"), "{}", run.err);
    let why = folder.bourn(&["runs", "diagnose", "a"]).quietly();
    assert!(why.contains("what it may spend is spent."), "{why}");
    assert!(why.ends_with("next: bourn runs resume a --budget per_run.usd=… or per_run.tokens=…\n"), "{why}");
    // Enough for what may be read and written of one of them.
    let more = |tokens: &str| {
        let budget = format!("per_run.tokens={tokens}");
        json_of(&folder.bourn(&["runs", "resume", "a", "--budget", &budget, "-o", "json"]).out)
    };
    let half = more("65");
    assert_eq!(
        (&half["status"], &half["execution_metrics"]["steps"]["a"]["status"]),
        (&json!("PAUSED"), &json!("COMPLETED"))
    );
    assert_eq!(more("1000")["status"], "COMPLETED");
    // Said for a command, it holds over the spec.
    let args = ["run", "asks.yaml", "--mock", "--input", r#"{"n": 2}"#, "-o", "json", "--budget"];
    let failed = folder.bourn(&[&args[..], &["per_run.on_exceeded=fail"]].concat());
    let document = json_of(&failed.out);
    assert_eq!((failed.code, &document["error_analysis"]["class"]), (Some(1), &json!("budget")));
    let detail = document["error_analysis"]["detail"].as_str().unwrap();
    assert!(detail.starts_with("the budget of the run is spent: 0 of 1 tokens"), "{detail}");
}

#[test]
fn whoever_goes_on_with_a_run_keeps_to_what_the_command_line_said() {
    let spec = SPEC.replace("budget: { per_run: { tokens: 1, on_exceeded: pause } }\n", "");
    let waits =
        spec.replace("  - { id: b, ", "  - { id: go, wait: { signal: go }, needs: a }\n  - { id: b, needs: go, ");
    let folder = Folder::with(&[("asks.yaml", &spec), ("waits.yaml", &waits)]);
    let args = ["run", "asks.yaml", "--mock", "--input", r#"{"n": 1}"#, "--id", "a", "-o", "json"];
    let said = ["--budget", "per_run.tokens=1", "--budget", "per_run.on_exceeded=pause"];
    let run = folder.bourn(&[&args[..], &said].concat());
    assert_eq!(json_of(&run.out)["status"], "PAUSED", "{}", run.err);
    let status = |args: &[&str]| json_of(&folder.bourn(&[args, &["-o", "json"]].concat()).out)["status"].clone();
    assert_eq!(status(&["runs", "resume", "a"]), "PAUSED");
    assert_eq!(status(&["runs", "resume", "a", "--budget", "per_run.tokens=1000"]), "COMPLETED");
    let args = ["run", "waits.yaml", "--mock", "--input", r#"{"n": 1}"#, "--id", "w", "-o", "json"];
    let said = ["--budget", "per_run.tokens=65", "--budget", "per_run.on_exceeded=fail"];
    let run = folder.bourn(&[&args[..], &said].concat());
    assert_eq!(json_of(&run.out)["status"], "WAITING", "{}", run.err);
    folder.bourn(&["signal", "w", "go"]);
    let shown = folder.bourn(&["runs", "show", "w"]).quietly();
    assert!(shown.starts_with("asks w: FAILED"), "{shown}");
}

#[test]
fn what_can_not_be_kept_is_refused() {
    let none = SPEC.to_owned() + "optimization: { state_persistence: false }\n";
    let priced = SPEC.replace("tokens: 1", "usd: 1");
    let pipeline = "source: { generate: { rows: 1 } }\nsink: { stdout: {} }\n";
    let folder = Folder::with(&[("none.yaml", &none), ("priced.yaml", &priced), ("rows.yaml", pipeline)]);
    let told = folder.bourn(&["run", "none.yaml", "--mock", "--input", "1"]);
    assert!(
        told.code == Some(2) && told.err.contains("a job that pauses goes on from its checkpoint or its journal"),
        "{}",
        told.err
    );
    let told = folder.bourn(&["run", "priced.yaml", "--mock", "--input", "1"]);
    assert!(told.code == Some(2) && told.err.contains("a budget in money is kept"), "{}", told.err);
    let told = folder.bourn(&["run", "rows.yaml", "--budget", "per_run.usd=1"]);
    assert!(told.code == Some(2) && told.err.contains("a pipeline has no runs"), "{}", told.err);
}
