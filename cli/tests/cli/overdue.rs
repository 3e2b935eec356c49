//! `timeout` of a workflow: runs that take longer than they may, and what the commands say of them.

use serde_json::json;

use crate::support::{Folder, json_of};

/// Ends when there is a file.
const HELD: &str = "\
name: held
timeout: 500ms
steps:
  - { id: first, set: '${input.n}' }
  - { id: held, process: { command: [sh, -c, 'until test -e open; do sleep 0.05; done; echo done'] }, needs: first }
finally:
  - { id: told, process: { command: [sh, -c, 'echo ${held.status}'] } }
";

#[test]
fn a_run_that_takes_too_long_is_ended_and_told_of_and_tried_again() {
    let folder = Folder::with(&[("held.yaml", HELD)]);
    let run = folder.bourn(&["run", "held.yaml", "--input", r#"{"n": 1}"#, "--id", "a", "-o", "json"]);
    let document = json_of(&run.out);
    assert_eq!((run.code, &document["status"]), (Some(1), &json!("TIMED_OUT")), "{}", run.err);
    assert_eq!(
        (&document["error_analysis"]["class"], &document["error_analysis"]["instance"]),
        (&json!("timeout"), &json!("/run"))
    );
    let steps = &document["execution_metrics"]["steps"];
    assert_eq!((&steps["first"]["status"], &steps["held"]["status"]), (&json!("COMPLETED"), &json!("CANCELED")));
    assert_eq!(steps["told"]["status"], "COMPLETED");
    let text = folder.bourn(&["runs", "result", "a", "--partial"]).quietly();
    assert!(text.contains("held a: TIMED_OUT in"), "{text}");
    assert!(text.contains("the time of the run is over"), "{text}");
    let history = folder.bourn(&["runs", "show", "a", "--history"]).quietly();
    assert!(history.trim_end().ends_with("RunTimedOut"), "{history}");
    let query = "status = 'TIMED_OUT' and deadline <= ended_at and deadline > started_at";
    assert!(folder.bourn(&["runs", "list", "--query", query]).quietly().contains("TIMED_OUT"));
    assert!(folder.bourn(&["runs", "list", "--status", "timed_out"]).quietly().contains("TIMED_OUT"));
    let shown = json_of(&folder.bourn(&["runs", "show", "a", "-o", "json"]).quietly());
    assert!(shown["execution_metadata"]["deadline"].is_string(), "{shown:#}");
    let why = folder.bourn(&["runs", "diagnose", "a"]).quietly();
    assert!(
        why.contains("it took longer than its `timeout`.") && why.ends_with("next: bourn runs recover a\n"),
        "{why}"
    );
    let insights = json_of(&folder.bourn(&["insights", "held", "-o", "json"]).quietly());
    assert_eq!(insights["status"], json!({ "TIMED_OUT": 1 }));
    let replayed = folder.bourn(&["runs", "replay", "a"]).quietly();
    assert!(replayed.starts_with("same decisions: "), "{replayed}");
    assert_eq!(folder.bourn(&["runs", "resume", "a"]).code, Some(2));
    assert_eq!(folder.bourn(&["db", "check"]).code, Some(0));
    std::fs::write(folder.path("open"), "").unwrap();
    let again = json_of(&folder.bourn(&["runs", "recover", "a", "-o", "json"]).quietly());
    assert_eq!((&again["status"], &again["workflow_results"]["held"]), (&json!("COMPLETED"), &json!("done")));
}

#[test]
fn a_run_that_waits_ends_when_its_time_is_over() {
    let spec = "name: asks\ntimeout: 1s\nsteps: [{ id: held, wait: { signal: go } }]\n";
    let folder = Folder::with(&[("asks.yaml", spec)]);
    let run = folder.bourn(&["run", "asks.yaml", "--input", "1", "--id", "a", "--wait", "-o", "json"]);
    assert_eq!((run.code, &json_of(&run.out)["status"]), (Some(1), &json!("TIMED_OUT")), "{}", run.err);
    // Nobody has the job of this one, and its command is run again.
    let folder = Folder::with(&[("asks.yaml", &spec.replace("1s", "2h"))]);
    folder.bourn(&["run", "asks.yaml", "--input", "1", "--id", "a"]);
    let why = folder.bourn(&["runs", "diagnose", "a"]).quietly();
    assert!(why.contains("it has to have ended at 2"), "{why}");
}

#[test]
fn a_run_that_may_take_no_time_is_refused() {
    let folder = Folder::with(&[("none.yaml", "timeout: 0\nsteps: [{ id: a, set: 1 }]\n")]);
    let told = folder.bourn(&["validate", "none.yaml"]);
    assert!(told.code == Some(2) && told.err.contains("a run that may take no time does nothing"), "{}", told.err);
}
