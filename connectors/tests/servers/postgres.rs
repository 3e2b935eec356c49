//! PostgreSQL: its server crashed, its network cut, its jobs killed.

mod bad_input;
mod epochs;
mod letters;
mod reach;

use std::time::Duration;

use bourn_connectors::generate::Generate;
use bourn_connectors::memory::Memory;
use bourn_connectors::postgres::{Mode, Postgres};
use bourn_engine::api::{BoxSource, ConnectContext, Connector, Source, SourceContext};
use bourn_engine::data::json::row_value;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::rows;
use bourn_engine::testing::conformance::{Target, sink, source};
use bourn_engine::testing::harness::rows::batch;
use bourn_engine::{Error, Result};
use serde_json::{Value, json};
use tokio_postgres::Client;

use crate::support::gate::Gate;
use crate::support::job::{Doomed, numbers, start, until};
use crate::support::postgres::Postgres as Server;
use crate::support::proxy::{Network, Proxy};

const ROWS: i64 = 300_000;

fn connect() -> ConnectContext {
    ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 }
}

fn table(server: &Server, table: &str) -> Postgres {
    Postgres::new(Server::url(server.server.address()), table)
}

fn upserted(table: Postgres) -> Postgres {
    Postgres { mode: Mode::Upsert, key: vec!["n".into()], create: true, ..table }
}

async fn open(postgres: &Postgres) -> Result<BoxSource> {
    let schema = postgres.schema(&connect()).await.map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
    let splits = postgres.splits(&connect()).await?.into_iter().map(|s| (s, None)).collect();
    postgres.source(SourceContext { env: Env::system(), id: "it".into(), splits, schema }).await
}

/// The rows of a table that may not be there, and the reasons of those that were rejected.
async fn read_all(postgres: &Postgres) -> Result<(Vec<Value>, Vec<String>)> {
    let mut source = open(postgres).await?;
    let (mut rows, mut reasons) = (Vec::new(), Vec::new());
    while let Some(chunk) = source.read().await? {
        for row in 0..chunk.records.num_rows() {
            rows.push(Value::Object(row_value(&chunk.records, row)?));
        }
        reasons.extend(chunk.rejected.iter().map(|r| r.error.to_string()));
    }
    Ok((rows, reasons))
}

async fn figures(client: &Client) -> (i64, i64) {
    let Ok(row) = client.query_one("select count(*), count(distinct n) from t", &[]).await else { return (0, 0) };
    (row.get(0), row.get(1))
}

