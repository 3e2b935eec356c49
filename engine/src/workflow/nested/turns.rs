//! How many elements of a list may be within their workflow at once: one comes in when another one has come out.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use futures::channel::oneshot;
use serde_json::{Value, json};

use crate::api::erased::ErasedStage;
use crate::api::{
    Accounts, BuildContext, Call, CallContext, Cardinality, Distribution, Keys, Limits, Operator, Order, Reply,
};
use crate::diagnostic::Problems;
use crate::error::Result;

/// The turns of one list. A clone is the same one.
#[derive(Clone)]
pub(in crate::workflow) struct Turns(Arc<Inner>);

struct Inner {
    most: usize,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// How many are within.
    taken: usize,
    /// Who waits, in order: as many as requests may be in flight.
    waiting: VecDeque<oneshot::Sender<()>>,
}

impl Turns {
    pub(in crate::workflow) fn new(most: usize) -> Self {
        Self(Arc::new(Inner { most, state: Mutex::default() }))
    }

    /// Returns when it may come in.
    ///
    /// Cancel safety: none; who asks is dropped with its job alone.
    async fn take(&self) {
        let turn = {
            let mut state = self.state();
            if state.taken < self.0.most {
                state.taken += 1;
                return;
            }
            let (tell, turn) = oneshot::channel();
            state.waiting.push_back(tell);
            turn
        };
        // The other end is dropped with the queue, which is there.
        let _its_turn = turn.await;
    }

    /// So many have come out. Those that came in before a checkpoint that this process began with had no turn in it.
    pub(super) fn give_back(&self, count: usize) {
        let mut state = self.state();
        for _ in 0..count.min(state.taken) {
            // The next one has the place that is free now.
            let is_passed_on = std::iter::from_fn(|| state.waiting.pop_front()).any(|next| next.send(()).is_ok());
            state.taken -= usize::from(!is_passed_on);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
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
        self.0.take().await;
        Ok(Reply::rows(rows))
    }
}
