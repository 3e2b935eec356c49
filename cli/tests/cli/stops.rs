//! `bourn runs cancel` and `pause`: of runs that another process has, and of those that nobody has.

use std::process::Child;

use serde_json::json;

use crate::support::{Folder, ended, json_of};

/// Waits in the middle until there is a file, and tells of its end.
const GATE: &str = "\
name: gate
steps:
  - { id: first, command: set, args: 1 }
  - { id: held, process: { command: [sh, -c, 'until test -e open; do sleep 0.05; done; echo done'] }, needs: first }
  - { id: after, command: set, args: '${held.results}' }
finally:
  - { id: told, process: { command: [sh, -c, 'echo told >> told; echo ${held.status}'] } }
";

/// A run that is under way in another process.
fn begun(folder: &Folder) -> Child {
    let child = folder.command(&["run", "gate.yaml", "--id", "a", "-o", "json"]).spawn().unwrap();
    while !folder.bourn(&["runs", "show", "a", "--history"]).out.contains("StepCompleted") {}
    child
}

fn events(folder: &Folder, run: &str) -> Vec<String> {
    let history = folder.bourn(&["runs", "show", run, "--history"]).quietly();
    history.lines().filter_map(|line| line.split_whitespace().nth(1)).map(str::to_owned).collect()
}

#[test]
fn a_run_that_another_process_has_is_canceled_there_and_cleans_up() {
    let folder = Folder::with(&[("gate.yaml", GATE)]);
    let child = begun(&folder);
    assert_eq!(folder.bourn(&["runs", "cancel", "a"]).quietly(), "a is canceled\n");
    let run = ended(child.wait_with_output().unwrap());
    let document = json_of(&run.out);
    assert_eq!((run.code, &document["status"]), (Some(1), &json!("CANCELED")));
    assert_eq!(document["execution_metrics"]["steps"]["told"]["status"], "COMPLETED");
    assert_eq!(folder.read("told"), "told\n");
    let wanted = ["RunStarted", "StepCompleted", "RunCancelRequested"];
    let events = events(&folder, "a");
    assert_eq!((&events[..3], events.last().unwrap().as_str()), (&wanted.map(str::to_owned)[..], "RunCanceled"));
    assert_eq!(folder.bourn(&["runs", "cancel", "a"]).refused(2), "error: run `a` is CANCELED already\n");
    // It is tried again as any other that did not complete.
    std::fs::write(folder.path("open"), "").unwrap();
    let recovered = json_of(&folder.bourn(&["runs", "recover", "a", "-o", "json"]).quietly());
    assert_eq!(recovered["status"], "COMPLETED");
}

#[test]
fn a_run_that_is_paused_ends_what_it_is_at_and_goes_on_when_it_is_resumed() {
    let folder = Folder::with(&[("gate.yaml", GATE)]);
    let child = begun(&folder);
    let slow = folder.bourn(&["runs", "pause", "a", "--timeout", "100ms"]).refused(1);
    assert!(slow.contains("that runs `a` has not ended within 100ms what it is at; it is to be paused"), "{slow}");
    let again = folder.command(&["runs", "pause", "a"]).spawn().unwrap();
    std::fs::write(folder.path("open"), "").unwrap();
    assert_eq!(ended(again.wait_with_output().unwrap()).quietly(), "a is paused\n");
    let run = ended(child.wait_with_output().unwrap());
    assert_eq!((run.code, run.err.as_str()), (Some(0), "1 run is paused: `bourn runs resume` goes on\n"));
    let document = json_of(&run.out);
    assert_eq!((&document["status"], &document["partial_results"]["held"]), (&json!("PAUSED"), &json!("done")));
    let why = folder.bourn(&["runs", "diagnose", "a"]).quietly();
    assert!(why.contains("somebody has paused it.") && why.ends_with("next: bourn runs resume a\n"), "{why}");
    let list = folder.bourn(&["runs", "list", "--status", "paused", "-o", "json"]).quietly();
    assert_eq!(json_of(&list)[0]["run_id"], "a");
    let resumed = json_of(&folder.bourn(&["runs", "resume", "a", "-o", "json"]).quietly());
    assert_eq!((&resumed["status"], folder.read("told").as_str()), (&json!("COMPLETED"), "told\n"));
    assert_eq!(events(&folder, "a").iter().filter(|event| *event == "RunResumed").count(), 1);
}

/// Waits for somebody, and says that it is over.
const HOLD: &str = "\
name: hold
steps:
  - { id: first, process: { command: [sh, -c, 'echo call >> calls; echo first'] } }
  - { id: agreed, wait: { signal: agreement, timeout: 2d }, needs: first }
  - { id: last, process: { command: [sh, -c, 'echo last >> calls; echo last'] }, needs: agreed }
finally:
  - { id: told, process: { command: [sh, -c, 'echo told >> told; echo told'] }, if: '${.input.tells == true}' }
";

#[test]
fn a_run_that_nobody_has_is_canceled_here_and_its_job_does_not_begin_it_anew() {
    let folder = Folder::with(&[("hold.yaml", HOLD), ("in.jsonl", "{\"tells\": true}\n{}\n{}\n")]);
    let states = || {
        let ended = folder.bourn(&["run", "hold.yaml", "--inputs", "in.jsonl"]);
        let documents: Vec<_> = ended.out.lines().map(json_of).collect();
        let states: Vec<_> = documents.iter().map(|d| d["status"].as_str().unwrap().to_owned()).collect();
        (states, documents.iter().map(|d| d["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>())
    };
    let (first, ids) = states();
    assert_eq!(first, ["WAITING", "WAITING", "WAITING"]);
    assert_eq!(folder.bourn(&["runs", "cancel", &ids[0]]).quietly(), format!("{} is canceled\n", ids[0]));
    assert_eq!(folder.read("told"), "told\n");
    folder.bourn(&["runs", "pause", &ids[1]]).quietly();
    // Nothing of the one is done any more, and nothing of the other for now, whatever it waited for.
    let kept = folder.bourn(&["signal", &ids[1], "agreement"]);
    assert!(kept.err.contains("1 run is paused: `bourn runs resume` goes on"), "{}", kept.err);
    assert_eq!(states().0, ["CANCELED", "PAUSED", "WAITING"]);
    assert_eq!(folder.read("calls"), "call\n".repeat(3));
    folder.bourn(&["runs", "resume", &ids[1]]).quietly();
    assert_eq!(states().0, ["CANCELED", "COMPLETED", "WAITING"]);
    assert_eq!((folder.read("calls"), folder.read("told")), ("call\n".repeat(3) + "last\n", "told\n".into()));
}

#[test]
fn who_is_ended_at_once_leaves_no_program_of_a_step_behind() {
    const HELD: &str = "\
name: held
steps:
  - { id: a, process: { command: [sh, -c, 'exec 9> held; flock 9; echo > begun; sleep 5; echo x >> effect'] } }
";
    let folder = Folder::with(&[("a.yaml", HELD)]);
    let child = folder.command(&["run", "a.yaml", "--drain-timeout", "100ms"]).spawn().unwrap();
    while !folder.path("begun").exists() {
        std::thread::yield_now();
    }
    let sent = std::process::Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    let run = ended(child.wait_with_output().unwrap());
    assert_eq!(run.code, Some(130), "{}", run.err);
    // It has the lock as long as it is there.
    std::fs::File::options().append(true).open(folder.path("held")).unwrap().lock().unwrap();
    assert!(!folder.path("effect").exists(), "it went on, beside whoever does the step again");
}
