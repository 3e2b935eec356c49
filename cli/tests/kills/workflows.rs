//! Workflows that are killed, by SIGKILL, at random and at every boundary of their journal: every run ends, and no step that is in
//! the journal has its effect once more.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use bourn_engine::env::points;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tempfile::TempDir;

/// Requests by idempotency key.
type Effects = Arc<Mutex<HashMap<String, u64>>>;

/// Counts effects, and fails every ninth key once, so that there is something to try again.
async fn effect(State(effects): State<Effects>, headers: HeaderMap, body: String) -> Result<String, StatusCode> {
    let key = headers.get("idempotency-key").and_then(|k| k.to_str().ok()).ok_or(StatusCode::BAD_REQUEST)?.to_owned();
    let first = {
        let mut effects = effects.lock().unwrap();
        let count = effects.entry(key.clone()).or_default();
        *count += 1;
        *count == 1
    };
    if first && key.bytes().map(u64::from).sum::<u64>().is_multiple_of(9) {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    Ok(format!("{{\"did\": {body}}}"))
}

/// A diamond of requests between steps that ask nobody, a request for each element of a list, one in rounds, a workflow of two for
/// each element, and a wait.
fn spec(url: &str) -> String {
    format!(
        "name: effects\nsteps:\n\
         \x20 - {{ id: first, command: set, args: '${{input.n}}' }}\n\
         \x20 - {{ id: left, http: {{ url: '{url}', method: POST, response: json, body: '${{first.results}}' }} }}\n\
         \x20 - {{ id: right, http: {{ url: '{url}', method: POST, response: json, body: '${{first.results}}' }} }}\n\
         \x20 - {{ id: last, http: {{ url: '{url}', method: POST, response: json, body: '${{left.results.did}}' }}, needs: [left, right] }}\n\
         \x20 - {{ id: each, for_each: {{ in: '${{input.list}}' }}, http: {{ url: '{url}', method: POST, response: json, body: '${{item}}' }} }}\n\
         \x20 - {{ id: rounds, repeat: {{ until: '${{.rounds.rounds >= 3}}', max_iterations: 5 }}, http: {{ url: '{url}', method: POST, response: json, body: '${{.rounds.rounds}}' }} }}\n\
         \x20 - {{ id: within, for_each: {{ in: '${{input.list}}' }}, workflow: {{ spec: {{ steps: [\
             {{ id: a, http: {{ url: '{url}', method: POST, response: json, body: '${{input}}' }} }}, \
             {{ id: b, http: {{ url: '{url}', method: POST, response: json, body: '${{a.results.did}}' }} }} ] }} }} }}\n\
         \x20 - {{ id: pause, wait: {{ duration: 20ms }}, needs: first }}\n\
         \x20 - {{ id: said, command: set, args: '${{last.results.did}}', needs: [last, each, rounds, within, pause] }}\n\
         defaults: {{ retry: {{ initial_interval: 5ms, max_attempts: 4 }} }}\noptimization: {{ max_concurrency: 32 }}\n"
    )
}

/// What is in the journal: `RUN/STEP` of the steps that have ended, and how many runs there are and have ended.
fn journal(folder: &TempDir) -> (HashSet<String>, u64, u64) {
    let path = folder.path().join(".bourn/journal.db");
    let Ok(db) = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE) else {
        return Default::default();
    };
    let mut steps = HashSet::new();
    let Ok(mut query) = db.prepare("SELECT id, step FROM events JOIN runs USING (run) WHERE kind = 'step'") else {
        return Default::default();
    };
    let mut rows = query.query(()).unwrap();
    while let Some(row) = rows.next().unwrap() {
        let step: String = row.get(1).unwrap();
        // The last of its rounds is the step itself.
        let asked = if step == "rounds" { "rounds#3" } else { &step };
        let key = format!("{}/{asked}", row.get::<_, String>(0).unwrap());
        assert!(steps.insert(key.clone()), "{key} ended twice");
    }
    let count = |what: &str| db.query_row(&format!("SELECT {what} FROM runs"), (), |row| row.get(0)).unwrap();
    (steps, count("count(*)"), count("count(ended)"))
}

