//! `bourn runs`: the journal, looked at and gone on with.

use serde_json::json;

use crate::support::{Folder, json_of};

/// The second step fails as long as there is no file `well`.
const SPEC: &str = "\
name: mend
steps:
  - { id: first, command: set, args: { n: '${input.n}' } }
  - { id: second, process: { command: [sh, -c, 'echo call >> calls; test -e well && echo done'] }, needs: first, retry: { max_attempts: 1 } }
  - { id: third, command: set, args: 'third ${.second.results | tostring}' }
";

fn calls(folder: &Folder) -> usize {
    std::fs::read_to_string(folder.path("calls")).unwrap_or_default().lines().count()
}

#[test]
fn a_run_that_failed_is_recovered_and_only_what_failed_is_done_again() {
    let folder = Folder::with(&[("mend.yaml", SPEC)]);
    let failed = folder.bourn(&["run", "mend.yaml", "--id", "order-7", "--input", "{\"n\": 7}", "-o", "json"]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    let document = json_of(&failed.out);
    let action = &document["recovery_plan"]["actions"][0];
    assert_eq!((&action["kind"], &action["command"]), (&json!("recover"), &json!("bourn runs recover order-7")));
    assert_eq!((&action["reuses"], &action["reruns"]), (&json!(["first"]), &json!(["second", "third"])));

    let dry = folder.bourn(&["runs", "recover", "order", "--dry-run"]).quietly();
    assert_eq!(dry, "would reuse first\nwould run second, third\n");
    assert_eq!(calls(&folder), 1);
    let refused = folder.bourn(&["runs", "result", "order-7"]);
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (Some(2), "error: run `order-7` is FAILED: `--partial` shows what there is\n")
    );
    let partial = json_of(&folder.bourn(&["runs", "result", "order-7", "--partial", "-o", "json"]).quietly());
    assert_eq!(partial["partial_results"], json!({ "first": { "n": 7 } }));

    std::fs::write(folder.path("well"), "").unwrap();
    let mended = json_of(&folder.bourn(&["runs", "recover", "order-7", "-o", "json"]).quietly());
    assert_eq!((&mended["status"], &mended["run_id"]), (&json!("COMPLETED"), &json!("order-7")));
    assert_eq!(calls(&folder), 2);
    assert_eq!(mended["execution_metrics"]["steps"]["first"], document["execution_metrics"]["steps"]["first"]);
    let kept = json_of(&folder.bourn(&["runs", "result", "order-7", "-o", "json"]).quietly());
    assert_eq!(kept, mended);
    let again = folder.bourn(&["runs", "recover", "order-7"]);
    assert_eq!(again.err, "error: run `order-7` is COMPLETED: there is nothing to recover\n");

    let history = json_of(&folder.bourn(&["runs", "show", "order-7", "--history", "-o", "json"]).quietly());
    let events: Vec<_> = history.as_array().unwrap().iter().map(|e| e["event"].as_str().unwrap()).collect();
    assert_eq!(
        events,
        [
            "RunStarted",
            "StepCompleted",
            "StepFailed",
            "StepSkipped",
            "RunRetried",
            "StepCompleted",
            "StepCompleted",
            "RunCompleted"
        ]
    );
}

/// Books a room and a flight, and cancels both when there is no file `well`.
const SAGA: &str = "\
name: saga
steps:
  - id: room
    process: { command: [sh, -c, 'echo book room >> calls; echo booked'] }
    compensate: { process: { command: [sh, -c, 'echo cancel room >> calls; echo canceled'] } }
  - id: flight
    needs: room
    process: { command: [sh, -c, 'echo book flight >> calls; echo booked'] }
    compensate: { process: { command: [sh, -c, 'echo cancel flight >> calls; echo canceled'] } }
  - { id: car, needs: flight, process: { command: [sh, -c, 'test -e well && echo done'] }, retry: { max_attempts: 1 } }
finally:
  - { id: told, process: { command: [sh, -c, 'echo told >> calls; echo told'] } }
";

