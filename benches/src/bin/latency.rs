//! Latency of single rows: `latency one` through three stages that are not fused; `latency open` at half of the peak;
//! `latency checkpoints` the same with a million keys and a checkpoint every second.
//!
//! `one`: each row is sent when the one before it is long gone, so this is the cost of the way: source, three tasks, sink.
//! `open`: rows come on a fixed schedule, whether earlier ones have arrived or not (no coordinated omission), with an epoch
//! every second. `late` tells how far the source has been behind it, which no latency has in it.
#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::cast_possible_wrap,
    reason = "a peak is a small positive number"
)]
#![expect(clippy::print_stdout, reason = "it prints its figures")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_benches::{Again, Forget, PassConfig, batch, quantiles};
use bourn_engine::api::{
    BuildContext, Cardinality, Checkpointing, Checkpoints, Operator, Output, Progress, Registry, Stage, StageConfig,
};
use bourn_engine::diagnostic::Problems;
use bourn_engine::graph::Graph;
use bourn_engine::state::{StateVisitor, Table};
use bourn_engine::{Engine, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// How many keys the state has.
const KEYS: i64 = 1_000_000;

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

/// The same with a state of a million keys in the middle; each row changes one.
fn keeping(again: Again, folder: &Path) -> Graph {
    let mut graph = Graph::new("latency");
    graph.options.fuse = false;
    graph.source("again", again);
    graph.stage("one", PassConfig {});
    graph.stage("keeps", Keeps {});
    graph.stage("three", PassConfig {});
    graph.sink("forget", Forget::default());
    graph.options.epoch_every = Some(Duration::from_secs(1));
    graph.options.checkpoints = Checkpointing::On(Checkpoints::in_folder(folder));
    graph
}

/// Keeps count and maximum of a million keys.
#[derive(Serialize, Deserialize, JsonSchema)]
struct Keeps {}

impl StageConfig for Keeps {
    const NAME: &'static str = "keeps";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let mut table = Table::new([DataType::Int64])?;
        for from in (0..KEYS).step_by(8_192) {
            let keys = Int64Array::from_iter_values(from..KEYS.min(from + 8_192));
            table.slots(&[Arc::new(keys) as ArrayRef])?;
        }
        Ok(Operator::stage(Kept { table, rows: 0 }))
    }
}

struct Kept {
    table: Table<(i64, i64)>,
    rows: i64,
}

impl Stage for Kept {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        // Spread over all of them.
        let keys = (0..rows.num_rows() as i64).map(|row| (self.rows + row) * 7_919 % KEYS);
        let keys: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        for (slot, _) in self.table.slots(&[keys])? {
            self.rows += 1;
            let (count, most) = self.table.get_mut(slot);
            *count += 1;
            *most = self.rows.max(*most);
        }
        out.emit(rows.clone());
        Ok(Progress::Done)
    }
    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("keys", &mut self.table)
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), String> {
    let mode = std::env::args().nth(1).unwrap_or_else(|| "one".into());
    run(&mode).await.map_err(|e| e.to_string())
}

async fn run(mode: &str) -> Result<()> {
    let engine = Engine::new(Registry::new());
    if mode == "one" {
        let again = Again::new(20_000, batch(1)).every(Duration::from_micros(500));
        measure(&engine, graph(again), "one row through source, three tasks, sink").await?;
        return Ok(());
    }
    let folder = std::env::temp_dir().join(format!("bourn-latency-{}", std::process::id()));
    let with_keys = mode == "checkpoints";
    let of = |again: Again| if with_keys { keeping(again, &folder) } else { graph(again) };
    // The peak of single-row batches, then half of it on a schedule.
    let rows = 2_000_000;
    let start = engine.env().monotonic();
    engine.run(of(Again::new(rows, batch(1)))).await?;
    let peak = rows as f64 / engine.env().monotonic().saturating_sub(start).as_secs_f64();
    println!("peak: {peak:.0} single-row batches/s");
    let again = Again::new((peak / 2.0 * 20.0) as u64, batch(1)).every(Duration::from_secs_f64(2.0 / peak));
    let late = again.late.clone();
    let mut open = of(again);
    open.options.epoch_every = Some(Duration::from_secs(1));
    let what = if with_keys { "a million keys, a checkpoint every second" } else { "an epoch every second" };
    let measured = measure(&engine, open, &format!("open loop at half of the peak, {what}")).await;
    println!("  late: {:.1} ms at most", late.load(Relaxed) as f64 / 1e3);
    let _ = std::fs::remove_dir_all(&folder);
    measured
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
    let (epochs, checkpoints) = (stats.epochs.load(Relaxed), stats.checkpoints.load(Relaxed));
    println!(
        "  {rows} rows in {seconds:.1} s ({:.0}/s), {epochs} epochs, {checkpoints} checkpoints of {:.1} MiB in all",
        rows as f64 / seconds,
        stats.checkpoint_bytes.load(Relaxed) as f64 / f64::from(1 << 20)
    );
    Ok(())
}
