//! Memory under a stalled sink: `memory [narrow|wide|lanes] [SECONDS]` prints the resident memory while an endless source
//! at full speed meets a throttled sink.
#![expect(clippy::print_stdout, reason = "it prints its figures")]
#![expect(clippy::disallowed_methods, reason = "it reads its own resident memory from the kernel")]

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, StringArray};
use arrow::record_batch::RecordBatch;
use bourn_benches::{Again, Forget, PassConfig, batch};
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Error, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Rows of one text of 1 MiB.
fn wide(rows: usize) -> RecordBatch {
    let texts: Vec<String> = (0..rows).map(|_| "x".repeat(1 << 20)).collect();
    let column: ArrayRef = Arc::new(StringArray::from(texts));
    RecordBatch::try_from_iter([("text", column)]).expect("one column makes a batch")
}

/// Resident memory in MiB, from the kernel.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = statm.split_whitespace().nth(1).and_then(|p| p.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / f64::from(1 << 20)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let kind = std::env::args().nth(1).unwrap_or_else(|| "narrow".into());
    let seconds: u64 = std::env::args().nth(2).and_then(|s| s.parse().ok()).unwrap_or(600);
    run(&kind, seconds).await.map_err(|e| e.to_string())
}

async fn run(kind: &str, seconds: u64) -> Result<()> {
    let engine = Engine::new(Registry::new());
    let rows = if kind == "wide" { wide(8) } else { batch(8_192) };
    let lanes = if kind == "lanes" { 16 } else { 1 };
    let mut graph = Graph::new("memory");
    graph.source("again", Again::new(u64::MAX, rows));
    graph.stage("one", PassConfig {}).lanes(lanes);
    graph.stage("two", PassConfig {}).lanes(if lanes == 1 { 1 } else { lanes - 1 });
    graph.sink("slow", Forget { takes: Duration::from_millis(100) });
    graph.options.epoch_every = Some(Duration::from_secs(1));
    let plan = engine.plan(graph).await.map_err(|p| Error::engine(format!("{p:?}")))?;
    let job = engine.start(plan).await?;
    let (mut least, mut most) = (f64::MAX, 0f64);
    for second in 0..seconds {
        engine.env().sleep(Duration::from_secs(1)).await;
        let now = resident();
        // The first seconds fill the edges.
        if second >= 5 {
            (least, most) = (least.min(now), most.max(now));
        }
        if second % 30 == 0 {
            println!("{second:4} s: {now:.0} MiB, {} rows written", job.stats().rows_written());
        }
    }
    println!(
        "{kind}: resident memory {least:.0} to {most:.0} MiB over {seconds} s, {} rows written",
        job.stats().rows_written()
    );
    Ok(())
}
