//! Whole jobs from and into SQLite files.

use std::time::Duration;

use bourn_connectors::file::File;
use bourn_connectors::generate::Generate;
use bourn_connectors::memory::Memory;
use bourn_connectors::sqlite::{Mode, Sqlite};
use bourn_engine::api::{Checkpointing, Checkpoints};
use bourn_engine::env::Env;
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

fn highest(path: &str) -> i64 {
    Connection::open(path).unwrap().query_row("select max(n) from t", [], |r| r.get(0)).unwrap()
}

fn counted(target: Sqlite, rows: Option<i64>) -> Graph {
    let mut graph = Graph::new("it");
    graph.source("numbers", Generate { rows: rows.map(i64::unsigned_abs), ..Generate::default() });
    graph.sink("table", target);
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_leaves_whole_epochs_and_starts_anew_without_a_second_row() {
    let folder = TempDir::new().unwrap();
    let key = vec!["n".to_owned()];
    let table = Sqlite { mode: Mode::Upsert, key, create: true, ..Sqlite::new(path(&folder), "t") };
    // It has no end of its own, so no kill comes too late.
    let mut endless = counted(table.clone(), None);
    endless.options.epoch_every = Some(Duration::from_millis(50));
    let doomed = Doomed::start(endless);
    until("the first epoch", || async { figures(&table.path).is_some_and(|(rows, _)| rows > 0) }).await;
    assert!(doomed.cut().await);
    let (left, _) = figures(&table.path).unwrap();
    assert_eq!(highest(&table.path), left - 1);
    start(counted(table.clone(), Some(ROWS))).await.wait().await.unwrap();
    assert_eq!(figures(&table.path), Some((ROWS.max(left), ROWS.max(left))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_waits_for_a_file_that_another_program_has_locked() {
    let folder = TempDir::new().unwrap();
    let table = Sqlite { create: true, ..Sqlite::new(path(&folder), "t") };
    let other = Connection::open(&table.path).unwrap();
    other.execute_batch("create table t (n integer)").unwrap();
    other.execute_batch("begin immediate").unwrap();
    let job = start(counted(table.clone(), Some(ROWS))).await;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_cut_off_again_and_again_ends_with_the_table_of_a_calm_one() {
    let folder = TempDir::new().unwrap();
    let lines: Vec<_> = (0..ROWS).map(|n| format!("{n},row {n}")).collect();
    let input = folder.path().join("in.csv");
    let mut file = Env::system().files().create(&input).unwrap();
    std::io::Write::write_all(&mut file, format!("n,name\n{}\n", lines.join("\n")).as_bytes()).unwrap();
    let table = Sqlite { create: true, ..Sqlite::new(path(&folder), "t") };
    let graph = |id: &str, table: &Sqlite| {
        let mut graph = Graph::new(id);
        graph.source("rows", File::new(input.to_string_lossy()));
        graph.sink("table", table.clone());
        graph.options.epoch_every = Some(Duration::from_millis(10));
        graph.options.edge_rows = Some(1_000);
        graph.options.checkpoints = Checkpointing::On(Checkpoints::in_folder(folder.path().join("checkpoints")));
        graph
    };
    let rows = |table: &Sqlite| figures(&table.path).map_or(0, |(rows, _)| rows);
    let (mut cuts, mut ended) = (0, false);
    for wait in [0, 41, 2, 63, 1, 85, 8, 107].repeat(2) {
        let before = rows(&table);
        // What has ended begins anew.
        if before > ROWS / 2 {
            break;
        }
        let doomed = Doomed::start(graph("it", &table));
        if wait % 2 == 0 {
            until("more rows", || async { !doomed.runs() || rows(&table) > before }).await;
        }
        Env::system().sleep(Duration::from_millis(wait)).await;
        ended = !doomed.cut().await;
        cuts += u32::from(!ended);
    }
    if !ended {
        start(graph("it", &table)).await.wait().await.unwrap();
    }
    assert!(cuts > 4, "it was cut off {cuts} times");
    let calm = Sqlite { path: folder.path().join("calm.db").to_string_lossy().into_owned(), ..table.clone() };
    start(graph("calm", &calm)).await.wait().await.unwrap();
    let content = |table: &Sqlite| -> Vec<(i64, i64, String)> {
        let connection = Connection::open(&table.path).unwrap();
        let mut statement = connection.prepare("select rowid, n, name from t order by rowid").unwrap();
        let rows = statement.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).unwrap();
        rows.map(Result::unwrap).collect()
    };
    assert!(content(&table) == content(&calm), "{:?}", figures(&table.path));
    assert_eq!(figures(&table.path), Some((ROWS, ROWS)));
}
