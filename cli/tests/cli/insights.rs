//! What is known of a workflow from its runs, the commands that steps may say, and who decided.

use serde_json::{Value, json};

use crate::support::Folder;

const SPEC: &str = "\
name: learnt
steps:
  - { id: asked, command: /query, args: 'about ${input.n}' }
  - id: route
    needs: asked
    switch:
      - { when: '${.input.n % 4 == 0}', then: rare }
      - { when: '${.input.n < 0}', then: never }
      - { then: often }
  - { id: rare, command: set, args: r }
  - { id: never, command: set, args: n }
  - id: often
    process: { command: [sh, -c, 'test ${input.n} -gt 20'] }
    retry: { max_attempts: 1 }
    default: none
";

#[test]
fn insights_are_read_off_the_runs_and_change_nothing() {
    let lines: Vec<_> = (0..40).map(|n| json!({ "n": n }).to_string()).collect();
    let folder = Folder::with(&[("w.yaml", SPEC), ("in.jsonl", &lines.join("\n"))]);
    let run = || folder.bourn(&["run", "w.yaml", "--mock", "--inputs", "in.jsonl", "-q"]);
    let first = run();
    assert_eq!(first.code, Some(0), "{}", first.err);
    let outputs = |out: &str| -> Vec<Value> {
        out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["workflow_results"].clone()).collect()
    };
    let found: Value = serde_json::from_str(&folder.bourn(&["insights", "learnt", "-o", "json"]).quietly()).unwrap();
    assert_eq!((&found["runs"], &found["status"]), (&json!(40), &json!({ "COMPLETED": 40 })));
    let step = |name: &str| found["steps"][name].clone();
    assert_eq!(step("rare")["status"], json!({ "COMPLETED": 10, "SKIPPED": 30 }));
    assert_eq!(step("rare")["not_chosen_by"], json!({ "route": 30 }));
    // Of the 30 that take this way 15 are 20 or less, and fail.
    let often = step("often");
    assert_eq!(
        (&often["degraded"], &often["attempts"]["sum"], &often["attempts"]["max"]),
        (&json!(15), &json!(30), &json!(1))
    );
    let asked = step("asked");
    assert_eq!(
        (&asked["n"], &asked["input_tokens"]["n"], &asked["duration_ms"]["n"]),
        (&json!(40), &json!(40), &json!(40))
    );
    assert!(asked["usd"].as_f64().is_some() && asked["input_tokens"]["sum"].as_u64() > Some(40), "{asked}");
    let advice = [
        "`never` was never started in 40 runs: is its way dead?",
        "`often` failed 15 times of 30: see `bourn runs list --status failed`",
    ];
    assert_eq!(found["advice"], json!(advice));
    let text = folder.bourn(&["insights", "learnt"]).quietly();
    assert!(text.starts_with("learnt: 40 runs (40 COMPLETED)\n") && text.contains("30 not chosen by route"), "{text}");
    assert!(text.contains(&format!("advice: {}", advice[0])), "{text}");
    assert_eq!(outputs(&run().out), outputs(&first.out));
    assert!(folder.bourn(&["insights", "other"]).refused(2).contains("`other` has no runs in "));
}

#[test]
fn commands_are_listed_with_what_they_stand_for_and_those_of_a_routing_file() {
    let routing = "/query: { kind: process, args: command }\n/now: http\n/later: nothing\n";
    let folder = Folder::with(&[("routing.yaml", routing)]);
    let of = |out: String| -> Value { serde_json::from_str(&out).unwrap() };
    let find = |all: &Value, name: &str| all.as_array().unwrap().iter().find(|c| c["command"] == name).unwrap().clone();
    let known = of(folder.bourn(&["commands", "-o", "json"]).quietly());
    let query = find(&known, "/query");
    assert_eq!((&query["kind"], &query["args"], &query["is_own"]), (&json!("model"), &json!("prompt"), &json!(false)));
    let own = of(folder.bourn(&["commands", "--routing", "routing.yaml", "-o", "json"]).quietly());
    let query = find(&own, "/query");
    assert_eq!((&query["kind"], &query["is_own"], &query["is_there"]), (&json!("process"), &json!(true), &json!(true)));
    assert_eq!(find(&own, "/task"), find(&known, "/task"));
    let text = folder.bourn(&["commands", "--routing", "routing.yaml"]).quietly();
    let later = text.lines().find(|line| line.starts_with("/later")).unwrap();
    assert!(later.ends_with("there is no such kind"), "{text}");
}

#[test]
fn who_decided_and_when_is_in_the_history() {
    let spec = "name: held\nsteps:\n  - { id: a, wait: { signal: one } }\n  - { id: b, wait: { signal: two }, needs: a }\n  - { id: c, wait: { signal: three }, needs: b }\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    folder.bourn(&["run", "w.yaml", "--id", "r"]);
    folder.bourn(&["approve", "r/a", "--by", "ada"]);
    let mut command = folder.command(&["approve", "r/b", "--reject", "too dear"]);
    command.env("USER", "grace").output().unwrap();
    folder.bourn(&["signal", "r", "three", "--by", "cron"]);
    let history: Value =
        serde_json::from_str(&folder.bourn(&["runs", "show", "r", "--history", "-o", "json"]).quietly()).unwrap();
    let signals: Vec<_> = history.as_array().unwrap().iter().filter(|event| event["event"] == "Signaled").collect();
    let told: Vec<_> = signals.iter().map(|event| (event["step"].clone(), event["by"].clone())).collect();
    // What was said to one step is told of that, and of a signal its name.
    let wanted = [("a", "ada"), ("b", "grace"), ("three", "cron")].map(|(step, by)| (json!(step), json!(by)));
    assert_eq!(told, wanted);
    assert_eq!(signals[1]["record"], json!({ "approved": false, "reason": "too dear" }));
    let text = folder.bourn(&["runs", "show", "r", "--history"]).quietly();
    assert!(text.lines().any(|line| line.contains("Signaled") && line.ends_with("by ada")), "{text}");
}