#[test]
fn what_was_undone_is_done_again_when_the_run_is_recovered() {
    let folder = Folder::with(&[("saga.yaml", SAGA)]);
    let told = || std::fs::read_to_string(folder.path("calls")).unwrap_or_default();
    let failed = folder.bourn(&["run", "saga.yaml", "--id", "trip", "--input", "{}", "-o", "json"]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    let document = json_of(&failed.out);
    assert_eq!(document["compensated"], json!(["flight", "room"]));
    assert_eq!(told(), "book room\nbook flight\ncancel flight\ncancel room\ntold\n");
    let dry = folder.bourn(&["runs", "recover", "trip", "--dry-run"]).quietly();
    assert!(dry.starts_with("would reuse nothing\n"), "{dry}");
    std::fs::write(folder.path("well"), "").unwrap();
    std::fs::remove_file(folder.path("calls")).unwrap();
    let mended = json_of(&folder.bourn(&["runs", "recover", "trip", "-o", "json"]).quietly());
    assert_eq!((&mended["status"], mended.get("compensated")), (&json!("COMPLETED"), None));
    assert_eq!(told(), "book room\nbook flight\ntold\n");
}

#[test]
fn a_second_run_of_an_id_is_refused_or_is_the_first() {
    let folder = Folder::with(&[("mend.yaml", SPEC)]);
    let run = |more: &[&str]| {
        let args = ["run", "mend.yaml", "--id", "order-7", "--input", "{\"n\": 7}", "-o", "json"];
        folder.bourn(&[&args, more].concat())
    };
    let use_it = ["--on-conflict", "use-existing"];
    std::fs::write(folder.path("well"), "").unwrap();
    let first = run(&use_it).quietly();
    assert_eq!(calls(&folder), 1);
    assert_eq!(run(&use_it).quietly(), first);
    assert_eq!(calls(&folder), 1);
    let refused = run(&[]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("there is a run `order-7` already"), "{}", refused.err);
    let other = Folder::with(&[("mend.yaml", &SPEC.replace("name: mend", "name: other"))]);
    std::fs::rename(folder.path(".bourn"), other.path(".bourn")).unwrap();
    let args = ["run", "mend.yaml", "--id", "order-7", "--input", "{}", "--on-conflict", "use-existing"];
    let refused = other.bourn(&args);
    assert_eq!(
        (refused.code, refused.err.as_str()),
        (Some(2), "error: run `order-7` is one of `mend`, not of `other`\n")
    );
}

#[test]
fn no_secret_stands_in_anything_that_is_written() {
    const CANARY: &str = "canary-4711-secret";
    let spec = "\
name: hush
secrets: [TOKEN]
steps:
  - { id: told, process: { command: [sh, -c, 'test \"$TOKEN\" && echo done'], env: { TOKEN: '${secret.TOKEN}' } } }
  - { id: bad, process: { command: [sh, -c, 'echo no >&2; exit 3'], env: { TOKEN: '${secret.TOKEN}' } }, needs: told, retry: { max_attempts: 1 } }
";
    let folder = Folder::with(&[("hush.yaml", spec)]);
    let mut command = folder.command(&["run", "hush.yaml", "--id", "h", "--input", "{}", "-o", "json"]);
    let ended = crate::support::ended(command.env("TOKEN", CANARY).output().unwrap());
    assert_eq!(ended.code, Some(1), "{}", ended.err);
    assert_eq!(json_of(&ended.out)["error_analysis"]["instance"], "/steps/bad", "{}", ended.out);
    let plan = crate::support::ended(folder.command(&["plan", "hush.yaml"]).env("TOKEN", CANARY).output().unwrap());
    assert!(!format!("{}{}{}{}", ended.out, ended.err, plan.out, plan.err).contains(CANARY));
    for file in walk(&folder.path(".bourn")) {
        let bytes = std::fs::read(&file).unwrap();
        let found = bytes.windows(CANARY.len()).any(|part| part == CANARY.as_bytes());
        assert!(!found, "{}", file.display());
    }
}

/// All files below a folder.
fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] }).collect()
}

