//! A stage that stands still, so that a job can't end before the test has done with it what it wants.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Call, CallContext, Cardinality, Limits, Operator, Reply, StageConfig};
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::Problems;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

/// Lets one batch through, and the others when it is open.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Gate {
    #[serde(skip, default = "shut")]
    passes: Arc<Semaphore>,
}

fn shut() -> Arc<Semaphore> {
    Arc::new(Semaphore::new(1))
}

impl Gate {
    pub fn new() -> Self {
        Self { passes: shut() }
    }

    pub fn open(&self) {
        // Whoever finds it closed goes through.
        self.passes.close();
    }
}

impl StageConfig for Gate {
    const NAME: &'static str = "gate";
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let timeout = Interval(Duration::from_hours(1));
        Ok(Operator::call(Passing(self.passes.clone()), Limits { in_flight: 1, timeout, ..Limits::default() }))
    }
}

struct Passing(Arc<Semaphore>);

impl Call for Passing {
    async fn call(&self, rows: RecordBatch, _: &CallContext) -> Result<Reply> {
        if let Ok(pass) = self.0.acquire().await {
            pass.forget();
        }
        Ok(Reply::rows(rows))
    }
    fn failed(&self, rows: &RecordBatch, _: &Error, _: &CallContext) -> Option<RecordBatch> {
        Some(rows.clone())
    }
}
