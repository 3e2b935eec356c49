//! Runs that are compared, begun from the middle of another one, and let go of.

use serde_json::json;

use crate::support::{Folder, json_of};

const SPEC: &str = "\
name: made
steps:
  - { id: first, set: '${input.n}' }
  - { id: second, process: { command: [sh, -c, 'echo call >> calls; echo two'] } , needs: first }
  - { id: third, set: '${.first.results} ${.second.results}' }
";

fn made(n: u64) -> (Folder, String) {
    let folder = Folder::with(&[("w.yaml", SPEC)]);
    let input = format!("{{\"n\": {n}}}");
    let out = folder.bourn(&["run", "w.yaml", "--id", "a", "--input", &input, "-o", "json"]).quietly();
    (folder, out)
}

fn ids(folder: &Folder, more: &[&str]) -> Vec<String> {
    let list = json_of(&folder.bourn(&[&["runs", "list", "-o", "json", "--limit", "10000"], more].concat()).quietly());
    let mut ids: Vec<_> =
        list.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap().to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn two_runs_differ_in_what_their_steps_came_to_and_in_nothing_else() {
    let (folder, _) = made(1);
    folder.bourn(&["run", "w.yaml", "--id", "b", "--input", "{\"n\": 1}"]).quietly();
    assert_eq!(folder.bourn(&["runs", "diff", "a", "b"]).quietly(), "they do not differ\n");
    folder.bourn(&["runs", "fork", "a", "--at", "second", "--set", ".second=other", "--id", "c", "-o", "json"]);
    let diff = json_of(&folder.bourn(&["runs", "diff", "a", "c", "-o", "json"]).quietly());
    let of = |text: &str| json!({ "status": "COMPLETED", "results": text });
    let wanted = json!([
        { "step": "second", "a": of("two"), "b": of("other") },
        { "step": "third", "a": of("1 two"), "b": of("1 other") },
    ]);
    assert_eq!(diff, wanted);
    folder.bourn(&["run", "w.yaml", "--id", "d", "--input", "{\"n\": 2}"]).quietly();
    let text = folder.bourn(&["runs", "diff", "a", "d"]).quietly();
    let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[..3], [vec!["step", "a", "d"], vec!["input", "{\"n\":1}", "{\"n\":2}"], vec!["first", "1", "2"]]);
}

#[test]
fn a_run_begins_from_a_checkpoint_of_another_one_with_the_spec_as_it_is_now() {
    let (folder, _) = made(1);
    std::fs::write(folder.path("w.yaml"), SPEC.replace("'${.first.results} ", "'now ${.first.results} ")).unwrap();
    let from = ["run", "w.yaml", "--from-checkpoint", "a/step_completion_second"];
    let begun = folder.bourn(&[&from[..], &["--id", "b", "-o", "json"]].concat());
    assert_eq!(begun.err, "run b: 2 steps are taken over from a\n");
    let document = json_of(&begun.out);
    assert_eq!((&document["final_output"], folder.read("calls").as_str()), (&json!("now 1 two"), "call\n"));
    let status = |step: &str| document["execution_metrics"]["steps"][step]["status"].clone();
    assert_eq!(["first", "second", "third"].map(status), ["REUSED", "REUSED", "COMPLETED"]);
    assert!(folder.bourn(&["runs", "show", "b"]).quietly().contains("forked from a"));
    let refused = folder.bourn(&[&from[..], &["--input", "{}"]].concat()).refused(2);
    assert_eq!(refused, "error: --from-checkpoint: the input is that of run `a`\n");
    let missing = folder.bourn(&["run", "w.yaml", "--from-checkpoint", "a/none"]).refused(2);
    assert!(missing.contains("step `none` has not ended in run `a`"), "{missing}");
    let unread = folder.bourn(&["run", "w.yaml", "--from-checkpoint", "second"]).refused(2);
    assert!(unread.contains("write the number of a checkpoint of a job, or RUN/STEP of a run"), "{unread}");
}