#[test]
fn a_run_has_four_parts_that_agree() {
    let folder = Folder::with(&[("mend.yaml", SPEC)]);
    folder.bourn(&["run", "mend.yaml", "--id", "a", "--input", "{\"n\": 1}"]);
    let parts = json_of(&folder.bourn(&["runs", "show", "a", "-o", "json"]).quietly());
    let names: Vec<_> = parts.as_object().unwrap().keys().collect();
    assert_eq!(names, ["workflow_id", "execution_metadata", "execution_context", "resource_state"]);
    let context = &parts["execution_context"];
    assert_eq!(context["current_phase"], "FAILED");
    assert_eq!(context["completed_steps"], json!(["first", "second", "third"]));
    assert_eq!((&context["active_steps"], &context["pending_steps"]), (&json!([]), &json!([])));
    assert_eq!(context["accumulated_results"], json!({ "first": { "n": 1 } }));
    assert_eq!(parts["execution_metadata"]["spec_hash"].as_str().unwrap().len(), 64);
    let shown = folder.bourn(&["runs", "show", "a"]).quietly();
    assert!(shown.starts_with("mend a: FAILED in ") && shown.ends_with("input: {\"n\":1}\n"), "{shown}");
}

#[test]
fn a_fork_takes_over_steps_and_can_change_what_they_gave() {
    let folder = Folder::with(&[("mend.yaml", SPEC), ("well", "")]);
    folder.bourn(&["run", "mend.yaml", "--id", "a", "--input", "{\"n\": 1}"]).quietly();
    let fork = |args: &[&str]| {
        let mut all = vec!["runs", "fork", "a", "-o", "json"];
        all.extend(args);
        folder.bourn(&all)
    };
    let forked = fork(&["--at", "step_completion_second", "--set", ".second=mended", "--id", "b"]);
    assert_eq!(forked.err, "run b: 2 steps are taken over from a\n");
    let document = json_of(&forked.out);
    assert_eq!((&document["run_id"], &document["final_output"]), (&json!("b"), &json!("third mended")));
    assert_eq!(document["execution_metrics"]["steps"]["second"]["status"], "REUSED");
    assert_eq!(calls(&folder), 1);
    // What is refused leaves no run behind.
    for (set, told) in [
        (".third=x", "--set: step `third` is not taken over, so it can't be changed"),
        (".first.m=1", "--set: step `first` gave no `m`"),
        (".first.n[7]=1", "--set: step `first` gave no `7`"),
    ] {
        let refused = fork(&["--at", "second", "--set", set, "--id", "d"]);
        assert!(refused.code == Some(2) && refused.err.contains(told), "{}", refused.err);
    }
    let whole = fork(&["--at", "workflow_initialization", "--id", "c"]);
    assert_eq!(whole.code, Some(0), "{}", whole.err);
    assert_eq!(calls(&folder), 2);
    let list = json_of(&folder.bourn(&["runs", "list", "-o", "json"]).quietly());
    let from: Vec<_> =
        list.as_array().unwrap().iter().map(|r| (r["run_id"].as_str(), r["forked_from"].as_str())).collect();
    assert_eq!(from, [(Some("c"), Some("a")), (Some("b"), Some("a")), (Some("a"), None)]);
}

#[test]
fn what_is_wrong_with_a_command_about_runs_is_told() {
    let folder = Folder::with(&[("mend.yaml", SPEC)]);
    let told = |args: &[&str]| {
        let ended = folder.bourn(args);
        assert_eq!(ended.code, Some(2), "{}", ended.err);
        ended.err
    };
    assert_eq!(told(&["runs", "list"]), "error: there is no journal .bourn/journal.db: no workflow has run here\n");
    folder.bourn(&["run", "mend.yaml", "--id", "a", "--input", "{\"n\": 1}"]);
    assert_eq!(
        told(&["runs", "show", "x"]),
        "error: the journal .bourn/journal.db: there is no run `x`; see `bourn runs list`\n"
    );
    assert_eq!(told(&["runs", "cancel", "a"]), "error: run `a` is FAILED already\n");
    assert_eq!(told(&["runs", "resume", "a"]), "error: run `a` is FAILED: there is nothing to go on with\n");
    assert!(told(&["runs", "fork", "a", "--at", "fourth"]).contains("step `fourth` has not ended in run `a`"));
    assert!(told(&["runs", "fork", "a", "--at", "first", "--set", "x"]).contains("`.step.member=VALUE`"));
    let twice = folder.bourn(&["run", "mend.yaml", "--id", "a", "--input", "{\"n\": 1}"]);
    assert_eq!(twice.code, Some(1));
    assert!(twice.err.contains("there is a run `a` already"), "{}", twice.err);
    std::fs::write(folder.path("broken.db"), "no database".repeat(1_000)).unwrap();
    let broken = folder.bourn(&["run", "mend.yaml", "--journal", "broken.db"]);
    assert!(broken.err.contains("the journal broken.db: can't open it: file is not a database"), "{}", broken.err);
}

