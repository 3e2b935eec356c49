//! Runs that are canceled in the moment in which they complete, by another process: each ends once, and as its document says.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use bourn_engine::env::Env;
use bourn_engine::journal::{Ask, RunState};
use bourn_journal::{Filter, Run, Sqlite};
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::task::JoinSet;

const SPEC: &str = "\
name: races
steps:
  - { id: first, command: set, args: '${input}' }
  - { id: held, wait: { duration: 300ms }, needs: first }
  - { id: last, command: set, args: '${input}', needs: held }
";

/// Counts every end that a run comes to, whoever writes it.
const COUNT: &str = "\
CREATE TABLE ends (run INTEGER, status TEXT);
CREATE TRIGGER count_ends AFTER UPDATE ON runs WHEN NEW.ended IS NOT NULL
BEGIN INSERT INTO ends VALUES (NEW.run, NEW.status); END;";

fn runs(journal: &Sqlite, limit: usize) -> Vec<Run> {
    journal.runs(&Filter { limit, ..Filter::default() }).unwrap()
}

/// Cancels the runs of a wave about when they complete: so long after their beginning, give or take a third. How many were asked in time,
/// and how many were canceled.
async fn cancel(journal: &Sqlite, known: &mut HashSet<String>, wave: usize, after: Duration) -> (usize, usize) {
    let mut asking = JoinSet::new();
    let mut asked = HashSet::new();
    let ended = loop {
        let newest = runs(journal, wave);
        let of_wave: Vec<Run> = newest.into_iter().filter(|run| !known.contains(&run.id)).collect();
        for run in &of_wave {
            if run.status.has_ended() || !asked.insert(run.id.clone()) {
                continue;
            }
            let age = Duration::from_micros(u64::try_from(Env::system().wall().0 - run.started.0).unwrap_or(0));
            let part = u32::from(run.id.as_bytes()[run.id.len() - 1] % 16) * 16 + u32::from(run.id.as_bytes()[0] % 16);
            let left = (after * 2 / 3 + after * 2 / 3 * part / 256).saturating_sub(age);
            let (journal, run) = (journal.clone(), run.clone());
            asking.spawn(async move {
                tokio::time::sleep(left).await;
                journal.ask(&run, Ask::Cancel).await.is_ok()
            });
        }
        if of_wave.len() == wave && of_wave.iter().all(|run| run.status.has_ended()) {
            break of_wave;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let in_time = asking.join_all().await.into_iter().filter(|in_time| *in_time).count();
    let canceled = ended.iter().filter(|run| run.status == RunState::Canceled).count();
    known.extend(ended.into_iter().map(|run| run.id));
    (in_time, canceled)
}

/// How each run ended, and how often.
fn ends(path: &Path) -> HashMap<String, (String, i64)> {
    let db = Connection::open(path).unwrap();
    let query = "SELECT id, runs.status, count(ends.run) FROM runs LEFT JOIN ends USING (run) GROUP BY run";
    let mut query = db.prepare(query).unwrap();
    let rows = query.query_map((), |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?)))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_is_canceled_while_it_completes_ends_once_and_as_its_document_says() {
    let races: usize = std::env::var("BOURN_RACES").ok().and_then(|n| n.parse().ok()).unwrap_or(500);
    let wave = (races / 20).max(50);
    let folder = TempDir::new().unwrap();
    let path = folder.path().join(".bourn/journal.db");
    let journal = Sqlite::open(&path, &Env::system()).unwrap();
    Connection::open(&path).unwrap().execute_batch(COUNT).unwrap();
    std::fs::write(folder.path().join("w.yaml"), SPEC).unwrap();
    let out = folder.path().join("out.jsonl");
    let begin = Instant::now();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
    command.args(["run", "w.yaml", "--inputs", "-", "-q"]).current_dir(folder.path()).stdin(Stdio::piped());
    let mut child = command.stdout(std::fs::File::create(&out).unwrap()).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = child.stdin.take().unwrap();
    let (mut known, mut asked_in_time, mut after) = (HashSet::new(), 0, Duration::from_millis(400));
    while known.len() < races {
        let size = wave.min(races - known.len());
        let text = (0..size).map(|n| n.to_string()).collect::<Vec<_>>().join("\n") + "\n";
        lines.write_all(text.as_bytes()).await.unwrap();
        let (in_time, canceled) = cancel(&journal, &mut known, size, after).await;
        asked_in_time += in_time;
        // However slow this machine is now, the next wave is asked closer to its end.
        after = after.mul_f64(0.6 + 0.8 * canceled as f64 / size as f64);
    }
    drop(lines);
    assert_eq!(child.wait().await.unwrap().code(), Some(1), "runs that were canceled did not complete");
    let (took, ends) = (begin.elapsed(), ends(&path));
    let documents = std::fs::read_to_string(&out).unwrap();
    assert_eq!((ends.len(), documents.lines().count()), (races, races));
    let mut sums: HashMap<String, usize> = HashMap::new();
    for line in documents.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let (status, times) = &ends[document["run_id"].as_str().unwrap()];
        assert_eq!((document["status"].as_str().unwrap(), *times), (status.as_str(), 1), "{line}");
        *sums.entry(status.clone()).or_default() += 1;
    }
    eprintln!("{races} races: {asked_in_time} were asked before the end was in the journal; {sums:?}; {took:.1?}");
    // Both sides have won, and no other.
    assert!(sums.len() == 2 && sums.values().all(|won| *won > races / 20), "{sums:?}");
}
