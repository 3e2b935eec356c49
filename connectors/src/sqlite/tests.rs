//! Tables that hold what they like, and files that are not what they should be.

mod epochs;

use std::path::Path;

use bourn_engine::api::output::RejectedRow;
use bourn_engine::api::{BoxSource, Sink, Source};
use bourn_engine::error::Retry;
use rusqlite::Connection;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::testing::{
    batch_of, connect, faults, open, open_as, read_all, read_file, rows, sink_for, write_all, write_file,
};

fn database(folder: &TempDir, sql: &str) -> (Connection, String) {
    let path = folder.path().join("it.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    (connection, path.to_string_lossy().into_owned())
}

fn stored(path: &str, sql: &str) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let mut statement = connection.prepare(sql).unwrap();
    let rows = statement.query_map([], |row| row.get::<_, rusqlite::types::Value>(0)).unwrap();
    rows.map(|v| format!("{:?}", v.unwrap())).collect()
}

async fn problem(sqlite: &Sqlite) -> Problem {
    sqlite.schema(&connect()).await.unwrap_err().0.remove(0)
}

#[tokio::test]
async fn columns_have_their_declared_types_as_far_as_the_rows_fit_them() {
    let folder = TempDir::new().unwrap();
    let (_held, path) = database(
        &folder,
        "create table t (id integer primary key, ok boolean, day date, at datetime, unix datetime, price decimal(8,2),
           note text, doc json, raw blob, loose);
         insert into t values (1, 1, '2015-07-15', '2015-07-15 12:00:00.5', 1436961600, 12.5, 'ü', '{\"a\":[1]}', x'00ff', 1);
         insert into t values (2, null, null, '2015-07-15T14:00:00+02:00', 5, '-0.25', null, null, null, 'x');",
    );
    let read = read_all(&Sqlite::new(path, "t")).await.unwrap();
    let expected = [
        json!({"id": 1, "ok": true, "day": "2015-07-15", "at": "2015-07-15T12:00:00.500", "unix": 1_436_961_600,
            "price": 12.5, "note": "ü", "doc": {"a": [1]}, "raw": "00ff", "loose": "1"}),
        json!({"id": 2, "ok": null, "day": null, "at": "2015-07-15T12:00:00", "unix": 5,
            "price": -0.25, "note": null, "doc": null, "raw": null, "loose": "x"}),
    ];
    let mut found = rows(&read);
    for row in &mut found {
        // Decimals are shown as text or number by the version of arrow-json; their value is what counts.
        let price = row["price"].as_f64().or_else(|| row["price"].as_str().and_then(|p| p.parse().ok()));
        row["price"] = json!(price);
    }
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_later_row_that_does_not_fit_is_rejected_alone() {
    let folder = TempDir::new().unwrap();
    let (connection, path) = database(&folder, "create table t (id integer primary key, n integer, day date)");
    connection.execute_batch("begin").unwrap();
    let mut insert = connection.prepare("insert into t values (?1, ?2, ?3)").unwrap();
    for id in 0..1_005 {
        match id {
            1_002 => insert.execute((id, "many", "2001-01-01")).unwrap(),
            1_003 => insert.execute((id, 1, "2001-01-01 and more")).unwrap(),
            _ => insert.execute((id, id, "2001-01-01")).unwrap(),
        };
    }
    connection.execute_batch("commit").unwrap();
    let read = read_all(&Sqlite::new(path, "t")).await.unwrap();
    assert_eq!(rows(&read).len(), 1_003);
    let expected =
        ["field `n`: \"many\" does not fit bigint", "field `day`: \"2001-01-01 and more\" does not fit date"];
    assert_eq!(faults(&read), expected);
    let RejectedRow::Text(text) = &read[0].rejected[0].row else { panic!("it has no columns") };
    assert_eq!(serde_json::from_str::<Value>(text).unwrap(), json!({"id": 1002, "n": "many", "day": "2001-01-01"}));
}

#[tokio::test]
async fn rows_with_one_cursor_value_stay_together_and_none_is_skipped() {
    let folder = TempDir::new().unwrap();
    let (connection, path) = database(&folder, "create table t (id integer primary key, day text collate nocase)");
    connection.execute_batch("begin").unwrap();
    let mut insert = connection.prepare("insert into t values (?1, ?2)").unwrap();
    for id in 0..30_000 {
        // A page of 8,192 rows ends among equals; `A` and `a` are equal to the column's own order.
        insert.execute((id, format!("{}{}", if id % 2 == 0 { "A" } else { "a" }, id % 7))).unwrap();
    }
    connection.execute_batch("commit").unwrap();
    let sqlite = Sqlite { cursor: Some("day".into()), ..Sqlite::new(path, "t") };
    let read = read_all(&sqlite).await.unwrap();
    assert!(read.len() > 1, "one page is no test");
    let mut ids: Vec<_> = rows(&read).iter().map(|r| r["id"].as_i64().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..30_000).collect::<Vec<_>>());
    let rest = crate::testing::chunks(open(&sqlite, Some(&read[0].position)).await.unwrap()).await.unwrap();
    assert_eq!(rows(&rest), rows(&read[1..]));
}