#[test]
fn a_spec_can_do_without_a_journal() {
    let spec = SPEC.to_owned() + "optimization: { state_persistence: false }\n";
    let folder = Folder::with(&[("mend.yaml", &spec), ("well", "")]);
    folder.bourn(&["run", "mend.yaml", "--input", "{\"n\": 1}"]).quietly();
    assert!(!folder.path(".bourn").exists());
}

/// Somebody must agree between the steps.
const HOLD: &str = "\
name: hold
steps:
  - { id: first, process: { command: [sh, -c, 'echo call >> calls; echo first'] } }
  - { id: agreed, wait: { signal: agreement, timeout: 2d }, needs: first }
  - { id: last, command: set, args: '${.agreed.results.approved} of ${input.n}' }
";

#[test]
fn a_run_waits_for_a_person_in_no_process_and_goes_on_with_what_they_say() {
    let folder = Folder::with(&[("hold.yaml", HOLD)]);
    let waits = folder.bourn(&["run", "hold.yaml", "--id", "a", "--input", "{\"n\": 1}"]);
    assert_eq!((waits.code, waits.err.as_str()), (Some(0), "1 run waits: `bourn inbox` says for what\n"));
    assert!(waits.out.starts_with("hold a: WAITING in "), "{}", waits.out);
    let inbox = json_of(&folder.bourn(&["inbox", "-o", "json"]).quietly());
    assert_eq!((&inbox[0]["task"], &inbox[0]["signal"]), (&json!("a/agreed"), &json!("agreement")));
    assert!(inbox[0]["until"].is_string() && inbox[1].is_null());
    assert!(folder.bourn(&["inbox"]).quietly().contains("a/agreed  hold      signal agreement"));

    let wrong = folder.bourn(&["approve", "a/first"]);
    assert_eq!(wrong.err, "error: step `first` of run `a` waits for no signal; see `bourn inbox`\n");
    let done = json_of(&folder.bourn(&["approve", "a/agreed", "-o", "json"]).quietly());
    assert_eq!((&done["status"], &done["final_output"]), (&json!("COMPLETED"), &json!("true of 1")));
    assert_eq!(calls(&folder), 1);
    assert_eq!(folder.bourn(&["inbox"]).quietly(), "nothing waits\n");
    let late = folder.bourn(&["signal", "a", "agreement"]);
    assert_eq!(late.err, "error: the journal .bourn/journal.db: the run has ended\n");
    let history = folder.bourn(&["runs", "show", "a", "--history"]).quietly();
    let events: Vec<_> = history.lines().filter_map(|line| line.split_whitespace().nth(1)).collect();
    let wanted =
        ["RunStarted", "StepCompleted", "WaitStarted", "Signaled", "StepCompleted", "StepCompleted", "RunCompleted"];
    assert_eq!(events, wanted);
}

