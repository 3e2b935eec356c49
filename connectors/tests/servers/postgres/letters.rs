//! What was written is read back, from a table that needs no key.

use bourn_engine::api::{Sink, SinkContext};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_are_read_back_from_a_table_without_a_key_each_once() {
    let server = Server::start().await;
    let letters = Postgres { create: true, ..table(&server, "letters") };
    let rows: Vec<_> = (0..20_000).map(|n| json!({"n": n % 10_000, "stage": "a"})).collect();
    let rows = batch(&rows);
    let back = letters.read_back(&rows.schema(), &connect()).await.unwrap();
    assert!(back.is_empty(), "there is no table yet");
    let mut sink = letters.sink(SinkContext::new(Env::system(), "it", rows.schema())).await.unwrap();
    for start in (0..20_000).step_by(5_000) {
        sink.write(&rows.slice(start, 5_000)).await.unwrap();
    }
    sink.prepare(1).await.unwrap();
    sink.finish().await.unwrap();
    let back = letters.read_back(&rows.schema(), &connect()).await.unwrap();
    let (mut found, reasons) = read_all(&back[0]).await.unwrap();
    assert_eq!((back.len(), reasons), (1, Vec::<String>::new()));
    found.sort_by_key(|row| row["n"].as_i64());
    let numbers: Vec<_> = found.iter().map(|row| row["n"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (0..20_000).map(|n| n / 2).collect::<Vec<_>>());
}
