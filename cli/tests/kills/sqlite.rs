//! A query of SQLite into a table of another file: an epoch is there as a whole, and a second run mends what is missing.

use std::path::Path;

use rusqlite::Connection;

use crate::support::{Folder, until};

const ROWS: i64 = 90_000;
const SPEC: &str = "\
source:
  sqlite: { path: from.db, query: 'select id, name, id * 2 as twice from t where id % 3 <> 0', cursor: id }
stages:
  - throttle: { rate: 100000/s }
sink:
  sqlite: { path: to.db, table: t, mode: upsert, key: [id], create: true }
checkpoint: { every: 20ms }
";

type Row = (i64, String, i64);

/// The sink's file, if it is there.
fn open(path: &Path) -> Option<Connection> {
    Connection::open_with_flags(path, rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE).ok()
}

/// How many rows the sink's table has, as far as that can be told now.
fn count(path: &Path) -> usize {
    let count: Option<i64> = open(path).and_then(|c| c.query_row("select count(*) from t", [], |r| r.get(0)).ok());
    count.map_or(0, |count| usize::try_from(count).unwrap())
}

/// The rows of the sink's table.
fn rows(path: &Path) -> Option<Vec<Row>> {
    let connection = open(path)?;
    let mut query = connection.prepare("select id, name, twice from t order by id").ok()?;
    let rows = query.query_map([], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?))).ok()?;
    rows.collect::<Result<_, _>>().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_and_run_again_makes_the_table_of_a_calm_run() {
    let folder = Folder::new();
    let connection = Connection::open(folder.path("from.db")).unwrap();
    let numbers = format!("with recursive n(i) as (select 1 union all select i + 1 from n where i < {ROWS})");
    let table = "create table t (id integer primary key, name text);";
    connection.execute_batch(&format!("{table} insert into t {numbers} select i, 'row ' || i from n")).unwrap();
    folder.start(SPEC).wait();
    let calm = rows(&folder.path("to.db")).unwrap();
    assert_eq!(calm.len(), 60_000);
    std::fs::remove_file(folder.path("to.db")).unwrap();

    let mut before = 0;
    // It has no end of its own, so no kill comes too late, and on most machines each comes before the last row.
    let endless = SPEC.replace("cursor: id }", "cursor: id, every: 10ms }");
    for _ in 0..3 {
        let job = folder.start(&endless);
        let written = || count(&folder.path("to.db"));
        until("more rows", || async { written() > before || before == calm.len() }).await;
        job.kill();
        let left = rows(&folder.path("to.db")).unwrap();
        before = left.len();
        // They come in order, and an epoch comes as a whole.
        assert!(left == calm[..before], "what a crash left is no beginning of the whole");
    }
    folder.start(SPEC).wait();
    assert!(rows(&folder.path("to.db")).unwrap() == calm, "the table is not that of a calm run");
}