#[test]
fn runs_of_many_inputs_wait_and_the_job_goes_on_with_them() {
    let folder = Folder::with(&[("hold.yaml", HOLD), ("in.jsonl", "{\"n\": 1}\n{\"n\": 2}\n{\"n\": 3}\n")]);
    let states = |out: &str| out.lines().map(|line| json_of(line)["status"].clone()).collect::<Vec<_>>();
    let first = folder.bourn(&["run", "hold.yaml", "--inputs", "in.jsonl"]);
    assert_eq!(states(&first.out), ["WAITING", "WAITING", "WAITING"]);
    assert_eq!(first.err, "3 runs wait: `bourn inbox` says for what\n");
    let second = json_of(first.out.lines().nth(1).unwrap())["run_id"].as_str().unwrap().to_owned();
    let said =
        folder.bourn(&["signal", &second, "agreement", "--data", "{\"approved\": \"yes\"}", "-o", "json"]).quietly();
    assert_eq!(json_of(&said)["final_output"], "yes of 2");
    let again = folder.bourn(&["run", "hold.yaml", "--inputs", "in.jsonl"]);
    assert_eq!(states(&again.out), ["WAITING", "COMPLETED", "WAITING"]);
    assert!(again.err.starts_with("goes on with job 1: 1 of its runs have ended, 2 were under way"), "{}", again.err);
    for line in again.out.lines().map(json_of).filter(|d| d["status"] == "WAITING") {
        let task = format!("{}/agreed", line["run_id"].as_str().unwrap());
        let no = folder.bourn(&["approve", &task, "--reject", "too dear", "-o", "json"]).quietly();
        assert!(json_of(&no)["final_output"].as_str().unwrap().starts_with("false of "));
    }
    let whole = folder.bourn(&["run", "hold.yaml", "--inputs", "in.jsonl"]);
    assert_eq!(states(&whole.out), ["COMPLETED", "COMPLETED", "COMPLETED"]);
    assert_eq!(calls(&folder), 3);
}

/// Half a second, and a failure when the input says so.
const SLOW: &str = "\
name: slow
steps:
  - { id: a, process: { command: [sh, -c, 'sleep 0.3; test ${input.ok} = 1 && echo done'] }, retry: { max_attempts: 1 } }
targets: { p95: 10ms, throughput: 1/1d }
";

#[test]
fn a_target_that_is_missed_ends_with_three_and_what_was_reached_is_shown() {
    let lines: Vec<_> = (0..10).map(|n| json!({ "ok": u8::from(n > 0) }).to_string()).collect();
    let lines = lines.join("\n");
    let folder = Folder::with(&[("slow.yaml", SLOW), ("in.jsonl", &lines)]);
    let run = |more: &[&str]| folder.bourn(&[&["run", "slow.yaml", "--inputs", "in.jsonl", "--fresh"], more].concat());
    let missed = run(&[]);
    assert_eq!(missed.code, Some(3), "{}", missed.err);
    let row = |name: &str| {
        let line = missed.err.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let p95 = row("p95");
    assert_eq!((p95[1..5].join(" ").as_str(), p95.last().unwrap().as_str()), ("at most 10 ms", "missed"));
    assert!(p95[5].parse::<u64>().unwrap() >= 300, "{p95:?}");
    assert_eq!(row("throughput").last().unwrap(), "10");
    // Of what it is measured is said: from when until when.
    let window = row("targets, of");
    let time = |word: &str| {
        chrono::DateTime::parse_from_rfc3339(
            window[window.iter().position(|w| w == word).unwrap() + 1].trim_end_matches(':'),
        )
        .unwrap()
    };
    assert!((time("to") - time("from")).num_milliseconds() >= 300, "{window:?}");
    // A run that failed is no failure of the command when it is said how many may fail.
    let failed = run(&["--target", "p95=1m"]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    let met = run(&["--target", "p95=1m", "--target", "success_rate=0.9"]);
    assert_eq!(met.code, Some(0), "{}", met.err);
    let few = run(&["--target", "p95=1m", "--target", "success_rate=0.95"]);
    assert_eq!(few.code, Some(3), "{}", few.err);
    let wrong = run(&["--target", "p96=1m"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("there is no target `p96`; there are p50, p95, p99,"), "{}", wrong.err);
    assert_eq!(run(&["--target", "success_rate=95"]).code, Some(2));
    // No run is no run that has reached anything.
    let none =
        Folder::with(&[("slow.yaml", SLOW), ("in.jsonl", "")]).bourn(&["run", "slow.yaml", "--inputs", "in.jsonl"]);
    assert!(none.err.contains("so nothing is measured") && !none.err.contains("at most"), "{}", none.err);
    assert_eq!(none.code, Some(0));
}
