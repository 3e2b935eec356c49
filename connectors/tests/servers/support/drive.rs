//! Sources read and sinks written as the engine does it, and whole jobs.

use std::time::Duration;

use bourn_engine::api::{
    BoxSink, BoxSource, Chunk, ConnectContext, Connector, Registry, Sink, SinkContext, Source, SourceContext,
};
use bourn_engine::data::json::row_value;
use bourn_engine::data::position::Position;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::testing::harness::rows::batch;
use bourn_engine::{Engine, Error, Result};
use serde::de::DeserializeOwned;
use serde_json::Value;

/// How long a test waits for what must happen.
const PATIENCE: Duration = Duration::from_mins(1);

/// The configuration that a spec would give.
pub fn config<C: DeserializeOwned>(config: Value) -> C {
    serde_json::from_value(config).unwrap()
}

fn context() -> ConnectContext {
    ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 }
}

fn told(Problems(problems): Problems) -> Error {
    let help = problems[0].help.clone().map(|help| format!(" ({help})")).unwrap_or_default();
    Error::validation(format!("{}{help}", problems[0].message))
}

/// A source as planned, behind `position` if there is one.
pub async fn open(connector: &impl Connector, position: Option<&Position>) -> Result<BoxSource> {
    let schema = connector.schema(&context()).await.map_err(told)?;
    let splits = connector.splits(&context()).await?.into_iter().map(|s| (s, position.cloned())).collect();
    connector.source(SourceContext { env: Env::system(), id: "it".into(), splits, schema }).await
}

/// Everything that a source reads.
pub async fn read_all(connector: &impl Connector) -> Result<Vec<Chunk>> {
    let mut source = open(connector, None).await?;
    let mut chunks = Vec::new();
    while let Some(chunk) = source.read().await? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

/// What a source that fails says, secrets and all: the message and everything below it.
pub async fn failure(connector: &impl Connector) -> String {
    format!("{:?}", read_all(connector).await.expect_err("it was to fail"))
}

/// The rows of a chunk.
pub fn rows(chunk: &Chunk) -> Vec<Value> {
    (0..chunk.records.num_rows()).map(|i| Value::Object(row_value(&chunk.records, i).unwrap())).collect()
}

/// The rows of chunks.
pub fn rows_of(chunks: &[Chunk]) -> Vec<Value> {
    chunks.iter().flat_map(rows).collect()
}

/// The values of the column `n`.
pub fn numbers(rows: &[Value]) -> Vec<i64> {
    rows.iter().map(|row| row["n"].as_i64().unwrap()).collect()
}

/// What was said of rejected rows.
pub fn faults(chunks: &[Chunk]) -> Vec<String> {
    chunks.iter().flat_map(|c| &c.rejected).map(|r| r.error.to_string()).collect()
}

/// A sink for rows like these.
pub async fn sink(connector: &impl Connector, like: &[Value]) -> Result<BoxSink> {
    let schema = batch(like).schema();
    connector.check_sink(&schema, &context()).await.map_err(told)?;
    connector.sink(SinkContext::new(Env::system(), "it", schema)).await
}

/// Writes rows as one batch; says how many of them were refused, and why.
pub async fn write(connector: &impl Connector, rows: &[Value]) -> Result<Vec<(usize, String)>> {
    let mut sink = sink(connector, rows).await?;
    let written = sink.write(&batch(rows)).await?;
    sink.prepare(1).await?;
    sink.finish().await?;
    Ok(written.rejected.iter().map(|r| (r.count(), r.error.to_string())).collect())
}

/// An engine of its own.
pub fn engine() -> Engine {
    Engine::new(Registry::new())
}

/// Waits until something holds.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(2));
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "never: {what}");
        tick.tick().await;
    }
}

/// Lets time pass, where a fault is to last so long.
pub async fn pass(time: Duration) {
    let mut tick = tokio::time::interval(time);
    tick.tick().await;
    tick.tick().await;
}
