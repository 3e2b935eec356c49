//! How many elements of a list may be within their workflow at once: one comes in when another one has come out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use crate::api::erased::ErasedStage;
use crate::api::{
    Accounts, BuildContext, Call, CallContext, Cardinality, Distribution, Keys, Limits, Operator, Order, Reply,
};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};

/// The turns of one list. A clone is the same one.
#[derive(Clone)]
pub(in crate::workflow) struct Turns(Arc<Inner>);

struct Inner {
    most: usize,
    free: Semaphore,
    taken: AtomicUsize,
}

impl Turns {
    pub(in crate::workflow) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, free: Semaphore::new(most), taken: AtomicUsize::new(0) }))
    }

    async fn take(&self) -> Result<()> {
        self.0.free.acquire().await.map_err(|_| Error::engine("there are no turns any more"))?.forget();
        self.0.taken.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// So many have come out. Those that came in before a checkpoint that this process began with had no turn in it.
    pub(super) fn give_back(&self, count: usize) {
        let left = |taken: usize| Some(taken.saturating_sub(count));
        let taken = self.0.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, left).unwrap_or_default();
        self.0.free.add_permits(taken.min(count));
    }
}

/// Before the way in. It can't be read from a spec, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(in crate::workflow) struct TurnConfig(pub Turns);

impl ErasedStage for TurnConfig {
    fn kind(&self) -> &'static str {
        "turn"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn distribution(&self) -> Distribution {
        Distribution::Any
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let limits =
            Limits { rows: 1, in_flight: 1, order: Order::Kept, timeout: Limits::NO_TIMEOUT, ..Limits::default() };
        Ok(Operator::call(Turn(self.0.clone()), limits))
    }

    fn describe(&self) -> Value {
        json!({ "at_once": self.0.0.most })
    }
}

struct Turn(Turns);

impl Call for Turn {
    fn accounts(&self) -> Accounts {
        // It asks nobody.
        Accounts { keys: Keys::Own, ..Accounts::default() }
    }

    async fn call(&self, rows: RecordBatch, _: &CallContext) -> Result<Reply> {
        self.0.take().await?;
        Ok(Reply::rows(rows))
    }
}
