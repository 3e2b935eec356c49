//! Workflows that begin by themselves.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::support::Folder;

const SPEC: &str = "\
name: tick
schedule: { every: 1s, catch_up: CATCH_UP, input: { of: me } }
steps:
  - { id: said, set: '${input.of} at ${input.scheduled_at}' }
";

/// Runs the schedule until so many documents were said, and ends it by a signal.
fn ticks(folder: &Folder, count: usize) -> Vec<Value> {
    let mut command = folder.command(&["run", "tick.yaml", "-o", "json", "-q"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let out = child.stdout.take().unwrap();
    let mut said = serde_json::Deserializer::from_reader(out).into_iter::<Value>().map(Result::unwrap);
    let mut all: Vec<Value> = said.by_ref().take(count).collect();
    assert_eq!(all.len(), count, "it ended by itself");
    let sent = Command::new("kill").args(["-s", "INT", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
    all.extend(said);
    assert!(child.wait().unwrap().success());
    all
}

fn seconds(documents: &[Value]) -> Vec<i64> {
    let time = |document: &Value| {
        let id = document["run_id"].as_str().unwrap().to_owned();
        assert_eq!(document["final_output"], format!("me at {}", &id["tick@".len()..]));
        chrono::DateTime::parse_from_rfc3339(&id["tick@".len()..]).unwrap().timestamp()
    };
    documents.iter().map(time).collect()
}

#[test]
fn each_time_is_run_once_and_those_that_passed_are_made_up_for_as_is_said() {
    for catch_up in ["skip", "one", "all"] {
        let folder = Folder::with(&[("tick.yaml", &SPEC.replace("CATCH_UP", catch_up))]);
        let first = seconds(&ticks(&folder, 2));
        // Three seconds and more pass in which nothing runs.
        assert!(Command::new("sleep").arg("3.5").status().unwrap().success());
        let second = seconds(&ticks(&folder, 2));
        let all = [first.as_slice(), &second].concat();
        assert!(all.is_sorted_by(|a, b| a < b), "{catch_up}: {all:?}");
        let gap = second[0] - first.last().unwrap();
        match catch_up {
            "all" => assert_eq!(gap, 1, "{all:?}"),
            _ => assert!(gap >= 3, "{catch_up}: {all:?}"),
        }
        let listed = folder.bourn(&["runs", "list", "-o", "json"]).quietly();
        let listed: Vec<Value> = serde_json::from_str(&listed).unwrap();
        assert_eq!(listed.len(), all.len());
    }
}

#[test]
fn by_hand_it_runs_once_and_what_is_wrong_is_told_at_its_place() {
    let folder = Folder::with(&[("tick.yaml", &SPEC.replace("CATCH_UP", "skip"))]);
    let once = folder.bourn(&["run", "tick.yaml", "--input", r#"{"of": "you", "scheduled_at": "now"}"#]).quietly();
    assert!(once.ends_with("you at now\n"), "{once}");
    let wrong = |schedule: &str| {
        let spec = format!("steps: [ {{ id: a, set: 1 }} ]\nschedule: {schedule}\n");
        std::fs::write(folder.path("wrong.yaml"), spec).unwrap();
        folder.bourn(&["validate", "wrong.yaml"]).err
    };
    assert!(
        wrong("{ cron: '0 0 31 2 *' }").contains("wrong.yaml:2:19 `0 0 31 2 *` never comes: no month has such a day")
    );
    assert!(wrong("{ cron: '61 * * * *' }").contains("wrong.yaml:2:19 `61 * * * *` is no cron pattern"));
    assert!(wrong("{ cron: '0 6 * * *', timezone: Europe/Berln }").contains("did you mean `Europe/Berlin`?"));
    assert!(wrong("{ catch_up: one }").contains("a schedule has a `cron` pattern or says `every`"));
    assert!(wrong("{ every: 10ms }").contains("this must be at least a second"));
    let stdin = folder.fed(&["run", "-"], "steps: [ { id: a, set: 1 } ]\nschedule: { every: 1s }\n");
    assert!(stdin.err.contains("its schedule needs a spec in a file"), "{}", stdin.err);
}
