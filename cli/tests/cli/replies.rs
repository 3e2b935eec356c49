//! What people say to steps that wait: to one alone, once, and to whom it may be.

use serde_json::json;

use crate::support::{Folder, json_of};

const LIST: &str = "\
name: list
steps:
  - id: l
    for_each: { in: '${input.of}' }
    workflow:
      input: { n: '${item}' }
      spec:
        steps:
          - { id: w, wait: { signal: go } }
          - { id: own, wait: { signal: 'go-${input.n}' } }
          - { id: said, needs: [w, own], set: '${[.w.results, .own.results]}' }
";

#[test]
fn an_answer_is_for_one_element_and_a_signal_with_a_place_for_that_which_has_the_name() {
    let folder = Folder::with(&[("list.yaml", LIST)]);
    let run = ["run", "list.yaml", "--input", r#"{"of": [1, 2]}"#, "--id", "r"];
    assert!(folder.bourn(&run).out.contains("WAITING"));
    let open = || {
        let inbox = json_of(&folder.bourn(&["inbox", "-o", "json"]).quietly());
        let all = inbox.as_array().unwrap().iter();
        all.map(|task| (task["task"].as_str().unwrap().to_owned(), task["signal"].as_str().unwrap().to_owned()))
            .collect::<Vec<_>>()
    };
    let task = |step: &str, signal: &str| (format!("r/{step}"), signal.to_owned());
    let all = [task("l[0]/own", "go-1"), task("l[0]/w", "go"), task("l[1]/own", "go-2"), task("l[1]/w", "go")];
    assert_eq!(open(), all);
    folder.bourn(&["approve", "r/l[1]/w", "--data", r#""two""#]);
    assert_eq!(open(), all[..3]);
    folder.bourn(&["signal", "r", "go-2", "--data", "2"]);
    assert_eq!(open(), all[..2]);
    let unknown = folder.bourn(&["signal", "r", "go-7"]);
    assert!(
        unknown.err.contains("no step waits for `go-7` now: it is kept for the first one that will"),
        "{}",
        unknown.err
    );
    folder.bourn(&["signal", "r", "go", "--data", r#""one""#]);
    let done = json_of(&folder.bourn(&["signal", "r", "go-1", "--data", "1", "-o", "json"]).quietly());
    assert_eq!((&done["status"], &done["final_output"]), (&json!("COMPLETED"), &json!([["one", 1], ["two", 2]])));
    assert_eq!(folder.bourn(&["runs", "replay", "r"]).code, Some(0));
}

#[test]
fn of_two_answers_the_first_one_counts_and_the_other_is_told() {
    let spec = "name: asks\nsteps:\n  - { id: ok, wait: { signal: go } }\n  - { id: last, set: '${ok.results}' }\n";
    let folder = Folder::with(&[("asks.yaml", spec)]);
    let journal = folder.bourn(&["run", "asks.yaml", "--input", "{}", "--id", "0"]);
    assert!(journal.out.contains("WAITING"));
    for n in 1..6 {
        let id = n.to_string();
        folder.bourn(&["run", "asks.yaml", "--input", "{}", "--id", &id]);
        let task = format!("{id}/ok");
        let yes = folder.command(&["approve", &task]).spawn().unwrap();
        let no = folder.command(&["approve", &task, "--reject", "dear"]).spawn().unwrap();
        let (yes, no) = (yes.wait_with_output().unwrap(), no.wait_with_output().unwrap());
        let shown = json_of(&folder.bourn(&["runs", "show", &id, "-o", "json"]).quietly());
        let codes = (yes.status.code(), no.status.code());
        let is_yes = shown["execution_context"]["accumulated_results"]["ok"]["approved"] == json!(true);
        // Whoever came too late finds that the step waits no longer, or that it has been answered.
        let (won, lost) = if is_yes { codes } else { (codes.1, codes.0) };
        assert_eq!(won, Some(0), "{shown}");
        assert!(matches!(lost, Some(1 | 2)), "{lost:?} {shown}");
        let signals = folder.bourn(&["runs", "show", &id, "--history"]).quietly().matches("Signaled").count();
        assert_eq!(signals, 1);
    }
}

#[test]
fn a_name_that_no_step_waits_for_is_told_and_so_is_an_answer_that_takes_the_place_of_another() {
    let spec = "name: two\nsteps:\n  - { id: a, wait: { signal: go } }\n  - { id: b, wait: { signal: on }, needs: a }\n  - { id: c, wait: { signal: go }, needs: b }\n";
    let folder = Folder::with(&[("two.yaml", spec)]);
    assert!(folder.bourn(&["run", "two.yaml", "--input", "{}", "--id", "r"]).out.contains("WAITING"));
    let told = folder.bourn(&["signal", "r", "gone"]);
    assert!(
        told.err.contains("workflow `two` has no step that waits for `gone`: it waits for `go`, `on`"),
        "{}",
        told.err
    );
    let first = folder.bourn(&["signal", "r", "go", "--data", "1"]);
    assert!(!first.err.contains("takes its place"), "{}", first.err);
    let second = folder.bourn(&["signal", "r", "go", "--data", "2"]);
    assert!(
        !second.err.contains("takes its place") && second.err.contains("no step waits for `go` now"),
        "{}",
        second.err
    );
    let third = folder.bourn(&["signal", "r", "go", "--data", "3"]);
    assert!(third.err.contains("a signal `go` has come before: this one takes its place"), "{}", third.err);
    // It is not lost on a wait that had ended when it came.
    let done = json_of(&folder.bourn(&["signal", "r", "on", "-o", "json"]).quietly());
    assert_eq!((&done["status"], &done["workflow_results"]["c"]), (&json!("COMPLETED"), &json!(3)));
}
