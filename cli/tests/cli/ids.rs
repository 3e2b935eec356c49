//! Ids of runs that are asked for again: refused, or given up by the run that had them.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::support::{Folder, ended};

const HELD: &str = "\
name: held
input: { schema: { type: object, required: [n] } }
steps:
  - { id: before, process: { command: [sh, -c, 'echo call >> calls; echo ${input.n}'] } }
  - { id: held, wait: { signal: go }, needs: before }
  - { id: after, command: set, args: '${before.results}', needs: held }
";

fn calls(folder: &Folder) -> usize {
    std::fs::read_to_string(folder.path("calls")).unwrap_or_default().lines().count()
}

fn run(folder: &Folder, n: u64, more: &[&str]) -> crate::support::Ended {
    let input = format!("{{\"n\": {n}}}");
    folder.bourn(&[&["run", "w.yaml", "--id", "r", "--input", input.as_str(), "-o", "json"], more].concat())
}

/// The ids of runs with how they stand, in the order of their ids.
fn listed(folder: &Folder) -> Vec<(String, String)> {
    let runs: Value = serde_json::from_str(&folder.bourn(&["runs", "list", "-o", "json"]).quietly()).unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let all: BTreeSet<_> =
        runs.as_array().unwrap().iter().map(|run| (text(&run["run_id"]), text(&run["status"]))).collect();
    all.into_iter().collect()
}

fn pairs(of: &[(&str, &str)]) -> Vec<(String, String)> {
    of.iter().map(|(id, status)| ((*id).to_owned(), (*status).to_owned())).collect()
}

#[test]
fn a_run_that_waits_is_ended_and_gives_its_id_up_to_one_that_begins_anew() {
    let folder = Folder::with(&[("w.yaml", HELD)]);
    assert_eq!(run(&folder, 1, &[]).code, Some(0));
    let terminate = ["--on-conflict", "terminate-existing"];
    // Nothing is given up for an input that is no good.
    let input = ["run", "w.yaml", "--id", "r", "--input", "{}"];
    let refused = folder.bourn(&[&input[..], &terminate].concat());
    assert_eq!((refused.code, calls(&folder)), (Some(2), 1), "{}", refused.err);
    assert_eq!(listed(&folder), pairs(&[("r", "WAITING")]));
    for n in [2, 3] {
        let begun = run(&folder, n, &terminate);
        let document: Value = serde_json::from_str(&begun.out).unwrap();
        assert_eq!((&document["run_id"], &document["status"]), (&json!("r"), &json!("WAITING")), "{}", begun.err);
        assert!(begun.err.contains(&format!("is `r~{}` from now on", n - 1)), "{}", begun.err);
        assert_eq!(calls(&folder), usize::try_from(n).unwrap(), "it has no step of the one before");
    }
    assert_eq!(listed(&folder), pairs(&[("r", "WAITING"), ("r~1", "CANCELED"), ("r~2", "CANCELED")]));
    let ended: Value = serde_json::from_str(&folder.bourn(&["signal", "r", "go", "-o", "json"]).quietly()).unwrap();
    assert!(ended["final_output"].to_string().contains('3'), "{ended}");
    // Those that gave it up are there to look at, and to be tried again.
    let first = folder.bourn(&["runs", "recover", "r~1", "-o", "json"]).out;
    assert!(first.contains("WAITING"), "{first}");
    let first: Value = serde_json::from_str(&folder.bourn(&["signal", "r~1", "go", "-o", "json"]).quietly()).unwrap();
    assert!(first["final_output"].to_string().contains('1'), "{first}");
    assert_eq!(calls(&folder), 3);
}

#[test]
fn a_run_that_another_process_has_is_ended_by_it_first() {
    let spec = "name: long\nsteps:\n  - { id: long, process: { command: [sh, -c, 'echo call >> calls; test -e well || sleep 60'] } }\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    let first = folder.command(&["run", "w.yaml", "--id", "r", "-o", "json"]).spawn().unwrap();
    while calls(&folder) == 0 {
        folder.bourn(&["runs", "list"]);
    }
    std::fs::write(folder.path("well"), "").unwrap();
    let second = run(&folder, 1, &["--on-conflict", "terminate-existing"]);
    assert_eq!(second.code, Some(0), "{}", second.err);
    let first = ended(first.wait_with_output().unwrap());
    assert_eq!(first.code, Some(1), "{}", first.err);
    assert_eq!(listed(&folder), pairs(&[("r", "COMPLETED"), ("r~1", "CANCELED")]));
}

