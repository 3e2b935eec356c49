//! What is done anew is something else than what was done: in another job, or in a run that is tried again.

use std::fs::{remove_file, write};
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use serde_json::Value;

use crate::support::Folder;

/// Moves something, undoes it when the last step fails, and tells of it in the end.
const SPEC: &str = "\
name: move
steps:
  - id: charge
    http: { url: 'http://127.0.0.1:PORT/charge', body: { d: 1 } }
    compensate: { command: http, with: { url: 'http://127.0.0.1:PORT/undo', body: { d: 1 } } }
  - { id: other, http: { url: 'http://127.0.0.1:PORT/other', body: { d: 1 } } }
  - { id: ship, needs: [charge, other], process: { command: [test, -e, ok] }, retry: { max_attempts: 1 } }
finally:
  - { id: tell, http: { url: 'http://127.0.0.1:PORT/tell', body: { d: 1 } } }
";

/// A server that keeps the keys of all requests.
struct Keys {
    port: u16,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Keys {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::<Mutex<Vec<String>>>::default();
        let all = seen.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut bytes = vec![0; 65_536];
                let read = stream.read(&mut bytes).unwrap_or(0);
                let text = String::from_utf8_lossy(&bytes[..read]).into_owned();
                let key = text.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
                all.lock().unwrap().extend(key.map(str::to_owned));
                let answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n{}";
                // Who is gone will ask again.
                let _gone = stream.write_all(answer.as_bytes());
            }
        });
        Self { port, seen }
    }

    fn of(&self, spec: &str) -> String {
        spec.replace("PORT", &self.port.to_string())
    }

    /// Those since the last time.
    fn taken(&self) -> Vec<String> {
        let mut all = std::mem::take(&mut *self.seen.lock().unwrap());
        all.sort_unstable();
        all
    }
}

fn ids(out: &str) -> Vec<String> {
    let documents = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    documents.map(|document| document["run_id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_run_that_is_tried_again_does_anew_what_was_undone_under_other_keys() {
    let keys = Keys::start();
    let folder = Folder::with(&[("m.yaml", &keys.of(SPEC))]);
    let run = folder.bourn(&["run", "m.yaml", "--input", r#"{"n": 1}"#, "--id", "a", "-o", "json"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert_eq!(keys.taken(), ["a/charge", "a/charge.compensate", "a/other", "a/tell"]);
    let run = folder.bourn(&["runs", "recover", "a"]);
    assert_eq!(run.code, Some(1), "{}", run.err);
    assert_eq!(keys.taken(), ["a/charge#again1", "a/charge.compensate#again1", "a/tell#again1"]);
    write(folder.path("ok"), "").unwrap();
    folder.bourn(&["runs", "recover", "a"]).quietly();
    assert_eq!(keys.taken(), ["a/charge#again2", "a/tell#again2"]);
    // A fork takes over what stands, and nothing that was undone or done for another end.
    remove_file(folder.path("ok")).unwrap();
    let fork = folder.bourn(&["runs", "fork", "a", "--at", "charge", "--id", "b", "-o", "json"]);
    assert_eq!(fork.code, Some(1), "{}", fork.err);
    let document: Value = serde_json::from_str(&fork.out).unwrap_or_default();
    assert_eq!(document["execution_metrics"]["steps"]["charge"]["status"], "REUSED", "{}", fork.err);
    assert_eq!(keys.taken(), ["b/charge.compensate", "b/tell"]);
}

#[test]
fn elements_that_are_done_anew_have_other_keys_too() {
    let keys = Keys::start();
    let spec = "\
name: tells
steps:
  - { id: ship, process: { command: [test, -e, ok] }, retry: { max_attempts: 1 } }
finally:
  - { id: each, for_each: { in: '${[1, 2]}' }, http: { url: 'http://127.0.0.1:PORT/tell', body: { n: '${item}' } } }
";
    let folder = Folder::with(&[("t.yaml", &keys.of(spec))]);
    let run = folder.bourn(&["run", "t.yaml", "--input", "{}", "--id", "a", "-o", "json"]);
    assert_eq!(
        (run.code, keys.taken()),
        (Some(1), vec!["a/each[0]".to_owned(), "a/each[1]".to_owned()]),
        "{}",
        run.err
    );
    write(folder.path("ok"), "").unwrap();
    folder.bourn(&["runs", "recover", "a"]).quietly();
    assert_eq!(keys.taken(), ["a/each[0]#again1", "a/each[1]#again1"]);
}

#[test]
fn runs_of_another_job_have_other_ids_wherever_it_is_kept() {
    let spec = "name: move\nsteps: [ { id: a, set: 1 } ]\n";
    let unkept = format!("{spec}optimization: {{ state_persistence: false }}\n");
    let folder = Folder::with(&[("m.yaml", spec), ("none.yaml", &unkept), ("in.jsonl", "{\"n\": 1}\n")]);
    let mut all = Vec::new();
    for (spec, journal) in [("m.yaml", "a.db"), ("m.yaml", "b.db"), ("m.yaml", "a.db"), ("none.yaml", "")] {
        let journal: &[&str] = if journal.is_empty() { &[] } else { &["--journal", journal] };
        let run = folder.bourn(&[&["run", spec, "--inputs", "in.jsonl", "-o", "json"], journal].concat());
        assert_eq!(run.code, Some(0), "{}", run.err);
        all.extend(ids(&run.out));
    }
    // What is kept nowhere is known by what it is given.
    for given in ["{\"n\": 2}\n", "{\"n\": 1}\n"] {
        write(folder.path("in.jsonl"), given).unwrap();
        all.extend(ids(&folder.bourn(&["run", "none.yaml", "--inputs", "in.jsonl", "-o", "json"]).quietly()));
    }
    assert_eq!(all[3], all[5]);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 5, "{all:?}");
}
