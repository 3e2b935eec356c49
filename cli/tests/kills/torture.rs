//! `bourn torture` of what is written to servers: rows of a table, counted, into another table and into objects.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::postgres::Postgres;
use crate::support::Folder;
use crate::weed::{SECRET, Weed};

/// Some pages of the source, and each of them is an epoch.
const ROWS: u64 = 40_000;
const KILLS: usize = 50;

fn spec(postgres: &Postgres, weed: &Weed) -> String {
    let table = format!("url: '{}'", Postgres::url(postgres.server.address()));
    let bucket = format!(
        "options: {{ endpoint: 'http://{}', access_key_id: writer, secret_access_key: '${{secret.KEY}}' }}",
        weed.address
    );
    let run = "${env.BOURN_RUN:-0}";
    format!(
        "\
name: counted
checkpoint: {{ every: 25ms }}
limits: {{ memory: 2MiB }}
source:
  postgres: {{ {table}, query: 'select id, customer from orders', cursor: id }}
stages:
  - throttle: {{ rate: 80000/s }}
  - count: {{ by: [customer], as: visit }}
sinks:
  all: {{ postgres: {{ {table}, table: 'all_{run}', create: true }} }}
  last: {{ postgres: {{ {table}, table: 'last_{run}', mode: upsert, key: [customer], create: true }} }}
  many: {{ object_store: {{ url: 's3://data/{run}/many/{{number}}.jsonl', rotate: {{ rows: 5000 }}, {bucket} }} }}
  one: {{ object_store: {{ url: 's3://data/{run}/rows.parquet', {bucket} }} }}
secrets: {{ KEY: {{ env: BUCKET_SECRET }} }}
"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_counted_into_tables_and_objects_ends_as_that_of_a_calm_run_however_often_it_is_killed() {
    let (postgres, weed, folder) = (Postgres::start().await, Weed::start().await, Folder::new());
    let client = postgres.client().await;
    let orders = format!(
        "create table orders (id bigint primary key, customer bigint);
         insert into orders select n, n % 37 from generate_series(1, {ROWS}) n"
    );
    client.batch_execute(&orders).await.unwrap();
    std::fs::write(folder.path("spec.yaml"), spec(&postgres, &weed)).unwrap();
    let report = tokio::task::block_in_place(|| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bourn"));
        command
            .args(["torture", "spec.yaml", "--kills", &KILLS.to_string(), "-o", "json"])
            .current_dir(folder.path("."));
        command.env("BUCKET_SECRET", SECRET).env_remove("BOURN_LOG");
        let output = command.stdin(Stdio::null()).output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "seed {}: {:#}\n{said}", report["seed"], report["faults"]);
        report
    });
    let rows = |sink: &str| report["sinks"][sink]["rows"].as_u64();
    let all = Some(ROWS);
    assert_eq!((rows("all"), rows("last"), rows("many"), rows("one")), (all, Some(37), all, all));
    assert_eq!(report["kills"].as_array().map(Vec::len), Some(KILLS));
    // Nothing but whole objects is left.
    assert_eq!(weed.uploads().await, 0);
    let left = weed.keys().await;
    assert!(left.iter().all(|key| !key.contains("_bourn/") && !key.contains("/_")), "{left:?}");
}