#[test]
fn the_id_of_a_run_that_has_ended_can_be_had_again_if_that_is_said() {
    let spec = "name: ended\nsteps:\n  - { id: a, process: { command: [sh, -c, 'test -e well'] }, retry: { max_attempts: 1 } }\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    assert_eq!(run(&folder, 1, &[]).code, Some(1));
    let refused = run(&folder, 1, &[]);
    assert!(refused.err.contains("there is a run `r` already"), "{}", refused.err);
    std::fs::write(folder.path("well"), "").unwrap();
    assert_eq!(run(&folder, 1, &["--id-reuse", "failed-only"]).code, Some(0));
    let refused = run(&folder, 1, &["--id-reuse", "failed-only"]);
    assert!(refused.err.contains("there is a run `r` already"), "{}", refused.err);
    assert_eq!(run(&folder, 1, &["--id-reuse", "always"]).code, Some(0));
    assert_eq!(listed(&folder), pairs(&[("r", "COMPLETED"), ("r~1", "FAILED"), ("r~2", "COMPLETED")]));
}

/// Answers every request with 503, and keeps the idempotency keys.
fn service() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let keys = Arc::new(Mutex::new(Vec::new()));
    let seen = keys.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut reader = BufReader::new(stream.unwrap());
            let (mut line, mut length) = (String::new(), 0);
            while reader.read_line(&mut line).unwrap() > 2 {
                let (name, value) = line.split_once(':').unwrap_or_default();
                match name.to_lowercase().as_str() {
                    "idempotency-key" => seen.lock().unwrap().push(value.trim().to_owned()),
                    "content-length" => length = value.trim().parse().unwrap(),
                    _ => {}
                }
                line.clear();
            }
            reader.read_exact(&mut vec![0; length]).unwrap();
            let answer = "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            reader.get_mut().write_all(answer.as_bytes()).unwrap();
        }
    });
    (url, keys)
}

#[test]
fn requests_of_runs_of_one_id_are_told_apart_by_their_keys_and_those_of_one_run_never() {
    let (url, keys) = service();
    let spec = format!(
        "name: keys\nsteps:\n  - {{ id: ask, http: {{ url: '{url}', method: POST, body: x }}, retry: {{ max_attempts: 1 }} }}\n"
    );
    let folder = Folder::with(&[("w.yaml", &spec)]);
    run(&folder, 1, &[]);
    run(&folder, 1, &["--id-reuse", "always"]);
    folder.bourn(&["runs", "recover", "r~1"]);
    folder.bourn(&["runs", "recover", "r"]);
    run(&folder, 1, &["--id-reuse", "always"]);
    assert_eq!(*keys.lock().unwrap(), ["r/ask", "r~2/ask", "r/ask", "r~2/ask", "r~3/ask"]);
}

#[test]
fn of_many_that_begin_a_run_of_one_id_together_all_have_its_result() {
    let spec = "name: w\nsteps: [{ id: a, process: { command: [sh, -c, 'echo call >> calls; echo done'] } }]\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    for round in 1..=3 {
        let id = format!("r{round}");
        let args = ["run", "w.yaml", "--id", &id, "--on-conflict", "use-existing", "-o", "json"];
        let all: Vec<_> = (0..4).map(|_| folder.command(&args).spawn().unwrap()).collect();
        for one in all {
            let one = ended(one.wait_with_output().unwrap());
            let document: Value = serde_json::from_str(&one.out).unwrap_or_else(|e| panic!("{e}: {}", one.err));
            assert_eq!((one.code, &document["status"]), (Some(0), &json!("COMPLETED")), "{}", one.err);
        }
        assert_eq!(calls(&folder), round, "it is done once");
    }
}

#[test]
fn an_id_is_one_line_and_commands_say_it_so_that_they_can_be_copied() {
    let spec = "name: w\nsteps: [{ id: a, process: { command: [sh, -c, 'test -e good'] } }]\n";
    let folder = Folder::with(&[("w.yaml", spec)]);
    for (id, why) in [("", "a letter"), (" a", "no space"), ("a\nb", "one line"), (&*"x".repeat(257), "256 bytes")] {
        let refused = folder.bourn(&["run", "w.yaml", "--id", id]);
        assert!(refused.code == Some(2) && refused.err.contains(why), "{}", refused.err);
    }
    let run = folder.bourn(&["run", "w.yaml", "--id", "my run's", "--journal", "o o.db", "-o", "json"]);
    let document: Value = serde_json::from_str(&run.out).unwrap();
    let command = document["recovery_plan"]["actions"][0]["command"].as_str().unwrap();
    assert_eq!(command, r#"bourn runs recover "my run's" --journal 'o o.db'"#);
    let diagnosed = folder.bourn(&["runs", "diagnose", "my run's", "--journal", "o o.db"]).quietly();
    assert!(diagnosed.contains(&format!("next: {command}")), "{diagnosed}");
    // It does what it says.
    std::fs::write(folder.path("good"), "").unwrap();
    let words = ["runs", "recover", "my run's", "--journal", "o o.db", "-o", "json"];
    let document: Value = serde_json::from_str(&folder.bourn(&words).quietly()).unwrap();
    assert_eq!(document["status"], "COMPLETED");
}
