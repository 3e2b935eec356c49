//! Workflows within workflows, and within pipelines.

use serde_json::{Value, json};

use crate::support::{Folder, json_of};

/// A file of its own; `b` fails as long as there is no file `well`.
const INNER: &str = "\
input: { schema: { type: object, properties: { name: { minLength: 1 } } } }
steps:
  - { id: a, process: { command: [sh, -c, 'echo $1 >> calls; echo a-$1', sh, '${input.name}'] } }
  - { id: b, process: { command: [sh, -c, 'test -e well && echo $1', sh, 'b-${a.results}'] }, retry: { max_attempts: 1 } }
";

const OUTER: &str = "\
name: outer
steps:
  - id: each
    for_each: { in: '${input.names}', as: name }
    workflow: { spec: inner.yaml, input: { name: '${name}' } }
  - { id: end, set: '${.each.results | join(\" \")}' }
";

#[test]
fn a_run_goes_on_within_with_the_text_that_it_began_with() {
    let folder = Folder::with(&[("inner.yaml", INNER), ("outer.yaml", OUTER)]);
    let calls = || std::fs::read_to_string(folder.path("calls")).unwrap_or_default().lines().count();
    let args = ["run", "outer.yaml", "--id", "one", "--input", r#"{"names": ["x", "y"]}"#, "-o", "json"];
    let failed = folder.bourn(&args);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    assert_eq!(json_of(&failed.out)["error_analysis"]["instance"], "/steps/each/items/0/steps/b");
    assert_eq!(calls(), 2);
    // The file is another one by now, and the run is not.
    std::fs::write(folder.path("inner.yaml"), "steps: [ { id: other, set: other } ]").unwrap();
    std::fs::write(folder.path("well"), "").unwrap();
    let mended = json_of(&folder.bourn(&["runs", "recover", "one", "-o", "json"]).quietly());
    assert_eq!(mended["final_output"], "b-a-x b-a-y");
    assert_eq!(calls(), 2, "what was done within is not done again");
    let history = json_of(&folder.bourn(&["runs", "show", "one", "--history", "-o", "json"]).quietly());
    let completed = history.as_array().unwrap().iter().filter(|e| e["event"] == "StepCompleted");
    let mut steps: Vec<_> = completed.map(|e| e["step"].as_str().unwrap()).collect();
    steps.sort_unstable();
    assert_eq!(steps, ["each", "each[0]", "each[0]/a", "each[0]/b", "each[1]", "each[1]/a", "each[1]/b", "end"]);
    let forked = folder.bourn(&["runs", "fork", "one", "--at", "each[1]/a", "--id", "two", "-o", "json"]);
    assert_eq!(json_of(&forked.out)["final_output"], "b-a-x b-a-y");
}

#[test]
fn a_changed_file_makes_another_job_of_it() {
    let folder = Folder::with(&[("inner.yaml", INNER), ("outer.yaml", OUTER), ("in.jsonl", "{\"names\": [\"x\"]}\n")]);
    let run = || folder.bourn(&["run", "outer.yaml", "--inputs", "in.jsonl"]);
    assert_eq!(run().code, Some(1));
    std::fs::write(folder.path("inner.yaml"), INNER.replace("a-$1", "c-$1")).unwrap();
    std::fs::write(folder.path("well"), "").unwrap();
    assert_eq!(json_of(run().quietly().lines().next().unwrap())["final_output"], "b-c-x");
}

#[test]
fn a_swarm_is_a_step_for_each_element() {
    let spec = "\
name: teams
steps:
  - id: team
    for_each: { in: '${input.tasks}', as: task }
    workflow:
      input: '${task}'
      spec:
        agents:
          coordinator: { role: You lead. }
          reader: { role: You read. }
";
    let folder = Folder::with(&[("teams.yaml", spec)]);
    let input = r#"{"tasks": ["a", "b"]}"#;
    let args = ["run", "teams.yaml", "--mock", "--id", "t", "--input", input, "-o", "json"];
    let document = json_of(&folder.bourn(&args).quietly());
    assert_eq!(document["workflow_results"]["team"].as_array().map(Vec::len), Some(2));
    let history = folder.bourn(&["runs", "show", "t", "--history"]).quietly();
    for step in ["team[0]/decompose", "team[1]/reader[0]", "team[1]/synthesis"] {
        assert!(history.contains(step), "{step} in\n{history}");
    }
    let plan = folder.bourn(&["plan", "teams.yaml", "--graph", "mermaid"]).quietly();
    assert!(plan.contains("team/decompose"), "{plan}");
}

#[test]
fn rows_of_a_pipeline_are_runs_and_one_that_fails_is_replayed() {
    let spec = "\
source: { file: { path: in.jsonl } }
on_error: dead_letter
stages:
  - { id: done, workflow: { spec: inner.yaml, output: given } }
sink: { file: { path: out.jsonl } }
dead_letters: { file: { path: letters.jsonl } }
";
    let rows = "{\"name\":\"x\",\"n\":1}\n{\"name\":\"\",\"n\":2}\n{\"name\":\"z\",\"n\":3}\n";
    let folder = Folder::with(&[("inner.yaml", INNER), ("pipe.yaml", spec), ("in.jsonl", rows), ("well", "")]);
    let ran = folder.bourn(&["run", "pipe.yaml"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), "warning: 1 row rejected: `done` 1\n"));
    let mut out: Vec<Value> = folder.read("out.jsonl").lines().map(json_of).collect();
    out.sort_by_key(|row| row["n"].as_u64());
    assert_eq!(out, [json!({"name": "x", "n": 1, "given": "b-a-x"}), json!({"name": "z", "n": 3, "given": "b-a-z"})]);
    let letter = json_of(folder.read("letters.jsonl").trim());
    assert_eq!(letter["row"], json!({"name": "", "n": 2}));
    std::fs::write(folder.path("inner.yaml"), INNER.replace("minLength: 1", "minLength: 0")).unwrap();
    let replayed = folder.bourn(&["dlq", "replay", "pipe.yaml", "--all"]);
    assert!(replayed.out.starts_with("replayed 1 letter: `done` 1\n"), "{}{}", replayed.out, replayed.err);
    assert_eq!(folder.bourn(&["dlq", "list", "pipe.yaml"]).quietly(), "no dead letters\n");
}

