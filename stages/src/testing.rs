//! A source and a sink for tests of a stage in a running engine.

use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, Chunk, ConnectContext, Connector, Delivery, Receipt, Registry, Replay, Sink,
    SinkContext, Source, SourceContext, StageConfig, Written,
};
use bourn_engine::data::message::Epoch;
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::env::Env;
use bourn_engine::graph::{Graph, OnError};
use bourn_engine::testing::harness::rows_of;
use bourn_engine::{Engine, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Sends `rows` through a stage in an engine; how the job ended, and what arrived.
pub async fn run(env: Env, stage: impl StageConfig, rows: RecordBatch) -> (Result<()>, Vec<Value>) {
    run_with(OnError::Fail, env, stage, rows).await
}

/// The same, with what becomes of a row at fault.
pub async fn run_with(
    on_error: OnError,
    env: Env,
    stage: impl StageConfig,
    rows: RecordBatch,
) -> (Result<()>, Vec<Value>) {
    let arrived = Arrived::default();
    let mut graph = Graph::new("test");
    graph.options.on_error = on_error;
    graph.source("given", Given { rows: Some(rows) });
    graph.stage("stage", stage);
    graph.sink("arrived", arrived.clone());
    let ended = Engine::new(Registry::new()).with_env(env).run(graph).await;
    let rows = arrived.rows.lock().unwrap_or_else(PoisonError::into_inner).iter().flat_map(rows_of).collect();
    (ended, rows)
}

/// A source of one batch.
#[derive(Clone, Serialize, Deserialize, JsonSchema)]
struct Given {
    #[serde(skip)]
    rows: Option<RecordBatch>,
}

impl Connector for Given {
    const NAME: &'static str = "given";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::Nothing, true)
    }
    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        self.rows.as_ref().map(RecordBatch::schema).ok_or_else(|| Problem::new("no rows").into())
    }
    async fn source(&self, _: SourceContext) -> Result<BoxSource> {
        Ok(BoxSource::new(self.clone()))
    }
}

impl Source for Given {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let rows = self.rows.take();
        rows.map(|rows| Ok(Chunk::new(rows, Split::new("given"), Position::of(&1)?))).transpose()
    }
}

/// A sink that keeps what arrives.
#[derive(Clone, Default, Serialize, Deserialize, JsonSchema)]
struct Arrived {
    #[serde(skip)]
    rows: Arc<Mutex<Vec<RecordBatch>>>,
}

impl Connector for Arrived {
    const NAME: &'static str = "arrived";
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }
    async fn sink(&self, _: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(self.clone()))
    }
}

impl Sink for Arrived {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).push(rows.clone());
        Ok(Written::all())
    }
    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}
