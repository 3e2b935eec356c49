//! The sink of `object_store` beside the client of the `object_store` crate alone: the same bytes to the same server.
//!
//! `benches/s3` starts a server and calls it. Rounds of both alternate; the client uploads JSON lines that are encoded
//! already, in parts of the same size, as many at a time.
#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array, StringArray};
use arrow::record_batch::RecordBatch;
use bourn_benches::Again;
use bourn_connectors::ObjectStore;
use bourn_connectors::codec::json::Encoder;
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Error, Result};
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStoreExt, WriteMultipart};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const PART: usize = 8 << 20;
const IN_FLIGHT: usize = 4;
const ROWS: i64 = 8_192;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let argument = |n: usize, default: &str| std::env::args().nth(n).unwrap_or_else(|| default.into());
    let (endpoint, batches, rounds) = (argument(1, "http://127.0.0.1:8333"), argument(2, "200"), argument(3, "5"));
    run(&endpoint, batches.parse().unwrap_or(200), rounds.parse().unwrap_or(5)).await.map_err(|e| e.to_string())
}

fn rows() -> Result<RecordBatch> {
    let text = |n: i64| format!("{n:0>200}");
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..ROWS).map(text)));
    Ok(RecordBatch::try_from_iter([("n", numbers), ("text", texts)])?)
}

async fn run(endpoint: &str, batches: u64, rounds: usize) -> Result<()> {
    let batch = rows()?;
    let mut lines = Vec::new();
    Encoder::new(&batch.schema())?.encode(&batch, &mut lines)?;
    let engine = Engine::new(Registry::new());
    let mib = lines.len() as f64 * batches as f64 / f64::from(1 << 20);
    let (mut client, mut sink) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        client.push(mib / timed(&engine, alone(endpoint, &lines, batches)).await?);
        let again = Again::new(batches, batch.clone());
        sink.push(mib / timed(&engine, through(&engine, endpoint, again)).await?);
    }
    let (client, sink) = (median(client), median(sink));
    println!(
        "{mib:.0} MiB, median of {rounds}: client alone {client:.0} MiB/s, sink {sink:.0} MiB/s, {:.0} %",
        100.0 * sink / client
    );
    Ok(())
}

async fn timed(engine: &Engine, work: impl Future<Output = Result<()>>) -> Result<f64> {
    let start = engine.env().monotonic();
    work.await?;
    Ok(engine.env().monotonic().saturating_sub(start).max(Duration::from_micros(1)).as_secs_f64())
}

fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().unwrap_or_default()
}

async fn alone(endpoint: &str, lines: &[u8], batches: u64) -> Result<()> {
    let builder = AmazonS3Builder::from_env().with_endpoint(endpoint).with_bucket_name("data").with_allow_http(true);
    let store = builder.build()?;
    let upload = store.put_multipart(&"client.jsonl".into()).await?;
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
    for _ in 0..batches {
        upload.wait_for_capacity(IN_FLIGHT).await?;
        upload.write(lines);
    }
    upload.finish().await?;
    Ok(())
}

async fn through(engine: &Engine, endpoint: &str, again: Again) -> Result<()> {
    let mut graph = Graph::new("s3");
    graph.source("again", again);
    graph.sink("objects", ObjectStore::new("s3://data/sink.jsonl").with_option("endpoint", endpoint));
    let plan = engine.plan(graph).await.map_err(|p| Error::engine(format!("{p:?}")))?;
    engine.start(plan).await?.wait().await
}