#[test]
fn runs_are_deleted_by_name_and_by_age_and_those_that_are_needed_stay() {
    let (folder, _) = made(1);
    let held = "name: held\nsteps: [{ id: held, wait: { signal: go } }]\n";
    std::fs::write(folder.path("held.yaml"), held).unwrap();
    for id in ["b", "c", "d"] {
        folder.bourn(&["run", "w.yaml", "--id", id, "--input", "{\"n\": 1}"]).quietly();
    }
    folder.bourn(&["run", "held.yaml", "--id", "waits"]);
    let refused = folder.bourn(&["runs", "delete", "a", "waits"]).refused(2);
    assert!(refused.contains("run `waits` is WAITING: `bourn runs cancel` ends it"), "{refused}");
    assert_eq!(ids(&folder, &[]).len(), 5, "all or nothing");
    assert_eq!(folder.bourn(&["runs", "delete", "a"]).quietly(), "1 run deleted\n");
    assert!(folder.bourn(&["runs", "show", "a"]).refused(2).contains("there is no run `a`"));
    let dry = folder.bourn(&["runs", "delete", "--keep-latest", "2", "--dry-run"]).quietly();
    assert_eq!(dry, "would delete\nb\n");
    assert_eq!(folder.bourn(&["runs", "delete", "--older-than", "30d"]).quietly(), "0 runs deleted\n");
    assert_eq!(
        folder.bourn(&["runs", "delete", "--keep-latest", "1", "--older-than", "1ms"]).quietly(),
        "2 runs deleted\n"
    );
    assert_eq!(ids(&folder, &[]), ["d", "waits"]);
    assert_eq!(folder.bourn(&["runs", "delete", "waits", "--force"]).quietly(), "1 run deleted\n");
    assert!(folder.bourn(&["runs", "delete"]).code == Some(2));
    let health = folder.bourn(&["db", "check"]);
    assert_eq!(health.code, Some(0), "{}{}", health.out, health.err);
}

#[test]
fn what_was_deleted_makes_room_for_what_comes_and_no_number_is_given_twice() {
    let folder = Folder::with(&[("w.yaml", "name: many\nsteps: [{ id: a, set: '${input.text}' }]\n")]);
    let line = json!({ "text": "x".repeat(4_000) }).to_string();
    std::fs::write(folder.path("in.jsonl"), format!("{line}\n").repeat(500)).unwrap();
    let pass = || folder.bourn(&["run", "w.yaml", "--inputs", "in.jsonl", "-q"]).quietly();
    let size = || {
        let db = rusqlite::Connection::open(folder.path(".bourn/journal.db")).unwrap();
        db.query_row("PRAGMA page_count", (), |row| row.get::<_, u64>(0)).unwrap()
    };
    pass();
    let (first, before) = (ids(&folder, &[]), size());
    for _ in 0..3 {
        assert_eq!(folder.bourn(&["runs", "delete", "--workflow", "many"]).quietly(), "500 runs deleted\n");
        pass();
    }
    assert!(size() < before * 11 / 10, "{before} pages became {}", size());
    let last = ids(&folder, &[]);
    assert!(last.len() == 500 && last.iter().all(|id| !first.contains(id)), "a run has the id of one that was deleted");
}

#[test]
fn runs_of_a_job_that_was_cut_off_stay_since_it_would_begin_them_anew() {
    let spec = "name: cut\nsteps:\n  - { id: a, process: { command: [sh, -c, 'echo call >> calls'] } }\n  - { id: held, if: '${.input.n == 2}', wait: { signal: go } }\n";
    let folder = Folder::with(&[("w.yaml", spec), ("in.jsonl", "{\"n\": 1}\n{\"n\": 2}\n")]);
    assert_eq!(folder.bourn(&["run", "w.yaml", "--inputs", "in.jsonl"]).code, Some(0));
    let left = folder.bourn(&["runs", "delete", "--status", "completed"]).quietly();
    assert_eq!(
        left,
        "0 runs deleted\n1 run left: each is of a job that was cut off, and would be begun anew when that goes on\n"
    );
    assert_eq!(folder.bourn(&["run", "w.yaml", "--inputs", "in.jsonl"]).code, Some(0));
    assert_eq!(folder.read("calls"), "call\ncall\n");
}
