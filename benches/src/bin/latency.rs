//! Latency of single rows: `latency one` through three stages that are not fused; `latency open` at half of the peak.
//!
//! `one`: each row is sent when the one before it is long gone, so this is the cost of the way: source, three tasks, sink.
//! `open`: rows come on a fixed schedule, whether earlier ones have arrived or not (no coordinated omission), with an epoch
//! every second.
#![expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a peak is a small positive number")]
#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bourn_benches::{Again, Forget, PassConfig, batch, quantiles};
use bourn_engine::api::Registry;
use bourn_engine::graph::Graph;
use bourn_engine::{Engine, Result};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn graph(again: Again) -> Graph {
    let mut graph = Graph::new("latency");
    graph.options.fuse = false;
    graph.source("again", again);
    graph.stage("one", PassConfig {});
    graph.stage("two", PassConfig {});
    graph.stage("three", PassConfig {});
    graph.sink("forget", Forget::default());
    graph
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let mode = std::env::args().nth(1).unwrap_or_else(|| "one".into());
    run(&mode).await.map_err(|e| e.to_string())
}

async fn run(mode: &str) -> Result<()> {
    let engine = Engine::new(Registry::new());
    if mode == "one" {
        let again = Again { batches: 20_000, batch: batch(1), every: Some(Duration::from_micros(500)) };
        measure(&engine, graph(again), "one row through source, three tasks, sink").await?;
        return Ok(());
    }
    // The peak of single-row batches, then half of it on a schedule.
    let rows = 1_000_000;
    let start = engine.env().monotonic();
    engine.run(graph(Again { batches: rows, batch: batch(1), every: None })).await?;
    let peak = rows as f64 / engine.env().monotonic().saturating_sub(start).as_secs_f64();
    println!("peak: {peak:.0} single-row batches/s");
    let every = Duration::from_secs_f64(2.0 / peak);
    let mut open = graph(Again { batches: (peak / 2.0 * 10.0) as u64, batch: batch(1), every: Some(every) });
    open.options.epoch_every = Some(Duration::from_secs(1));
    measure(&engine, open, "open loop at half of the peak, an epoch every second").await
}

async fn measure(engine: &Engine, graph: Graph, what: &str) -> Result<()> {
    let plan = engine.plan(graph).await.map_err(|p| bourn_engine::Error::engine(format!("{p:?}")))?;
    let job = engine.start(plan).await?;
    let stats = job.stats().clone();
    let start = engine.env().monotonic();
    job.wait().await?;
    let seconds = engine.env().monotonic().saturating_sub(start).as_secs_f64();
    let rows = stats.rows_written();
    println!("{what}: {}", quantiles(&stats.latency));
    println!("  {rows} rows in {seconds:.1} s ({:.0}/s), {} epochs", rows as f64 / seconds, stats.epochs.load(Relaxed));
    Ok(())
}
