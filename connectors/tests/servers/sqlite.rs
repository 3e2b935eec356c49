//! Whole jobs from and into SQLite files.

use bourn_connectors::generate::Generate;
use bourn_connectors::memory::Memory;
use bourn_connectors::sqlite::{Mode, Sqlite};
use bourn_engine::graph::Graph;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::support::job::{Doomed, numbers, start, until};

const ROWS: i64 = 200_000;

fn path(folder: &TempDir) -> String {
    folder.path().join("it.db").to_string_lossy().into_owned()
}

fn figures(path: &str) -> Option<(i64, i64)> {
    let connection = Connection::open(path).unwrap();
    connection.query_row("select count(*), count(distinct n) from t", [], |r| Ok((r.get(0)?, r.get(1)?))).ok()
}

fn counted(target: Sqlite, every: Option<std::time::Duration>) -> Graph {
    let mut graph = Graph::new("it");
    graph.source("numbers", Generate::rows(ROWS.unsigned_abs()));
    graph.sink("table", target);
    graph.options.epoch_every = every;
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_leaves_whole_epochs_and_starts_anew_without_a_second_row() {
    let folder = TempDir::new().unwrap();
    let key = vec!["n".to_owned()];
    let table = Sqlite { mode: Mode::Upsert, key, create: true, ..Sqlite::new(path(&folder), "t") };
    let every = Some(std::time::Duration::from_millis(50));
    let doomed = Doomed::start(counted(table.clone(), every));
    until("the first epoch", || async { figures(&table.path).is_some_and(|(rows, _)| rows > 0) }).await;
    doomed.kill();
    let (rows, _) = figures(&table.path).unwrap();
    assert!(rows < ROWS, "it was killed too late to be a test");
    start(counted(table.clone(), every)).await.wait().await.unwrap();
    assert_eq!(figures(&table.path), Some((ROWS, ROWS)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_waits_for_a_file_that_another_program_has_locked() {
    let folder = TempDir::new().unwrap();
    let table = Sqlite { create: true, ..Sqlite::new(path(&folder), "t") };
    let other = Connection::open(&table.path).unwrap();
    other.execute_batch("create table t (n integer)").unwrap();
    other.execute_batch("begin immediate").unwrap();
    let job = start(counted(table.clone(), None)).await;
    let stats = job.stats().clone();
    let retried =
        || async { stats.stages.iter().any(|s| s.stats.retries.load(std::sync::atomic::Ordering::Relaxed) > 0) };
    until("a second attempt", retried).await;
    other.execute_batch("commit").unwrap();
    job.wait().await.unwrap();
    assert_eq!(figures(&table.path), Some((ROWS, ROWS)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_come_later_are_read_once_and_a_stop_ends_the_job_well() {
    let folder = TempDir::new().unwrap();
    let path = path(&folder);
    let writer = Connection::open(&path).unwrap();
    writer.execute_batch("pragma journal_mode = wal; create table t (id integer primary key, n integer)").unwrap();
    writer.execute_batch("insert into t (n) values (0)").unwrap();
    let (sink, collected) = Memory::collect();
    let mut graph = Graph::new("it");
    graph.source("table", Sqlite { every: Some("10ms".parse().unwrap()), ..Sqlite::new(&path, "t") });
    graph.sink("rows", sink);
    let job = start(graph).await;
    for n in 1..200 {
        writer.execute("insert into t (n) values (?1)", [n]).unwrap();
    }
    until("all rows", || async { collected.count() >= 200 }).await;
    job.stop();
    job.wait().await.unwrap();
    assert_eq!(collected.count(), 200);
    assert_eq!(numbers(&collected), (0..200).collect::<Vec<_>>());
}