#[tokio::test]
async fn what_can_not_be_planned_is_told_with_the_way_out() {
    let folder = TempDir::new().unwrap();
    let (_held, path) =
        database(&folder, "create table t (id integer primary key, n integer); insert into t values (1, null)");
    let missing = Sqlite::new(folder.path().join("none.db").to_string_lossy(), "t");
    assert!(problem(&missing).await.message.contains("there is no file"));
    let table = Sqlite::new(&path, "u");
    assert!(problem(&table).await.message.contains("no such table: u"));
    let query = Sqlite { table: None, query: Some("select * from t".into()), ..Sqlite::new(&path, "t") };
    assert!(problem(&query).await.message.contains("a query needs `cursor`"));
    let cursor = |c: &str| Sqlite { cursor: Some(c.into()), ..Sqlite::new(&path, "t") };
    assert_eq!(problem(&cursor("ident")).await.message, "there is no column `ident`");
    assert!(problem(&cursor("n")).await.message.contains("`n` has nulls"));
    let both = Sqlite { query: Some("select 1".into()), ..Sqlite::new(&path, "t") };
    assert!(problem(&both).await.message.contains("two ways to say the same"));
    let other = folder.path().join("other.db");
    write_file(&other, &b"no database at all, and long enough to be looked at as one".repeat(20));
    let other = problem(&Sqlite::new(other.to_string_lossy(), "t")).await.message;
    assert!(other.contains("file is not a database"), "{other}");
}

async fn read(source: &mut BoxSource) -> Result<Vec<Value>> {
    Ok(source.read().await?.map(|c| rows(&[c])).unwrap_or_default())
}

#[tokio::test]
async fn a_table_that_changes_after_planning_ends_the_source_with_the_column() {
    let folder = TempDir::new().unwrap();
    let (connection, path) = database(
        &folder,
        "create table t (id integer primary key, n integer, m integer); insert into t values (1, 2, 3)",
    );
    let sqlite = Sqlite::new(&path, "t");
    let schema = sqlite.schema(&connect()).await.unwrap();
    // A column that comes is not read; one that goes ends the job, and is never taken for a text.
    connection.execute_batch("alter table t add column o text").unwrap();
    let mut source = open_as(&sqlite, schema.clone(), None).await.unwrap();
    assert_eq!(read(&mut source).await.unwrap(), [json!({"id": 1, "n": 2, "m": 3})]);
    connection.execute_batch("alter table t drop column n; insert into t (id) values (2)").unwrap();
    let error = read(&mut source).await.unwrap_err();
    assert!(error.message().contains("no such column: q.n"), "{error}");
    assert_eq!(error.retry(), Retry::Never);
}

#[tokio::test]
async fn a_file_that_vanishes_is_no_empty_table() {
    let folder = TempDir::new().unwrap();
    let (_, path) = database(&folder, "create table t (id integer primary key); insert into t values (1)");
    let sqlite = Sqlite::new(&path, "t");
    let schema = sqlite.schema(&connect()).await.unwrap();
    connect().env.files().remove(Path::new(&path)).unwrap();
    let Err(error) = open_as(&sqlite, schema, None).await else { panic!("it was opened") };
    assert_eq!(error.kind(), bourn_engine::Kind::NotFound);
}

#[tokio::test]
async fn a_row_that_breaks_a_constraint_is_rejected_alone() {
    let folder = TempDir::new().unwrap();
    let sql = "create table t (id integer primary key, n integer not null check (n < 10)); insert into t values (1, 1)";
    let (_held, path) = database(&folder, sql);
    let mut sink = sink_for(&Sqlite::new(&path, "t"), batch_of(&[json!({"id": 1, "n": 1})]).schema()).await.unwrap();
    let given = [
        json!({"id": 1, "n": 2}),
        json!({"id": 2, "n": 2}),
        json!({"id": 3, "n": null}),
        json!({"id": 4, "n": 11}),
        json!({"id": 5, "n": 5}),
    ];
    let written = sink.write(&batch_of(&given)).await.unwrap();
    let told: Vec<_> = written.rejected.iter().map(|r| r.error.to_string()).collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[0].contains("row 0") && told[0].contains("UNIQUE constraint failed: t.id"), "{told:?}");
    assert!(told[1].contains("NOT NULL constraint failed: t.n"), "{told:?}");
    assert!(told[2].contains("CHECK constraint failed"), "{told:?}");
    // Nothing is seen before its epoch ends.
    assert_eq!(stored(&path, "select id from t"), ["Integer(1)"]);
    sink.prepare(1).await.unwrap();
    assert_eq!(stored(&path, "select id from t order by id"), ["Integer(1)", "Integer(2)", "Integer(5)"]);
}