/// Kills a job of so many runs so often, at random moments and at the boundaries of the journal in turns.
async fn torture(runs: usize, kills: usize, seed: u64) {
    let effects = Effects::default();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/do", listener.local_addr().unwrap());
    let app = Router::new().route("/do", post(effect)).with_state(effects.clone());
    let server = tokio::spawn(async move { axum::serve(listener, app).await });
    let folder = TempDir::new().unwrap();
    std::fs::write(folder.path().join("w.yaml"), spec(&url)).unwrap();
    let lines: Vec<_> = (0..runs).map(|n| format!("{{\"n\": {n}, \"list\": [1, 2, 3]}}")).collect();
    std::fs::write(folder.path().join("in.jsonl"), lines.join("\n")).unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let (mut killed, mut known, mut out) = (0, HashSet::new(), String::new());
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    let mut jobs = 0;
    let mut printed: Vec<String> = Vec::new();
    while killed < kills || out.is_empty() {
        // What has its end in the journal now must not be asked for again.
        let paid: HashMap<String, u64> =
            effects.lock().unwrap().iter().filter(|(k, _)| known.contains(*k)).map(|(k, n)| (k.clone(), *n)).collect();
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command.args(["run", "w.yaml", "--inputs", "in.jsonl", "-q"]).current_dir(folder.path());
        command.env_remove("BOURN_LOG").stdin(Stdio::null()).stderr(Stdio::piped()).stdout(Stdio::piped());
        let point = (killed < kills && killed % 3 > 0).then(|| points::OF_RUNS[killed % 3 - 1]);
        if let Some(point) = point {
            command.env(points::KILL_AT, format!("{point}:{}", random.random_range(1..40)));
        }
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let reader = std::thread::spawn(move || std::io::read_to_string(stdout).unwrap());
        if killed < kills && point.is_none() {
            tokio::time::sleep(Duration::from_millis(random.random_range(20..400))).await;
            let _ = child.kill();
        }
        let ended = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap()).await.unwrap();
        let text = reader.join().unwrap();
        // A job that ends before it is killed has done all; another one begins then.
        if ended.status.success() {
            assert_eq!(text.lines().count(), runs, "{}", String::from_utf8_lossy(&ended.stderr));
            jobs += 1;
            out = text;
            if killed < kills {
                printed.push(std::mem::take(&mut out));
            }
        } else {
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended.status), Some(9), "{ended:?}");
            *at.entry(point.unwrap_or("random")).or_default() += 1;
            killed += 1;
        }
        let (steps, ..) = journal(&folder);
        assert!(known.is_subset(&steps), "what was kept is gone");
        let again = effects.lock().unwrap();
        for (key, count) in &paid {
            assert_eq!(again[key], *count, "{key} was in the journal, and was asked for again");
        }
        known = steps;
    }
    server.abort();
    let (steps, all, ended) = journal(&folder);
    assert_eq!((all, ended), ((runs * jobs) as u64, (runs * jobs) as u64));
    let effects = effects.lock().unwrap();
    let asked = steps.iter().filter(|key| effects.contains_key(*key)).count();
    assert_eq!((asked, effects.len()), (runs * jobs * 15, runs * jobs * 15), "one effect for each step");
    printed.push(out);
    for out in printed {
        for (n, line) in out.lines().enumerate() {
            let document: Value = serde_json::from_str(line).unwrap();
            assert_eq!((&document["status"], &document["final_output"]), (&"COMPLETED".into(), &n.into()), "{line}");
        }
    }
    let repeated: u64 = effects.values().map(|n| n - 1).sum();
    eprintln!(
        "{killed} kills {at:?}, {jobs} jobs of {runs} runs: {} effects, {repeated} requests repeated",
        effects.len()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_run_is_lost_and_no_step_in_the_journal_is_done_again() {
    let said = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    torture(said("BOURN_RUNS").unwrap_or(300), said("BOURN_KILLS").unwrap_or(36), 7).await;
}
