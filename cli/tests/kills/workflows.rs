//! Workflows that are killed, by SIGKILL, at random and at every boundary of their journal: every run ends, and no step that is in
//! the journal has its effect once more. `bourn torture` does it.

use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

fn torture(args: &[&str]) -> (Output, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
    command.arg("torture").args(args).args(["-o", "json"]).env_remove("BOURN_LOG");
    let ended = command.output().unwrap();
    let report = serde_json::from_slice(&ended.stdout).unwrap_or_default();
    (ended, report)
}

#[test]
fn no_run_is_lost_and_no_step_in_the_journal_is_done_again() {
    let said = |name, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());
    let (kills, runs) = (said("BOURN_KILLS", "36"), said("BOURN_RUNS", "300"));
    let (ended, report) = torture(&["--kills", &kills, "--runs", &runs, "--seed", "7"]);
    assert_eq!(ended.status.code(), Some(0), "{:#}\n{ended:?}", report["faults"]);
    assert_eq!((&report["lost"], &report["duplicated_commits"]), (&0.into(), &0.into()));
    assert_eq!(report["kills"].as_array().map(|kills| kills.len().to_string()), Some(kills));
    let points = report["points"].as_array().unwrap();
    assert!(points.len() == 2 && points.iter().all(|point| point[1].as_u64() >= Some(3)), "{points:?}");
    // Each run asks fifteen times; what the service refused was tried again.
    let number = |value: &Value| value.as_u64().unwrap();
    let requests = &report["requests"];
    assert_eq!(number(&requests["effects"]), number(&report["jobs"]) * number(&report["runs"]) * 15);
    assert!(number(&requests["refused"]) > 0 && number(&requests["sent"]) > number(&requests["effects"]), "{requests}");
    eprintln!("{} kills in {} jobs in {} s: {requests}", kills_of(&report), report["jobs"], report["seconds"]);
}

fn kills_of(report: &Value) -> usize {
    report["kills"].as_array().map_or(0, Vec::len)
}

#[test]
fn a_workflow_of_ones_own_is_killed_too_and_what_can_not_be_is_refused_with_the_reason() {
    let folder = TempDir::new().unwrap();
    let path = |name: &str| folder.path().join(name).display().to_string();
    let spec = "name: own\nsteps:\n  - { id: a, process: { command: [echo, '${input.n}'] } }\n  \
                - { id: b, for_each: { in: '${.input.list}' }, set: '${a.results} of ${item}' }\n  - { id: c, set: '${b.results}' }\n";
    std::fs::write(path("w.yaml"), spec).unwrap();
    let lines: Vec<_> = (0..200).map(|n| format!("{{\"n\": {n}, \"list\": [1, 2]}}\n")).collect();
    std::fs::write(path("in.jsonl"), lines.concat()).unwrap();
    let (ended, report) = torture(&[&path("w.yaml"), "--inputs", &path("in.jsonl"), "--kills", "5", "--seed", "3"]);
    assert_eq!(ended.status.code(), Some(0), "{:#}\n{ended:?}", report["faults"]);
    assert_eq!(
        (&report["lost"], &report["duplicated_commits"], &report["requests"]),
        (&0.into(), &0.into(), &Value::Null)
    );
    // Of each run the three steps, and two elements.
    assert_eq!(report["steps"].as_u64().unwrap(), report["jobs"].as_u64().unwrap() * 200 * 5);

    let refused = |args: &[&str]| {
        let (ended, _) = torture(args);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        String::from_utf8(ended.stderr).unwrap()
    };
    assert!(refused(&[&path("w.yaml")]).contains("`--inputs FILE` says what its runs are given"));
    assert!(refused(&["--mock"]).contains("--mock is for a spec"));
    assert!(refused(&[&path("w.yaml"), "--runs", "5"]).contains("--runs is for something else"));
    std::fs::write(path("none.jsonl"), "\n").unwrap();
    assert!(refused(&[&path("w.yaml"), "--inputs", &path("none.jsonl")]).contains("has no line"));
    std::fs::write(path("p.yaml"), "source: { generate: { rows: 1 } }\nsink: { stdout: {} }\n").unwrap();
    assert!(refused(&[&path("p.yaml"), "--runs", "5"]).contains("--runs is for workflows"));
}
