//! Secrets: a canary in every place where one can be used is in no output of the command, in no form.

use crate::support::{Ended, Folder};

/// Signs that every encoding writes differently.
const CANARY: &str = "c4nary/\"sec+ret&=é";

/// The canary as the outputs could hold it.
fn forms() -> Vec<String> {
    let json = serde_json::to_string(CANARY).unwrap();
    let percent = |upper: bool| {
        let byte = |b: u8| match b {
            b if b.is_ascii_alphanumeric() => char::from(b).to_string(),
            b if upper => format!("%{b:02X}"),
            b => format!("%{b:02x}"),
        };
        CANARY.bytes().map(byte).collect::<String>()
    };
    let hex = CANARY.bytes().map(|b| format!("{b:02x}")).collect::<Vec<_>>().concat();
    let mut forms = vec![CANARY.to_owned(), json.trim_matches('"').to_owned(), percent(true), percent(false), hex];
    // Of `c4nary/"sec+ret&=é` in base64, what stands behind none, one and two other bytes.
    forms.extend(
        ["YzRuYXJ5LyJzZWMrcmV0Jj3D", "M0bmFyeS8ic2VjK3JldCY9w6", "jNG5hcnkvInNlYytyZXQmPcOp"].map(str::to_owned),
    );
    // The beginning, in case one is cut off.
    forms.push("c4nary".to_owned());
    forms
}

#[track_caller]
fn is_clean(what: &str, text: &str) {
    for form in forms() {
        assert!(!text.contains(&form), "{what} shows `{form}`: {text}");
    }
}

#[track_caller]
fn both_clean(what: &str, ended: &Ended) {
    is_clean(what, &ended.out);
    is_clean(what, &ended.err);
}

/// A pipeline whose secret is in the path of a file that can't be there, in requests that fail, and in arguments of a
/// program that shows them.
const SPEC: &str = "\
name: canary
source: { file: { path: in.jsonl } }
stages:
  - id: ask
    http:
      url: 'http://127.0.0.1:1/${secret.T}?key=${secret.T}'
      headers: { Authorization: 'Bearer ${secret.T}' }
      limits: { retry: { max_attempts: 1 } }
  - id: say
    log: { every: 1 }
sink: { stdout: {} }
on_error: dead_letter
dead_letters: { file: { path: rejected.jsonl } }
secrets: { T: { env: CANARY } }
";

fn run(folder: &Folder, args: &[&str]) -> Ended {
    let output = folder.command(args).env("CANARY", CANARY).env("BOURN_LOG", "trace").output().unwrap();
    crate::support::ended(output)
}

#[test]
fn no_output_shows_a_secret() {
    let folder = Folder::with(&[("in.jsonl", "{\"a\":1}\n{\"a\":2}\n"), ("a.yaml", SPEC)]);
    for args in [
        &["validate", "a.yaml"][..],
        &["validate", "a.yaml", "-o", "json"],
        &["plan", "a.yaml"],
        &["plan", "a.yaml", "-o", "json"],
        &["plan", "a.yaml", "--graph", "mermaid"],
        &["run", "a.yaml", "--stats"],
        &["run", "a.yaml", "--stats", "-o", "json"],
    ] {
        let ended = run(&folder, args);
        both_clean(&args.join(" "), &ended);
        if args[0] == "run" {
            let letters = folder.read("rejected.jsonl");
            assert_eq!(letters.lines().count(), 2, "{letters}{}", ended.err);
            is_clean("a dead letter", &letters);
        }
    }
}

#[test]
fn an_error_that_ends_the_job_shows_no_secret() {
    let spec = SPEC.replace("on_error: dead_letter\ndead_letters: { file: { path: rejected.jsonl } }\n", "");
    let folder = Folder::with(&[("in.jsonl", "{\"a\":1}\n"), ("a.yaml", &spec)]);
    for args in [&["run", "a.yaml"][..], &["run", "a.yaml", "-o", "json"]] {
        let ended = run(&folder, args);
        assert_eq!(ended.code, Some(1), "{}", ended.err);
        both_clean(&args.join(" "), &ended);
    }
}

#[test]
fn a_problem_of_the_spec_shows_no_secret() {
    let spec = "source: { file: { path: '${secret.T}.xyz' } }\nsink: { stdout: {} }\nsecrets: { T: { env: CANARY } }\n";
    let folder = Folder::with(&[("a.yaml", spec)]);
    for verb in ["validate", "plan", "run"] {
        let ended = run(&folder, &[verb, "a.yaml"]);
        assert!(verb == "validate" || ended.code == Some(2), "{verb}: {}", ended.err);
        both_clean(verb, &ended);
    }
}

#[test]
fn a_secret_of_a_program_is_fetched_to_run_and_not_to_look() {
    let spec = "\
source: { file: { path: '${secret.P}.jsonl' } }
sink: { stdout: {} }
secrets: { P: { command: [sh, -c, 'touch ran; echo rows'] } }
";
    let folder = Folder::with(&[("rows.jsonl", "{\"a\":1}\n"), ("a.yaml", spec)]);
    folder.bourn(&["validate", "a.yaml"]);
    assert!(!folder.path("ran").exists());
    assert_eq!(folder.bourn(&["run", "a.yaml"]).quietly(), "{\"a\":1}\n");
    assert!(folder.path("ran").exists());
}

#[test]
fn the_record_of_a_failed_step_shows_no_secret() {
    let spec = "\
steps:
  - { id: ask, http: { url: 'http://127.0.0.1:1/${secret.T}' }, retry: { max_attempts: 1 } }
secrets: [T]
";
    let folder = Folder::with(&[("a.yaml", spec)]);
    let ended = crate::support::ended(folder.command(&["run", "a.yaml"]).env("T", CANARY).output().unwrap());
    assert!(ended.out.contains("ask"), "{}{}", ended.out, ended.err);
    both_clean("the document of a run", &ended);
}
