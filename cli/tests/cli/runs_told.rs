//! `bourn runs list --query`, `watch`, `diagnose`, and `show --decisions`: what can be asked about runs.

use std::io::{BufRead as _, BufReader};

use serde_json::{Value, json};

use crate::support::{Folder, ended, json_of};

/// Decides in every way there is.
const WAYS: &str = "\
name: ways
steps:
  - { id: wanted, if: '${.input.n > 1}', command: set, args: yes }
  - { id: route, switch: [{ when: '${.input.n > 5}', then: high }, { then: low }] }
  - { id: high, command: set, args: high }
  - { id: low, command: set, args: low }
  - id: asked
    process: { command: [sh, -c, 'test -e tried && exit 3; touch tried; exit 75'] }
    retry: { max_attempts: 2, initial_interval: 1ms }
    fallback: [{ command: set, args: instead }]
  - { id: lost, process: { command: [sh, -c, 'exit 3'] }, retry: { max_attempts: 1 }, default: nothing }
";

#[test]
fn what_was_decided_is_told_with_what_it_was_decided_on() {
    let folder = Folder::with(&[("ways.yaml", WAYS)]);
    let run = |id: &str, input: &str| {
        assert_eq!(folder.bourn(&["run", "ways.yaml", "--id", id, "--input", input]).code, Some(0));
        json_of(&folder.bourn(&["runs", "show", id, "--decisions", "-o", "json"]).quietly())
    };
    let first = run("a", "{\"n\": 7}");
    let of = |all: &Value, step: &str| {
        let all = all.as_array().unwrap().iter().filter(|d| d["step"] == step);
        all.map(|d| (d["kind"].as_str().unwrap().to_owned(), d["result"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(of(&first, "wanted"), [("if".to_owned(), json!(true))]);
    assert_eq!(of(&first, "route"), [("switch".to_owned(), json!(["high"]))]);
    let fallback = ("fallback".to_owned(), json!({ "number": 1, "command": "set" }));
    assert_eq!(of(&first, "asked").last(), Some(&fallback));
    assert_eq!(of(&first, "lost"), [("default".to_owned(), json!("nothing"))]);
    let condition = first.as_array().unwrap().iter().find(|d| d["step"] == "wanted").unwrap();
    assert_eq!(condition["condition"], "${.input.n > 1}");
    let second = run("b", "{\"n\": 1}");
    assert_eq!(of(&second, "wanted"), [("if".to_owned(), json!(false))]);
    assert_eq!(of(&second, "route"), [("switch".to_owned(), json!(["low"]))]);
    // The same again decides the same on the same grounds, and another input is other grounds.
    let third = run("c", "{\"n\": 7}");
    let grounds = |all: &Value| all[0]["context"]["hash"].as_str().unwrap().to_owned();
    assert_eq!(grounds(&third), grounds(&first));
    assert_ne!(grounds(&second), grounds(&first));
    let text = folder.bourn(&["runs", "show", "b", "--decisions"]).quietly();
    assert!(text.lines().any(|line| line.starts_with("wanted  if        false")), "{text}");
}

#[test]
fn a_fallback_that_failed_is_told_too_and_is_no_other_attempt() {
    let spec = "steps:\n  - { id: a, process: [sh, -c, 'exit 1'], retry: { max_attempts: 1 }, fallback: [{ command: process, \
                args: [sh, -c, 'exit 2'] }], default: none }\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    assert_eq!(folder.bourn(&["run", "w.yaml", "--id", "a"]).code, Some(0));
    let all = json_of(&folder.bourn(&["runs", "show", "a", "--decisions", "-o", "json"]).quietly());
    let told: Vec<_> =
        all.as_array().unwrap().iter().map(|d| (d["kind"].as_str().unwrap(), d["result"].clone())).collect();
    let failed = json!({ "number": 1, "command": "process", "failed": true });
    assert_eq!(told, [("fallback", failed), ("default", json!("none"))]);
}

#[test]
fn runs_are_found_by_label_and_query_and_what_is_no_query_is_told() {
    let spec = "steps: [{ id: a, command: set, args: '${input.n.m}' }]\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    let run = |id: &str, input: &str, label: &str| {
        folder.bourn(&["run", "w.yaml", "--id", id, "--input", input, "--label", label, "--label", "stage=test"])
    };
    run("one", "{\"n\": {\"m\": 1}}", "team=red").quietly();
    assert_eq!(run("two", "{\"n\": 2}", "team=blue").code, Some(1));
    let ids = |args: &[&str]| {
        let list = folder.bourn(&[&["runs", "list", "-o", "json"], args].concat()).quietly();
        let list = json_of(&list);
        list.as_array().unwrap().iter().map(|r| r["run_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(&["--label", "team=red"]), ["one"]);
    assert_eq!(ids(&["--label", "stage=test", "--label", "team=blue"]), ["two"]);
    assert_eq!(ids(&["--query", "workflow_type=\"chain\" and status=\"FAILED\""]), ["two"]);
    assert_eq!(ids(&["--query", "labels ->> 'team' in ('red', 'blue')"]), ["two", "one"]);
    let shown = folder.bourn(&["runs", "list", "--label", "team=red"]).quietly();
    assert!(shown.ends_with("stage=test team=red\n"), "{shown}");
    let wrong = folder.bourn(&["runs", "list", "--query", "colour = 1"]).refused(2);
    assert!(wrong.contains("the query is no condition: no such column: colour; it may name run_id,"), "{wrong}");
    assert!(folder.bourn(&["runs", "list", "--label", "a b=1"]).refused(2).contains("is no name of a label"));
}

/// Waits in the middle until there is a file.
const GATE: &str = "\
name: gate
steps:
  - { id: first, command: set, args: 1 }
  - { id: held, process: { command: [sh, -c, 'until test -e open; do sleep 0.05; done; echo ${input.code}; exit ${input.code}'] }, needs: first, retry: { max_attempts: 1 } }
  - { id: last, command: set, args: '${held.results}' }
";

#[test]
fn a_run_is_watched_while_it_runs_and_diagnosed_before_and_after() {
    let folder = Folder::with(&[("gate.yaml", GATE)]);
    for (id, code, wanted) in [("good", "0", "RunCompleted"), ("bad", "3", "RunFailed")] {
        let input = format!("{{\"code\": {code}}}");
        let mut runs = folder.command(&["run", "gate.yaml", "--id", id, "--input", &input]).spawn().unwrap();
        while folder.bourn(&["runs", "show", id]).code != Some(0) {}
        let mut watch = folder.command(&["runs", "watch", id, "-o", "json"]).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut next = || json_of(&lines.next().unwrap().unwrap())["event"].as_str().unwrap().to_owned();
        assert_eq!((next(), next()), ("RunStarted".into(), "StepCompleted".into()));
        let found = json_of(&folder.bourn(&["runs", "diagnose", id, "-o", "json"]).quietly());
        assert_eq!((&found["status"], &found["active"]), (&json!("RUNNING"), &json!(["held"])));
        assert_eq!(found["job"]["process"], json!(runs.id()));
        assert_eq!(found["pending"], json!([{ "step": "last", "needs": ["held"] }]));
        std::fs::write(folder.path("open"), "").unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| lines.next()).map(|l| json_of(&l.unwrap())["event"].clone()).collect();
        assert_eq!(rest.last().unwrap(), wanted);
        assert_eq!(ended(watch.wait_with_output().unwrap()).code, Some(i32::from(code != "0")));
        runs.wait().unwrap();
        std::fs::remove_file(folder.path("open")).unwrap();
    }
    let failed = folder.bourn(&["runs", "diagnose", "bad"]).quietly();
    assert!(failed.contains("step `held` failed for good after 1 attempt (validation)."), "{failed}");
    let (plan, next) = failed.split_once("plan: recover reuses first and runs held, last\n  estimate: ").unwrap();
    assert!(!plan.contains("estimate") && next.ends_with("\nnext: bourn runs recover bad\n"), "{failed}");
    assert!(next.contains(" ms: the mean of each step in the newest 2 runs of `gate`"), "{failed}");
    // A run that is over is told at once.
    let told = folder.bourn(&["runs", "watch", "good"]).quietly();
    assert!(told.lines().last().unwrap().ends_with("RunCompleted"), "{told}");
}

#[test]
fn a_second_start_of_a_run_that_another_process_has_waits_for_its_end() {
    let folder = Folder::with(&[("gate.yaml", GATE)]);
    let start = || {
        let args = ["run", "gate.yaml", "--id", "a", "--input", "{\"code\": 0}", "--on-conflict", "use-existing"];
        folder.command(&args).spawn().unwrap()
    };
    let first = start();
    while !folder.bourn(&["runs", "show", "a", "--history"]).out.contains("StepCompleted") {}
    let mut second = start();
    // It asks again and again meanwhile.
    (0..20).for_each(|_| drop(folder.bourn(&["runs", "list"]).quietly()));
    assert_eq!(second.try_wait().unwrap(), None);
    std::fs::write(folder.path("open"), "").unwrap();
    let [first, second] = [first, second].map(|child| ended(child.wait_with_output().unwrap()).quietly());
    assert_eq!(first, second);
}

#[test]
fn a_run_whose_process_is_gone_and_one_that_waits_say_why_they_stand() {
    let hold = "name: hold\nsteps: [{ id: agreed, wait: { signal: agreement, timeout: 2d } }]\n";
    let folder = Folder::with(&[("gate.yaml", GATE), ("hold.yaml", hold)]);
    folder.bourn(&["run", "hold.yaml", "--id", "w"]);
    let waits = folder.bourn(&["runs", "diagnose", "w"]).quietly();
    assert!(
        waits.contains("step `agreed` waits, in no process.\n  agreed waits for the signal `agreement` since "),
        "{waits}"
    );
    assert!(waits.ends_with("next: bourn approve w/agreed\n"), "{waits}");
    let mut runs = folder.command(&["run", "gate.yaml", "--id", "cut", "--input", "{\"code\": 0}"]).spawn().unwrap();
    while !folder.bourn(&["runs", "show", "cut", "--history"]).out.contains("StepCompleted") {}
    runs.kill().unwrap();
    runs.wait().unwrap();
    std::fs::write(folder.path("open"), "").unwrap();
    let gone = folder.bourn(&["runs", "diagnose", "cut"]).quietly();
    let why = format!("its process {} has gone before it ended, and nobody runs job 2.", runs.id());
    assert!(
        gone.contains(&why) && gone.ends_with("  next: held\n  last needs held\nnext: bourn runs resume cut\n"),
        "{gone}"
    );
}

#[test]
fn a_journal_is_checked_and_what_is_wrong_with_it_is_told() {
    let folder = Folder::with(&[("gate.yaml", GATE), ("open", "")]);
    assert!(folder.bourn(&["db", "check"]).refused(2).contains("there is no journal .bourn/journal.db"));
    folder.bourn(&["run", "gate.yaml", "--id", "a", "--input", "{\"code\": 0}"]).quietly();
    let well = folder.bourn(&["db", "check"]).quietly();
    assert!(well.starts_with(".bourn/journal.db is whole: ") && well.ends_with("runs: 1 COMPLETED\n"), "{well}");
    let db = rusqlite::Connection::open(folder.path(".bourn/journal.db")).unwrap();
    db.execute_batch("UPDATE runs SET ended = NULL").unwrap();
    let wrong = folder.bourn(&["db", "check"]);
    assert_eq!((wrong.code, wrong.err.as_str()), (Some(1), ""));
    assert!(
        wrong.out.contains("is not whole") && wrong.out.contains("`bourn runs fork RUN` makes a new one"),
        "{}",
        wrong.out
    );
    let json = folder.bourn(&["db", "check", "-o", "json"]);
    assert_eq!((json.code, json_of(&json.out)["troubles"][0]["example"].clone()), (Some(1), json!("a")));
}