fn counted(target: Postgres, every: Duration) -> Graph {
    let mut graph = Graph::new("it");
    graph.source("numbers", Generate::rows(ROWS.unsigned_abs()));
    graph.sink("table", target);
    graph.options.epoch_every = Some(every);
    graph
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_sources() {
    let server = Server::start().await;
    let client = server.client().await;
    let rows = "select i as id, 'row ' || i as name, i / 2.0 as half from generate_series(1, 20000) i";
    client.batch_execute(&format!("create table t as {rows}; alter table t add primary key (id)")).await.unwrap();
    let env = Env::system();
    source(table(&server, "t")).rows(20_000).check(&env).await;
    let query = Some("select half::numeric(10,1), name from t where id > 10000 -- the later half".to_owned());
    let query = Postgres { table: None, query, cursor: Some("half".into()), ..table(&server, "t") };
    source(query).rows(10_000).check(&env).await;
    let every = Some("1s".parse().unwrap());
    source(Postgres { every, ..table(&server, "t") }).rows(20_000).chunks(2).check(&env).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_are_sinks() {
    let server = Server::start().await;
    let target = |n: usize| {
        let table = Postgres { create: true, ..table(&server, &format!("t{n}")) };
        // The sample has a null in every column: it is read back by the place of a row.
        let query = Some(format!("select *, ctid::text as place from t{n}"));
        let read = Postgres { table: None, query, cursor: Some("place".into()), ..table.clone() };
        Target::new(table).read_back(move || {
            let read = read.clone();
            async move {
                let Ok((mut rows, _)) = read_all(&read).await else { return Ok(Vec::new()) };
                for row in &mut rows {
                    row.as_object_mut().unwrap().shift_remove("place");
                }
                Ok(rows)
            }
        })
    };
    Box::pin(sink(target).check(&Env::system())).await;
    let upserts = |n: usize| {
        let table = upserted(table(&server, &format!("u{n}")));
        let read = table.clone();
        Target::new(table).read_back(move || {
            let read = read.clone();
            async move { Ok(read_all(&read).await.map(|(rows, _)| rows).unwrap_or_default()) }
        })
    };
    let sample: Vec<_> = (0..8).map(|n| json!({"n": n, "name": format!("n{n}")})).collect();
    Box::pin(sink(upserts).rows(batch(&sample)).check(&Env::system())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_come_as_they_are_and_values_without_a_place_are_rejected_alone() {
    let server = Server::start().await;
    let client = server.client().await;
    let table_of_all = "create type mood as enum ('good', 'bad');
        create domain short as varchar(5);
        create table t (id int primary key, b bool, i2 smallint, f4 real, t text, c char(3), m mood, s short, raw bytea,
          d date, tm time, ts timestamp, tz timestamptz, price numeric(8,2), any_number numeric, j json, jb jsonb, u uuid,
          list int[], texts text[]);
        insert into t values
          (1, true, -2, 1.5, 'ü', 'ab', 'bad', 'xy', '\\x00ff', '2015-07-15', '12:34:56.5', '2015-07-15 12:00:00.25',
           '2015-07-15 14:00:00+02', -12.50, 12345678901234567890123456789012345678901234567890.5, '{\"a\": 1}', '[1, 2]',
           'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,null,3}', '{\"a\",\"b,c\"}'),
          (2, null, null, 'NaN', null, null, null, null, null, null, null, null, null, null, 'NaN', null, null, null, null, '{}');
        insert into t (id, d) values (3, 'infinity');
        insert into t (id, tz) values (4, '-infinity');
        insert into t (id, price) values (5, 'NaN');
        insert into t (id, list) values (6, '{{1,2},{3,4}}')";
    client.batch_execute(table_of_all).await.unwrap();
    let (rows, reasons) = read_all(&table(&server, "t")).await.unwrap();
    assert_eq!(rows.len(), 2);
    let shown = |name: &str| rows[0][name].clone();
    let number = "12345678901234567890123456789012345678901234567890.5";
    for (name, value) in [
        ("b", json!(true)),
        ("i2", json!(-2)),
        ("f4", json!(1.5)),
        ("t", json!("ü")),
        ("c", json!("ab ")),
        ("m", json!("bad")),
        ("s", json!("xy")),
        ("raw", json!("00ff")),
        ("d", json!("2015-07-15")),
        ("tm", json!("12:34:56.500")),
        ("ts", json!("2015-07-15T12:00:00.250")),
        ("tz", json!("2015-07-15T12:00:00Z")),
        ("any_number", json!(number)),
        ("j", json!({"a": 1})),
        ("jb", json!([1, 2])),
        ("u", json!("a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11")),
        ("list", json!([1, null, 3])),
        ("texts", json!(["a", "b,c"])),
    ] {
        assert_eq!(shown(name), value, "{name}");
    }
    let price = shown("price");
    assert_eq!(price.as_f64().or_else(|| price.as_str()?.parse().ok()), Some(-12.5));
    assert_eq!((&rows[1]["any_number"], &rows[1]["texts"], &rows[1]["d"]), (&json!("NaN"), &json!([]), &Value::Null));
    let expected = [
        "field `d`: an infinite date",
        "field `tz`: an infinite timestamp",
        "field `price`: NaN does not fit decimal(8,2)",
        "field `list`: an array of 2 dimensions; lists have one",
    ];
    assert_eq!(reasons, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_read_is_written_as_it_was() {
    let server = Server::start().await;
    let client = server.client().await;
    let columns = "id int primary key, raw bytea, d date, tm time, ts timestamp, tz timestamptz, price numeric(8,2),
        big numeric, jb jsonb, u uuid, list int[], texts text[], f8 float8";
    let rows = "(1, '\\x00ff', '0044-03-15 BC', '12:34:56.5', '2015-07-15 12:00:00.25', '2015-07-15 14:00:00+02', -12.50, 1e40,
        '{\"a\": [1]}', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '{1,null,3}', '{\"a\\\"b\\\\c\",\"{d}\"}', 'Infinity'),
        (2, null, null, null, null, null, null, null, null, null, null, null, 'NaN')";
    let tables = format!("create table a ({columns}); create table b ({columns}); insert into a values {rows}");
    client.batch_execute(&tables.replace("0044-03-15 BC", "1444-03-15")).await.unwrap();
    let mut graph = Graph::new("it");
    graph.source("a", table(&server, "a"));
    graph.sink("b", table(&server, "b"));
    start(graph).await.wait().await.unwrap();
    let same = "select count(*) from a full join b using (id) where (a.*) is distinct from (b.*)";
    assert_eq!(client.query_one(same, &[]).await.unwrap().get::<_, i64>(0), 0);
    assert_eq!(client.query_one("select count(*) from b", &[]).await.unwrap().get::<_, i64>(0), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_crashes_loses_no_row_and_an_upsert_has_none_twice() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let job = start(counted(upserted(table(&server, "t")), Duration::from_millis(200))).await;
    until("the first epoch", || async { figures(&client).await.0 > 0 }).await;
    server.crash().await;
    server.server.start_again().await;
    job.wait().await.unwrap();
    let client = server.client().await;
    assert_eq!(figures(&client).await, (ROWS, ROWS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_goes_on_where_it_was_when_its_server_crashes() {
    let mut server = Server::start().await;
    let client = server.client().await;
    let rows = format!("create table t as select i::int8 as n from generate_series(0, {}) i", ROWS - 1);
    client.batch_execute(&format!("{rows}; alter table t add primary key (n)")).await.unwrap();
    let (sink, collected) = Memory::collect();
    let mut graph = Graph::new("it");
    let gate = Gate::new();
    graph.source("table", table(&server, "t"));
    graph.stage("gate", gate.clone());
    graph.sink("rows", sink);
    let job = start(graph).await;
    until("the first rows", || async { collected.count() > 0 }).await;
    server.crash().await;
    server.server.start_again().await;
    gate.open();
    job.wait().await.unwrap();
    assert_eq!(numbers(&collected), (0..ROWS).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_network_that_stalls_and_is_cut_loses_no_row() {
    let server = Server::start().await;
    let client = server.client().await;
    let proxy = Proxy::before(server.server.address()).await;
    let target = Postgres { create: true, ..Postgres::new(Server::url(proxy.address()), "t") };
    let job = start(counted(target, Duration::from_millis(100))).await;
    for network in [Network::Stalls, Network::Cut] {
        let before = figures(&client).await.0;
        until("more rows", || async { figures(&client).await.0 > before }).await;
        proxy.set(network);
        // The server sees that nothing comes; the proxy has passed what was under way.
        client.simple_query("select pg_sleep(0.2)").await.unwrap();
        proxy.set(Network::Open);
    }
    job.wait().await.unwrap();
    let (rows, distinct) = figures(&client).await;
    assert_eq!(distinct, ROWS);
    assert!(rows >= ROWS, "at least once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_leaves_whole_epochs_and_starts_anew_without_a_second_row() {
    let server = Server::start().await;
    let client = server.client().await;
    let every = Duration::from_millis(50);
    let doomed = Doomed::start(counted(upserted(table(&server, "t")), every));
    until("the first epoch", || async { figures(&client).await.0 > 0 }).await;
    assert!(doomed.runs(), "it ended too early to be a test");
    doomed.kill();
    start(counted(upserted(table(&server, "t")), every)).await.wait().await.unwrap();
    assert_eq!(figures(&client).await, (ROWS, ROWS));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_break_a_constraint_are_dead_letters_and_the_others_are_there() {
    let server = Server::start().await;
    let client = server.client().await;
    let table_of = "create table p (id bigint primary key);
        insert into p values (1), (2);
        create table t (n bigint check (n <> 7), price numeric(6,2), name varchar(3),
          parent bigint references p deferrable initially deferred, unique (n))";
    client.batch_execute(table_of).await.unwrap();
    let given = rows![
        {"n": 1, "price": 1.5, "name": "a", "parent": 1},
        {"n": 7, "price": 1.5, "name": "chk", "parent": 1},
        {"n": 2, "price": 1e9, "name": "b", "parent": 1},
        {"n": 3, "price": 1.5, "name": "long", "parent": 1},
        {"n": 4, "price": 1.5, "name": "nul", "parent": 9},
        {"n": 5, "price": 1.5, "name": "\u{0}", "parent": 2},
        {"n": 1, "price": 1.5, "name": "c", "parent": 2},
        {"n": 6, "price": 2.5, "name": "d", "parent": 2}
    ];
    let (dead, letters) = Memory::collect();
    let mut graph = Graph::new("it");
    graph.source("rows", Memory::rows([given]));
    graph.sink("table", table(&server, "t"));
    graph.dead_letters("dead", dead);
    start(graph).await.wait().await.unwrap();
    let found = client.query("select n from t order by n", &[]).await.unwrap();
    assert_eq!(found.iter().map(|r| r.get::<_, i64>(0)).collect::<Vec<_>>(), [1, 6]);
    let reasons: Vec<_> = letters.rows().unwrap().iter().map(|l| l["reason"].as_str().unwrap().to_owned()).collect();
    for part in [
        "check constraint",
        "numeric field overflow",
        "value too long for type character varying(3)",
        "violates foreign key constraint",
        "invalid byte sequence",
        "duplicate key value violates unique constraint",
    ] {
        assert!(reasons.iter().any(|r| r.contains(part)), "{part}: {reasons:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upsert_takes_the_last_of_rows_with_one_key_and_no_row_without() {
    let server = Server::start().await;
    let client = server.client().await;
    let given = rows![{"n": 1, "name": "a"}, {"n": 1, "name": "c"}, {"n": 2, "name": "b"}, {"n": null, "name": "d"}];
    let (dead, letters) = Memory::collect();
    let mut graph = Graph::new("it");
    graph.source("rows", Memory::rows([given]));
    graph.sink("table", upserted(table(&server, "\"odd \"\"name\"")));
    graph.dead_letters("dead", dead);
    start(graph).await.wait().await.unwrap();
    let found = client.query("select name from \"odd \"\"name\" order by n", &[]).await.unwrap();
    assert_eq!(found.iter().map(|r| r.get::<_, String>(0)).collect::<Vec<_>>(), ["c", "b"]);
    assert_eq!(letters.rows().unwrap()[0]["reason"], "a null in a column of `key`");
}