#[test]
fn what_is_wrong_in_a_file_is_told_in_that_file() {
    let folder = Folder::with(&[("inner.yaml", "steps:\n  - { id: a, sett: 1 }\n"), ("outer.yaml", OUTER)]);
    let refused = folder.bourn(&["validate", "outer.yaml"]);
    assert_eq!(refused.code, Some(2));
    assert!(refused.err.contains("inner.yaml:2:14 unknown key `sett`"), "{}", refused.err);
}

#[test]
fn a_person_is_waited_for_within() {
    let spec = "\
name: asked
steps:
  - id: each
    for_each: { in: '${input.names}', as: name }
    workflow:
      input: '${name}'
      spec: { steps: [ { id: agreed, wait: { signal: 'agree' } }, { id: said, set: '${.agreed.results.approved}' } ] }
";
    let folder = Folder::with(&[("asked.yaml", spec)]);
    let ran = folder.bourn(&["run", "asked.yaml", "--id", "a/1", "--input", r#"{"names": ["x", "y"]}"#]);
    assert_eq!(ran.code, Some(0), "{}", ran.err);
    let inbox = folder.bourn(&["inbox"]).quietly();
    assert!(inbox.contains("a/1/each[0]/agreed") && inbox.contains("a/1/each[1]/agreed"), "{inbox}");
    let wrong = folder.bourn(&["approve", "a/1/each[2]/agreed"]);
    assert!(wrong.err.contains("waits for no signal") || wrong.err.contains("no run"), "{}", wrong.err);
    // An answer is for one alone; whoever asks for all sends the signal.
    let first = folder.bourn(&["approve", "a/1/each[1]/agreed", "-o", "json"]);
    assert_eq!(json_of(&first.out)["status"], "WAITING", "{}", first.err);
    let done = folder.bourn(&["approve", "a/1/each[0]/agreed", "-o", "json"]);
    assert_eq!(json_of(&done.out)["final_output"], json!([true, true]), "{}", done.err);
}

const COUNTED: &str = "\
name: counted
source: { generate: { rows: 150000, rate: 100000/s, columns: { id: n, user: 'n % ${env.USERS}' } } }
stages:
  - count: { by: [user], as: visit }
sink: { file: { path: 'out-${env.USERS}.jsonl' } }
checkpoint: { every: 100ms }
";

#[test]
fn a_pipeline_that_a_step_runs_goes_on_behind_its_checkpoint_when_the_process_dies() {
    let outer = "\
name: outer
steps:
  - { id: count, pipeline: { spec: counted.yaml, env: { USERS: '${input.users}' } } }
  - { id: said, set: '${count.results.rows_written} rows' }
";
    let folder = Folder::with(&[("counted.yaml", COUNTED), ("outer.yaml", outer)]);
    let args = ["run", "outer.yaml", "--id", "one", "--input", r#"{"users": 10}"#];
    let killed = folder.command(&args).env("BOURN_KILL_AT", "manifest_stored:3").output().unwrap();
    assert_eq!(killed.status.code(), None);
    let kept: Vec<_> =
        std::fs::read_dir(folder.path(".bourn/checkpoints")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(kept.len(), 1);
    assert!(kept[0].to_string_lossy().starts_with("counted-"), "{kept:?}: a folder of this request");
    // What the file of the spec says by now does not matter.
    std::fs::write(folder.path("counted.yaml"), "steps: []").unwrap();
    let again = folder.bourn(&["runs", "resume", "one", "-o", "json"]);
    let document = json_of(&again.out);
    assert_eq!(document["status"], "COMPLETED", "{document:#}{}", again.err);
    // It has gone on: it did not read them all once more.
    let read = document["workflow_results"]["count"]["rows_read"].as_u64().unwrap();
    assert!(read < 150_000, "{read}");
    let rows: Vec<Value> = folder.read("out-10.jsonl").lines().map(json_of).collect();
    let wrong = (0_u64..).zip(&rows).find(|(n, row)| row["id"] != *n || row["visit"] != n / 10 + 1);
    assert_eq!((rows.len(), wrong), (150_000, None));
}

/// `b` fails as long as there is no file `well`, and then `a` is undone; `f` comes at the end.
const UNDONE: &str = "\
input: { schema: { type: object } }
steps:
  - id: a
    process: { command: [sh, -c, 'echo a$0 >> calls', '${input.n}'] }
    compensate: { process: { command: [sh, -c, 'echo undo-a$0 >> calls', '${input.n}'] } }
  - { id: b, needs: a, process: { command: [sh, -c, 'echo b$0 >> calls; test $0 = 0 || test -e well', '${input.n}'] }, retry: { max_attempts: 1 } }
finally:
  - { id: f, process: { command: [sh, -c, 'echo f$0-$1 >> calls', '${input.n}', '${b.status}'] } }
";

/// What was done of `step`, which is a workflow of [`UNDONE`], until it failed, and after it was tried again.
fn tried_again(step: &str, again: &[&str]) -> (Vec<String>, Vec<String>) {
    let spec = format!("name: outer\nsteps:\n  - {{ id: w, {step} }}\n  - {{ id: end, set: '${{w.status}}' }}\n");
    let folder = Folder::with(&[("inner.yaml", UNDONE), ("outer.yaml", &spec)]);
    let calls =
        || std::fs::read_to_string(folder.path("calls")).unwrap().lines().map(str::to_owned).collect::<Vec<_>>();
    folder.bourn(&["run", "outer.yaml", "--id", "one", "--input", "{}"]);
    let before = calls();
    std::fs::write(folder.path("well"), "").unwrap();
    folder.bourn(again).quietly();
    let run = json_of(&folder.bourn(&["runs", "result", "one", "-o", "json"]).quietly());
    assert_eq!(run["status"], "COMPLETED", "{run}");
    folder.bourn(&["runs", "replay", "one"]).quietly();
    (before.clone(), calls().split_off(before.len()))
}

#[test]
fn what_was_undone_within_is_done_anew_and_what_is_done_at_its_end() {
    let recover = ["runs", "recover", "one"];
    let one = "workflow: { spec: inner.yaml, input: { n: 1 } }";
    let (before, after) = tried_again(one, &recover);
    assert_eq!(before, ["a1", "b1", "undo-a1", "f1-FAILED"]);
    assert_eq!(after, ["a1", "b1", "f1-COMPLETED"]);
    let (before, after) = tried_again(
        "repeat: { until: '${.w.rounds >= 2}', max_iterations: 2 }, workflow: { spec: inner.yaml, input: { n: '${.w.rounds // 0}' } }",
        &recover,
    );
    assert_eq!(before, ["a0", "b0", "f0-COMPLETED", "a1", "b1", "undo-a1", "f1-FAILED"]);
    assert_eq!(after, ["a1", "b1", "f1-COMPLETED"], "a round that completed is not done again");
    let (before, after) = tried_again(
        "for_each: { in: [0, 1], as: x, max_concurrency: 1 }, workflow: { spec: inner.yaml, input: { n: '${x}' } }",
        &recover,
    );
    assert_eq!(before, ["a0", "b0", "f0-COMPLETED", "a1", "b1", "undo-a1", "f1-FAILED"]);
    assert_eq!(after, ["a1", "b1", "f1-COMPLETED"], "an element that completed is not done again");
    let (before, after) = tried_again(
        &format!("{one}, on_failure: [ {{ escalate: {{ timeout: 2d }} }} ]"),
        &["approve", "one/w", "--retry"],
    );
    assert_eq!(before, ["a1", "b1", "undo-a1", "f1-FAILED"]);
    assert_eq!(after, ["a1", "b1", "f1-COMPLETED"]);
}

#[test]
fn a_list_that_lacks_an_element_makes_the_run_degraded_that_takes_it_over() {
    let spec = "\
name: lacks
steps:
  - id: all
    for_each: { in: [1, 2], as: x, tolerated_failure_percentage: 50 }
    process: { command: [sh, -c, 'test $0 = 1', '${x}'] }
    retry: { max_attempts: 1 }
  - { id: end, set: '${all.results}' }
";
    let folder = Folder::with(&[("lacks.yaml", spec)]);
    let run = ["run", "lacks.yaml", "--fail-on-degraded", "-o", "json"];
    let whole = folder.bourn(&[run.as_slice(), &["--input", "1", "--id", "one"]].concat());
    let forked =
        folder.bourn(&[run.as_slice(), &["--from-checkpoint", "one/step_completion_all", "--id", "two"]].concat());
    for run in [whole, forked] {
        assert_eq!((run.code, &json_of(&run.out)["degraded"]), (Some(4), &json!(["all"])), "{}", run.err);
    }
}