#[tokio::test]
async fn an_upsert_replaces_and_repeats_without_a_trace() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("new.db").to_string_lossy().into_owned();
    let sqlite =
        Sqlite { mode: Mode::Upsert, key: vec!["id".into()], create: true, ..Sqlite::new(&path, "\"odd \"\"name\"") };
    let first = batch_of(&[json!({"id": 1, "n": "a"}), json!({"id": 2, "n": "b"}), json!({"id": 1, "n": "c"})]);
    write_all(&sqlite, &[first.clone(), first]).await.unwrap();
    assert_eq!(stored(&path, "select n from \"odd \"\"name\" order by id"), ["Text(\"c\")", "Text(\"b\")"]);
}

#[tokio::test]
async fn a_row_without_its_key_is_rejected_by_an_upsert() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("k.db").to_string_lossy().into_owned();
    let sqlite = Sqlite { mode: Mode::Upsert, key: vec!["id".into()], create: true, ..Sqlite::new(&path, "t") };
    let given = batch_of(&[json!({"id": 1, "n": "a"}), json!({"id": null, "n": "b"})]);
    let mut sink = sink_for(&sqlite, given.schema()).await.unwrap();
    let told: Vec<_> = sink.write(&given).await.unwrap().rejected.iter().map(|r| r.error.to_string()).collect();
    assert_eq!(told, ["row 1, field `id`: is null, and `key` needs it to tell rows apart"]);
    sink.prepare(1).await.unwrap();
    assert_eq!(stored(&path, "select id from t"), ["Integer(1)"]);
}

#[tokio::test]
async fn numbers_that_sqlite_would_change_are_rejected() {
    use arrow::array::{ArrayRef, Float64Array, UInt64Array};
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("n.db").to_string_lossy().into_owned();
    let floats: ArrayRef = std::sync::Arc::new(Float64Array::from(vec![f64::NAN, f64::INFINITY, 1e300, 0.5]));
    let large: ArrayRef = std::sync::Arc::new(UInt64Array::from(vec![1, 2, u64::MAX, 4]));
    let batch = arrow::record_batch::RecordBatch::try_from_iter([("x", floats), ("n", large)]).unwrap();
    let sqlite = Sqlite { create: true, ..Sqlite::new(&path, "t") };
    let mut sink = sink_for(&sqlite, batch.schema()).await.unwrap();
    let told: Vec<_> = sink.write(&batch).await.unwrap().rejected.iter().map(|r| r.error.to_string()).collect();
    assert_eq!(
        told,
        [
            "row 0, field `x`: NaN, which SQLite would keep as null",
            "row 2, field `n`: a bigint unsigned beyond what SQLite holds"
        ]
    );
    sink.prepare(1).await.unwrap();
    assert_eq!(stored(&path, "select x from t"), ["Real(inf)", "Real(0.5)"]);
}

#[tokio::test]
async fn a_locked_file_is_a_transient_error_and_the_rows_come_once() {
    let folder = TempDir::new().unwrap();
    let (connection, path) = database(&folder, "create table t (id integer)");
    connection.execute_batch("begin immediate").unwrap();
    let rows = batch_of(&[json!({"id": 1})]);
    let mut sink = sink_for(&Sqlite::new(&path, "t"), rows.schema()).await.unwrap();
    let error = sink.write(&rows).await.unwrap_err();
    assert_eq!(error.retry(), Retry::Soon);
    assert!(error.message().contains("locked by another program"), "{error}");
    connection.execute_batch("commit").unwrap();
    sink.write(&rows).await.unwrap();
    // A reader holds up the end of a transaction; it ends when the reader has gone.
    connection.execute_batch("begin; select * from t").unwrap();
    let reader = async {
        tokio::task::yield_now().await;
        connection.execute_batch("commit").unwrap();
    };
    let (prepared, ()) = tokio::join!(sink.prepare(1), reader);
    prepared.unwrap();
    assert_eq!(stored(&path, "select id from t"), ["Integer(1)"]);
}

#[tokio::test]
async fn a_sink_that_can_not_write_is_a_problem_before_the_job() {
    let folder = TempDir::new().unwrap();
    let (_held, path) = database(&folder, "create table t (id integer primary key, n integer)");
    let told = async |sqlite: Sqlite, row: Value| {
        let schema = batch_of(&[row]).schema();
        sqlite.check_sink(&schema, &connect()).await.unwrap_err().0.remove(0).message
    };
    assert_eq!(told(Sqlite::new(&path, "u"), json!({"id": 1})).await, "there is no table \"u\"");
    let column = told(Sqlite::new(&path, "t"), json!({"id": 1, "m": 1})).await;
    assert!(column.contains("no column named m"), "{column}");
    let key = Sqlite { mode: Mode::Upsert, key: vec!["n".into()], ..Sqlite::new(&path, "t") };
    let key = told(key, json!({"id": 1, "n": 1})).await;
    assert!(key.contains("does not match any PRIMARY KEY or UNIQUE constraint"), "{key}");
    let gone = Sqlite::new(folder.path().join("none.db").to_string_lossy(), "t");
    assert!(told(gone, json!({"id": 1})).await.contains("there is no file"));
}
