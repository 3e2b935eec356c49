//! Runs that wait come back while their job goes on.

use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Folder, ended};

const SPEC: &str = "\
name: asks
steps:
  - { id: first, set: '${input.n}' }
  - { id: held, wait: { signal: go }, needs: first }
  - { id: last, set: '${[.first.results, .held.results]}' }
";

#[test]
fn a_signal_is_heard_by_the_job_that_still_reads_inputs() {
    let folder = Folder::with(&[("asks.yaml", SPEC)]);
    let mut command = folder.command(&["run", "asks.yaml", "--inputs", "-", "-o", "json"]);
    let mut job = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut inputs = job.stdin.take().unwrap();
    let mut documents = BufReader::new(job.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&documents.next().unwrap().unwrap()).unwrap() };
    writeln!(inputs, r#"{{"n": 1}}"#).unwrap();
    let first = next();
    assert_eq!(first["status"], "WAITING");
    let run = first["run_id"].as_str().unwrap();
    let kept = folder.bourn(&["signal", run, "go", "--data", r#""yes""#]);
    assert!(kept.err.contains("the process that runs its job goes on with it"), "{}", kept.err);
    let again = next();
    assert_eq!((&again["run_id"], &again["final_output"]), (&first["run_id"], &json!([1, "yes"])));
    // What was asked is heard of a run of which nobody wants to hear any more.
    writeln!(inputs, r#"{{"n": 2}}"#).unwrap();
    let second = next();
    assert_eq!(folder.bourn(&["runs", "cancel", second["run_id"].as_str().unwrap()]).code, Some(0));
    assert_eq!(next()["status"], "CANCELED");
    writeln!(inputs, r#"{{"n": 3}}"#).unwrap();
    let third = next();
    let run = third["run_id"].as_str().unwrap();
    assert_eq!(folder.bourn(&["runs", "pause", run]).code, Some(0));
    assert_eq!(next()["status"], "PAUSED");
    folder.bourn(&["runs", "resume", run]);
    assert_eq!(next()["status"], "WAITING");
    assert_eq!(folder.bourn(&["signal", run, "go"]).code, Some(0));
    assert_eq!(next()["status"], "COMPLETED");
    drop(inputs);
    assert_eq!(job.wait().unwrap().code(), Some(1));
}

#[test]
fn who_says_so_waits_for_the_end_of_a_run() {
    // Nobody listens there, which is nothing to a run.
    for monitoring in [&[] as &[&str], &["--monitoring", "otlp=http://127.0.0.1:1"]] {
        let folder = Folder::with(&[("asks.yaml", SPEC)]);
        let args = ["run", "asks.yaml", "--input", r#"{"n": 1}"#, "--id", "a", "--wait", "-o", "json"];
        let job = folder.command(&[args.as_slice(), monitoring].concat()).spawn().unwrap();
        while !folder.bourn(&["runs", "list", "--status", "waiting"]).out.contains("asks") {}
        assert_eq!(folder.bourn(&["signal", "a", "go"]).code, Some(0));
        let ended = ended(job.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
        let document: Value = serde_json::from_str(&ended.out).unwrap();
        assert_eq!((&document["status"], &document["final_output"]), (&json!("COMPLETED"), &json!([1, null])));
    }
}

const EARLY: &str = "\
name: early
steps:
  - { id: first, process: { command: [sh, -c, 'touch begun; until [ -e on ]; do sleep 0.02; done'] } }
  - { id: held, wait: { signal: go }, needs: first }
  - { id: last, set: '${.held.results}' }
";

#[test]
fn a_signal_that_comes_before_its_wait_is_not_waited_for() {
    let folder = Folder::with(&[("early.yaml", EARLY)]);
    let args = ["run", "early.yaml", "--input", "{}", "--id", "a", "-o", "json"];
    let job = folder.command(&args).spawn().unwrap();
    while !folder.path("begun").exists() {}
    let kept = folder.bourn(&["signal", "a", "go", "--data", "1"]);
    let told = "run a: no step waits for `go` now: it is kept for the first one that will\n";
    assert_eq!((kept.code, kept.err.as_str()), (Some(0), told));
    // Of two signals the later one counts, and whoever sends it is told.
    let other = folder.bourn(&["signal", "a", "go", "--data", "2"]);
    assert!(
        other.err.starts_with("warning: run a: a signal `go` has come before: this one takes its place\n"),
        "{}",
        other.err
    );
    std::fs::write(folder.path("on"), "").unwrap();
    let ended = ended(job.wait_with_output().unwrap());
    let document: Value = serde_json::from_str(&ended.out).unwrap();
    assert_eq!((&document["status"], &document["final_output"]), (&json!("COMPLETED"), &json!(2)), "{}", ended.err);
}

#[test]
fn a_job_that_waits_for_nobody_but_signals_still_ends() {
    let folder = Folder::with(&[("asks.yaml", SPEC), ("in.jsonl", "{\"n\": 1}\n{\"n\": 2}\n\n{\"n\"\n")]);
    let ended = folder.bourn(&["run", "asks.yaml", "--inputs", "in.jsonl", "-o", "json"]);
    assert_eq!((ended.code, ended.out.lines().count()), (Some(1), 3), "{}", ended.err);
}

#[test]
fn runs_of_one_job_that_get_their_signals_at_once_all_go_on() {
    let spec =
        "name: s\nsteps:\n  - { id: w, wait: { signal: go } }\n  - { id: p, needs: w, process: [sleep, '0.1'] }\n";
    let inputs: String = (0..8).map(|n| format!("{n}\n")).collect::<Vec<_>>().concat();
    let folder = Folder::with(&[("s.yaml", spec), ("in.jsonl", &inputs)]);
    let all = folder.bourn(&["run", "s.yaml", "--inputs", "in.jsonl", "-o", "json"]).out;
    let runs =
        all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["run_id"].as_str().unwrap().to_owned());
    let send = |(n, run): (usize, String)| {
        let args: &[&str] = if n % 2 == 0 { &["signal", &run, "go"] } else { &["approve", &format!("{run}/w")] };
        folder.command(args).spawn().unwrap()
    };
    let senders: Vec<_> = runs.enumerate().map(send).collect();
    for one in senders {
        let ended = ended(one.wait_with_output().unwrap());
        assert_eq!(ended.code, Some(0), "{}", ended.err);
    }
    let waiting = folder.bourn(&["runs", "list", "--status", "waiting", "-o", "json"]).quietly();
    assert_eq!(waiting.trim(), "[]");
    assert_eq!(
        folder.bourn(&["runs", "list", "--status", "completed", "-o", "json"]).quietly().matches("run_id").count(),
        8
    );
}

#[test]
fn who_had_the_job_for_long_goes_on_with_what_came_meanwhile() {
    let spec = "name: s\nsteps:\n  - { id: w, wait: { signal: go } }\n  - { id: p, needs: w, \
                process: [sh, -c, 'touch begun-${input}; until test -e on-${input} || ! test -e s.yaml; do sleep 0.02; done'] }\n";
    let folder = Folder::with(&[("s.yaml", spec), ("in.jsonl", "1\n2\n"), ("on-2", "")]);
    let all = folder.bourn(&["run", "s.yaml", "--inputs", "in.jsonl", "-o", "json"]).out;
    let runs: Vec<String> = all
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|document| document["run_id"].as_str().unwrap().to_owned())
        .collect();
    let first = folder.command(&["signal", &runs[0], "go"]).spawn().unwrap();
    while !folder.path("begun-1").exists() {}
    // It waits for a while, and then leaves it to the other one.
    let second = folder.bourn(&["signal", &runs[1], "go"]);
    assert!(second.err.contains("the process that runs its job goes on with it"), "{}", second.err);
    std::fs::write(folder.path("on-1"), "").unwrap();
    let first = ended(first.wait_with_output().unwrap());
    assert!(first.err.contains(&format!("run {}: it went on too, for its signal has come", runs[1])), "{}", first.err);
    assert_eq!(
        folder.bourn(&["runs", "list", "--status", "completed", "-o", "json"]).quietly().matches("run_id").count(),
        2
    );
}

#[test]
fn a_signal_is_for_those_that_wait_for_it_and_not_for_every_later_wait_of_its_name() {
    let two = "name: two\nsteps:\n  - { id: w1, wait: { signal: go } }\n  - { id: m, set: 1, needs: w1 }\n  - { id: w2, wait: { signal: go }, needs: m }\n";
    let rounds = "\
name: rounds
steps:
  - id: r
    repeat: { until: '${.r.results.ok == true}', max_iterations: 4 }
    workflow:
      spec:
        steps:
          - { id: draft, set: 1 }
          - { id: ok, wait: { signal: review }, needs: draft }
          - { id: said, set: { value: { ok: '${ok.results}' } } }
";
    let beside = "name: beside\nsteps:\n  - { id: a, wait: { signal: go } }\n  - { id: b, wait: { signal: go } }\n";
    let each = "name: each\nsteps:\n  - { id: a, wait: { signal: begin } }\n  - { id: l, needs: a, for_each: { in: [0, 1, 2] }, wait: { signal: go } }\n  - { id: b, wait: { signal: on } }\n";
    let early = "name: early\nsteps:\n  - { id: a, wait: { signal: go } }\n  - { id: b, wait: { signal: later }, needs: a }\n  - { id: c, wait: { signal: later }, needs: b }\n";
    let folder = Folder::with(&[
        ("two.yaml", two),
        ("rounds.yaml", rounds),
        ("beside.yaml", beside),
        ("early.yaml", early),
        ("each.yaml", each),
    ]);
    let run = |name: &str| {
        let run = folder.bourn(&["run", &format!("{name}.yaml"), "--input", "{}", "--id", name]);
        assert!(run.out.contains("WAITING"), "{}", run.err);
    };
    let signal = |name: &str, signal: &str, data: &str| {
        folder.bourn(&["signal", name, signal, "--data", data]);
        let shown = folder.bourn(&["runs", "show", name]).quietly();
        shown.lines().next().unwrap_or_default().to_owned()
    };
    run("two");
    assert!(signal("two", "go", "1").contains("WAITING"), "the second wait has not been answered");
    // Going on without another one changes nothing.
    folder.bourn(&["runs", "resume", "two"]);
    assert!(signal("two", "go", "2").contains("COMPLETED"));
    run("rounds");
    assert!(signal("rounds", "review", "false").contains("WAITING"));
    assert!(signal("rounds", "review", "true").contains("COMPLETED"));
    // One that is early is for the first that begins, also when the next one begins in the same moment.
    folder.bourn(&["run", "early.yaml", "--input", "{}", "--id", "early"]);
    assert!(signal("early", "later", "1").contains("WAITING"));
    assert!(signal("early", "go", "1").contains("WAITING"), "one early signal for two waits");
    assert!(signal("early", "later", "2").contains("COMPLETED"));
    // The same of the elements of a list, however often their run is passed.
    folder.bourn(&["run", "each.yaml", "--input", "{}", "--id", "each"]);
    for (name, data) in [("go", "1"), ("begin", "2"), ("on", "3"), ("on", "4")] {
        assert!(signal("each", name, data).contains("WAITING"));
    }
    let open = folder.bourn(&["inbox"]).quietly();
    assert_eq!(open.matches("each/l[").count(), 2, "whichever began first has taken it, and no other one: {open}");
    assert!(signal("each", "go", "5").contains("COMPLETED"));
    // It is for all that wait when it comes.
    run("beside");
    assert!(signal("beside", "go", "1").contains("COMPLETED"));
    for name in ["two", "rounds", "beside", "early", "each"] {
        let replayed = folder.bourn(&["runs", "replay", name]);
        assert_eq!(replayed.code, Some(0), "{name}: {}{}", replayed.out, replayed.err);
    }
}

#[test]
fn a_job_that_is_stopped_while_a_run_is_passed_twice_tells_of_it_and_the_next_goes_on() {
    let spec = "\
name: beside
steps:
  - { id: long, process: { command: [sh, -c, 'touch begun-$0; sleep 2', '${input.n}'] } }
  - { id: ok, wait: { signal: go } }
  - { id: after, needs: ok, process: { command: [touch, 'after-${input.n}'] } }
  - { id: end, needs: [long, after], process: { command: [sh, -c, 'echo >> end'] } }
";
    let folder = Folder::with(&[("beside.yaml", spec), ("in.jsonl", "{\"n\": 1}\n{\"n\": 2}\n")]);
    let args = ["run", "beside.yaml", "--inputs", "in.jsonl"];
    let mut job = folder.command(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    while !(folder.path("begun-1").exists() && folder.path("begun-2").exists()) {}
    let runs: Value = serde_json::from_str(&folder.bourn(&["runs", "list", "-o", "json"]).quietly()).unwrap();
    let mut ids: Vec<&str> = runs.as_array().unwrap().iter().map(|run| run["run_id"].as_str().unwrap()).collect();
    // The newest is told first.
    ids.reverse();
    assert_eq!(folder.bourn(&["signal", ids[0], "go"]).code, Some(0));
    while !folder.path("after-1").exists() {}
    folder.command(&["--version"]).output().unwrap();
    let pid = job.id().to_string();
    std::process::Command::new("kill").args(["-TERM", &pid]).status().unwrap();
    let mut told = String::new();
    std::io::Read::read_to_string(&mut job.stderr.take().unwrap(), &mut told).unwrap();
    let ended = ended(job.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(0), "{}{told}", ended.out);
    assert!(!told.contains("never came to its end"), "{told}");
    assert_eq!(folder.bourn(&["signal", ids[1], "go"]).code, Some(0));
    let whole = folder.bourn(&args);
    assert_eq!(
        whole.out.matches(r#""status":"COMPLETED","workflow_results""#).count(),
        2,
        "{}{}",
        whole.out,
        whole.err
    );
    assert_eq!(folder.read("end").lines().count(), 2);
}
