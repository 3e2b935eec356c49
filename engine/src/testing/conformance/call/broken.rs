//! Calls that break one promise each, and that the suite must catch.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use arrow::array::{ArrayRef, AsArray, Int64Array};
use arrow::datatypes::{Int64Type, SchemaRef};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::*;
use crate::api::{Call, CallContext, Cardinality, Limits, Output, Progress, Rejected, Reply, Stage};
use crate::diagnostic::Problems;
use crate::error::{Error, Result};
use crate::rows;
use crate::testing::conformance::{NO_PANIC, each_is_caught};
use crate::testing::harness::rows_of;
use crate::testing::simulation::Simulation;

/// What is wrong with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
enum Fault {
    None,
    Flaky,
    BuildsStage,
    Hangs,
    Fails,
    OtherSchema,
    Loses,
    Reverses,
    SharesAnswer,
    LeaksConnections,
    NewKeys,
    OddFailure,
    Panics,
}

/// Squares numbers somewhere else, three at a time, and refuses 7.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Square {
    fault: Fault,
    #[serde(skip)]
    service: Arc<Service>,
}

/// The other side.
#[derive(Default)]
struct Service {
    keys: Mutex<Vec<String>>,
    requests: AtomicUsize,
    last: Mutex<Option<RecordBatch>>,
}

struct SquareCall {
    fault: Fault,
    service: Arc<Service>,
    connections: AtomicUsize,
}

fn squared(rows: &RecordBatch, name: &str) -> RecordBatch {
    let numbers = rows.column(0).as_primitive::<Int64Type>();
    let squares: Int64Array = numbers.values().iter().map(|n| n * n).collect();
    let columns = [("n", rows.column(0).clone()), (name, Arc::new(squares) as ArrayRef)];
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, column)| (name, column, true))).unwrap()
}

impl Call for SquareCall {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        assert!(self.fault != Fault::Panics, "index out of bounds");
        if self.fault == Fault::LeaksConnections && self.connections.fetch_add(1, Ordering::SeqCst) >= 3 {
            return Err(Error::engine("no connection is free"));
        }
        let nth = self.service.requests.fetch_add(1, Ordering::SeqCst);
        let key = if self.fault == Fault::NewKeys { nth.to_string() } else { context.idempotency_key.to_string() };
        self.service.keys.lock().unwrap().push(key);
        if self.fault == Fault::SharesAnswer {
            *self.service.last.lock().unwrap() = Some(rows.clone());
        }
        for _ in 0..3 {
            context.env.sleep(Duration::from_millis(1 + context.env.random() % 10)).await;
        }
        if self.fault == Fault::LeaksConnections {
            self.connections.fetch_sub(1, Ordering::SeqCst);
        }
        match self.fault {
            Fault::Hangs => context.env.sleep(Duration::from_hours(1)).await,
            Fault::Fails => return Err(Error::validation("no such model")),
            Fault::Flaky if context.attempt < 3 => return Err(Error::validation("busy").transient()),
            _ => {}
        }
        let asked = self.service.last.lock().unwrap().clone().unwrap_or(rows);
        let (mut good, mut rejected) = (Vec::new(), Vec::new());
        for n in 0..asked.num_rows() {
            let row = asked.slice(n, 1);
            match rows_of(&row)[0]["n"].as_i64() {
                Some(7) => rejected.push(Rejected::rows(row, Error::validation("seven"))),
                Some(4) if self.fault == Fault::Loses => {}
                _ => good.push(row),
            }
        }
        if self.fault == Fault::Reverses {
            good.reverse();
        }
        let name = if self.fault == Fault::OtherSchema { "cube" } else { "square" };
        let good = arrow::compute::concat_batches(&asked.schema(), &good)?;
        Ok(Reply { rejected, ..Reply::rows(squared(&good, name)) })
    }

    fn failed(&self, rows: &RecordBatch, _: &Error, _: &CallContext) -> Option<RecordBatch> {
        Some(if self.fault == Fault::OddFailure { rows.clone() } else { squared(rows, "square") })
    }
}

impl Stage for SquareCall {
    fn process(&mut self, _: &RecordBatch, _: &mut Output) -> Result<Progress> {
        Ok(Progress::Done)
    }
}

impl StageConfig for Square {
    const NAME: &'static str = "square";
    fn schema(&self, _: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(rows![{"n": 1, "square": 1}].schema())
    }
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }
    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let call = SquareCall { fault: self.fault, service: self.service.clone(), connections: AtomicUsize::new(0) };
        let limits = Limits { rows: 3, ..Limits::default() };
        Ok(if self.fault == Fault::BuildsStage { Operator::stage(call) } else { Operator::call(call, limits) })
    }
}

fn square(fault: Fault) -> Check {
    let simulation = Simulation::new(3);
    let service = Arc::new(Service::default());
    let input = rows![{"n": 1}, {"n": 2}, {"n": 3}, {"n": 4}, {"n": 5}, {"n": 6}, {"n": 7}, {"n": 8}];
    let suite = call(Square { fault, service: service.clone() }, input);
    let suite = suite.keys_seen(move || service.keys.lock().unwrap().clone());
    simulation.run(suite.verify(&simulation.env())).done()
}

#[test]
fn good_calls_keep_every_promise() {
    assert_eq!(square(Fault::None), Ok(()));
    assert_eq!(square(Fault::Flaky), Ok(()));
}

#[test]
fn each_broken_promise_of_a_call_is_caught() {
    let caught = [
        (BUILDS, square(Fault::BuildsStage)),
        (ENDS, square(Fault::Hangs)),
        (ANSWERS, square(Fault::Fails)),
        (SCHEMA, square(Fault::OtherSchema)),
        (CARDINALITY, square(Fault::Loses)),
        (ORDER, square(Fault::Reverses)),
        (TOGETHER, square(Fault::SharesAnswer)),
        (DROPPED, square(Fault::LeaksConnections)),
        (KEY, square(Fault::NewKeys)),
        (FAILED, square(Fault::OddFailure)),
        (NO_PANIC, square(Fault::Panics)),
    ];
    each_is_caught(PROMISES, &caught);
}
