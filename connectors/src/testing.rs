//! What the tests of connectors share: a source read to its end, a sink driven through an epoch.

use std::io::Write;
use std::path::Path;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, BoxSource, Chunk, ConnectContext, Connector, Sink, SinkContext, Source, SourceContext,
};
use bourn_engine::data::json::row_value;
use bourn_engine::data::position::Position;
use bourn_engine::diagnostic::Problems;
use bourn_engine::env::Env;
use bourn_engine::{Error, Result};
use serde_json::Value;

pub fn connect() -> ConnectContext {
    ConnectContext { env: Env::system(), id: "it".into(), lanes: 1 }
}

pub fn write_file(path: &Path, bytes: &[u8]) {
    let mut file = Env::system().files().create(path).unwrap();
    file.write_all(bytes).unwrap();
}

pub fn read_file(path: &Path) -> Vec<u8> {
    let file = Env::system().files().open(path).unwrap();
    let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
    let mut at = 0;
    while at < bytes.len() {
        at += file.read_at(at as u64, &mut bytes[at..]).unwrap();
    }
    bytes
}

/// A source of all splits, as planned, each behind `position` if there is one.
pub async fn open(connector: &impl Connector, position: Option<&Position>) -> Result<BoxSource> {
    let schema = connector.schema(&connect()).await.map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
    open_as(connector, schema, position).await
}

pub async fn open_as(connector: &impl Connector, schema: SchemaRef, position: Option<&Position>) -> Result<BoxSource> {
    let splits = connector.splits(&connect()).await?;
    let splits = splits.into_iter().map(|s| (s, position.cloned())).collect();
    connector.source(SourceContext { env: Env::system(), id: "it".into(), splits, schema }).await
}

pub async fn chunks(mut source: BoxSource) -> Result<Vec<Chunk>> {
    let mut chunks = Vec::new();
    while let Some(chunk) = source.read().await? {
        chunks.push(chunk);
    }
    Ok(chunks)
}

pub async fn read_all(connector: &impl Connector) -> Result<Vec<Chunk>> {
    chunks(open(connector, None).await?).await
}

/// The rows of chunks as JSON.
pub fn rows(chunks: &[Chunk]) -> Vec<Value> {
    chunks.iter().flat_map(|c| rows_of(&c.records)).collect()
}

pub fn rows_of(batch: &RecordBatch) -> Vec<Value> {
    (0..batch.num_rows()).map(|i| Value::Object(row_value(batch, i).unwrap())).collect()
}

/// The errors of the rejected rows.
pub fn faults(chunks: &[Chunk]) -> Vec<String> {
    chunks.iter().flat_map(|c| &c.rejected).map(|r| r.error.to_string()).collect()
}

pub fn batch_of(rows: &[Value]) -> RecordBatch {
    let text: Vec<_> = rows.iter().map(ToString::to_string).collect();
    let mut inference = crate::codec::json::Inference::default();
    inference.look(text.join("\n").as_bytes());
    let inferred = inference.finish();
    let columns = crate::codec::json::Columns::new(Arc::clone(&inferred.schema), &inferred.mixed);
    crate::codec::json::Decoder::new(columns).unwrap().decode(text.join("\n").as_bytes()).unwrap().batch
}

/// A sink of one lane.
pub async fn sink_for(connector: &impl Connector, schema: SchemaRef) -> Result<BoxSink> {
    connector.check_sink(&schema, &connect()).await.map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
    connector.sink(SinkContext::new(Env::system(), "it", schema)).await
}

/// Writes each batch in an epoch of its own, as the engine does.
pub async fn write_all(connector: &impl Connector, batches: &[RecordBatch]) -> Result<()> {
    let mut sink = sink_for(connector, batches[0].schema()).await?;
    for (epoch, batch) in (1..).zip(batches) {
        sink.write(batch).await?;
        assert_eq!(sink.prepare(epoch).await?, None);
    }
    sink.finish().await
}
