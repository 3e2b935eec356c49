//! `throttle`: lets no more rows through than a rate.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::limits::Retries;
use bourn_engine::api::{BuildContext, Call, CallContext, Cardinality, Limits, Operator, Order, Reply, StageConfig};
use bourn_engine::data::records::ROWS_MAX;
use bourn_engine::data::units::Rate;
use bourn_engine::diagnostic::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Pieces into which a second is cut, so that a high rate does not come in bursts.
const PIECES: f64 = 100.0;

/// Lets no more rows through than this: `throttle: { rate: 1000/s }`.
///
/// Rows keep their order and wait; what comes before is held up, nothing is dropped. The rate holds for each lane. It is
/// kept over ten milliseconds and longer; time in which no row came is not made up for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// Rows in a length of time.
    pub rate: Rate,
}

impl StageConfig for Throttle {
    const NAME: &'static str = "throttle";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _context: &BuildContext) -> Result<Operator> {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the rows of a batch")]
        let rows = (self.rate.per_second() / PIECES).clamp(1.0, ROWS_MAX as f64) as usize;
        let limits = Limits {
            rows,
            in_flight: 1,
            order: Order::Kept,
            timeout: Limits::NO_TIMEOUT,
            // Not the rate of requests: a request has fewer rows where batches are small, and would pay as for a full one.
            rate: None,
            retry: Retries { max_attempts: 1, ..Retries::default() },
            ..Limits::default()
        };
        Ok(Operator::call(Pace { rate: self.rate, free_at: Mutex::new(Duration::ZERO) }, limits))
    }
}

struct Pace {
    rate: Rate,
    /// When the next row may go.
    free_at: Mutex<Duration>,
}

impl Call for Pace {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let share = self.rate.per.as_secs_f64() * rows.num_rows() as f64 / f64::from(self.rate.count);
        let share = Duration::try_from_secs_f64(share).unwrap_or(Limits::NO_TIMEOUT.0);
        let now = context.env.monotonic();
        let start = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = now.max(*free_at);
            *free_at = start.saturating_add(share);
            start
        };
        let wait = start.saturating_sub(now);
        if !wait.is_zero() {
            context.env.sleep(wait).await;
        }
        Ok(Reply::rows(rows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::{self, batch};
    use bourn_engine::testing::simulation::Simulation;
    use serde_json::json;

    fn numbers(count: i64) -> RecordBatch {
        batch(&(0..count).map(|n| json!({"n": n})).collect::<Vec<_>>())
    }

    fn throttle(rate: &str) -> Throttle {
        Throttle { rate: rate.parse().unwrap() }
    }

    #[test]
    fn it_keeps_the_promises_of_a_call() {
        let simulation = Simulation::new(1);
        simulation.run(conformance::call(throttle("1000/s"), numbers(30)).check(&simulation.env())).done();
    }

    #[test]
    fn the_rate_holds_whatever_the_size_of_the_batches() {
        for (rate, sizes) in [("1000/s", [1, 9, 10]), ("2/s", [1, 1, 1]), ("100000/s", [3, 1000, 500])] {
            let simulation = Simulation::new(1);
            let (call, limits) = harness::call(&throttle(rate), &numbers(1).schema()).unwrap();
            assert!(sizes.iter().all(|n| *n <= limits.rows), "{rate}: {}", limits.rows);
            let env = simulation.env();
            let context = CallContext {
                env: env.clone(),
                stage: "t".into(),
                idempotency_key: "k".into(),
                attempt: 1,
                deadline: Limits::NO_TIMEOUT.0,
                ingested: bourn_engine::time::Timestamp(0),
                journal: None,
                feedback: None,
                bill: bourn_engine::api::Bill::default(),
                trace: bourn_engine::api::Trace::default(),
            };
            let all = async {
                for size in sizes.into_iter().chain([1]) {
                    call.call(numbers(i64::try_from(size).unwrap()), &context).await.unwrap();
                }
            };
            simulation.run(all).done();
            let rows: usize = sizes.iter().sum();
            let expected = Duration::from_secs_f64(rows as f64 / rate.parse::<Rate>().unwrap().per_second());
            // The last row goes when those before it have had their time.
            assert!(
                simulation.elapsed().abs_diff(expected) < Duration::from_micros(1),
                "{rate}: {:?}",
                simulation.elapsed()
            );
        }
    }
}
