//! Jobs that a test watches, stops and kills.

use std::time::Duration;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use bourn_connectors::memory::Collected;
use bourn_connectors::register;
use bourn_engine::api::Registry;
use bourn_engine::env::Env;
use bourn_engine::graph::Graph;
use bourn_engine::runtime::job::Job;
use bourn_engine::{Engine, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_mins(1);

/// An engine that knows the connectors.
pub fn engine() -> Engine {
    Engine::new(register(Registry::new()))
}

/// Starts a job.
pub async fn start(graph: Graph) -> Job {
    let engine = engine();
    let plan = engine.plan(graph).await.unwrap_or_else(|problems| panic!("{problems:?}"));
    engine.start(plan).await.unwrap()
}

/// A job on a runtime of its own, so that it can be killed with all that it runs.
pub struct Doomed {
    runtime: Runtime,
    job: JoinHandle<Result<()>>,
}

impl Doomed {
    /// Starts a job.
    pub fn start(graph: Graph) -> Self {
        let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let job = runtime.spawn(async move { engine().run(graph).await });
        Self { runtime, job }
    }

    /// Whether it runs still.
    pub fn runs(&self) -> bool {
        !self.job.is_finished()
    }

    /// The same, and waits until they are gone, so that nothing of it is in the way of the next run. False where it had ended
    /// before.
    pub async fn cut(self) -> bool {
        let Self { runtime, job } = self;
        Env::system().blocking(move || runtime.shutdown_timeout(PATIENCE)).await.unwrap();
        // A job that sees how its runtime goes down fails by it.
        !matches!(job.await, Ok(Ok(())))
    }

    /// Drops every task where it stands: nothing is flushed, committed or acknowledged any more.
    pub fn kill(self) {
        self.runtime.shutdown_background();
    }
}

/// The values of the column `n`, in the order in which they came.
pub fn numbers(collected: &Collected) -> Vec<i64> {
    let column = |b: &RecordBatch| b.column_by_name("n").unwrap().as_primitive::<Int64Type>().values().to_vec();
    collected.batches().iter().flat_map(column).collect()
}

/// Waits until `holds`, or fails with what did not come.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let start = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(Duration::from_millis(10));
    while !holds().await {
        assert!(start.elapsed() < PATIENCE, "in vain: {what}");
        tick.tick().await;
    }
}
