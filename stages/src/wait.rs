//! `wait`: holds a row up for a time; a step of a workflow may also wait for a signal.

use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::limits::Retries;
use bourn_engine::api::template::Template;
use bourn_engine::api::{
    BuildContext, Call, CallContext, Cardinality, Limits, Operator, Order, Reply, StageConfig, WaitFor,
};
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Rows that wait at once, in a pipeline.
const IN_FLIGHT: usize = 8_192;

/// Waits: `wait: { duration: 10m }`, or in a step of a workflow for a signal, with `signal: approved` and `timeout: 2d`.
///
/// In a workflow the wait is in the journal, so it goes on over a restart: a run that waits for longer than a minute, or for a
/// signal, leaves the process, and `bourn run` says how many do. It goes on when it is started again and the time has come, or
/// when `bourn signal RUN NAME` has come; what the signal brings is the result of the step. In a pipeline each row is held up
/// for the time, and rows keep their order.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// How long.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<Interval>,
    /// In a workflow: the name of the signal that is waited for, a text with places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// How long a signal is waited for before the step is `TIMED_OUT`; without it, for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Interval>,
}

impl StageConfig for Wait {
    const NAME: &'static str = "wait";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        match (self.duration, &self.signal, self.timeout) {
            (Some(_), None, None) => Ok(inputs[0].clone()),
            (None, Some(signal), _) => {
                let template = Template::parse(signal).map_err(|p| p.under("signal"))?;
                let names = inputs[0].fields().iter().map(|field| field.name().as_str());
                Problems::check(template.check(names).into_iter().map(|p| p.under("signal")).collect())?;
                Ok(inputs[0].clone())
            }
            (Some(_), Some(_), _) => {
                let problem = Problem::new("either a time is waited for or a signal").under("duration");
                Err(problem.help("how long a signal may take is its `timeout`").into())
            }
            (Some(_), None, Some(_)) => Err(Problem::new("a time has no `timeout`").under("timeout").into()),
            (None, None, _) => {
                let problem = Problem::new("there is nothing to wait for");
                Err(problem.help("say `duration: 10m`, or `signal: NAME`").into())
            }
        }
    }

    fn is_stateless(&self) -> bool {
        true
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn waits(&self) -> Option<WaitFor> {
        let time = self.duration.or(self.timeout).map(|Interval(time)| time);
        Some(WaitFor { time, signal: self.signal.clone(), decision: false })
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        let Some(Interval(time)) = self.duration else {
            return Err(Error::unsupported("a signal can be waited for in a step of a workflow alone"));
        };
        let limits = Limits {
            rows: IN_FLIGHT,
            in_flight: IN_FLIGHT,
            order: Order::Kept,
            timeout: Interval(time + Duration::from_mins(1)),
            rate: None,
            retry: Retries { max_attempts: 1, ..Retries::default() },
            ..Limits::default()
        };
        Ok(Operator::call(Pause(time), limits))
    }
}

struct Pause(Duration);

impl Call for Pause {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        context.env.sleep(self.0).await;
        Ok(Reply::rows(rows))
    }
}

#[cfg(test)]
mod tests {
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::simulation::Simulation;

    use super::*;

    fn wait(text: serde_json::Value) -> Wait {
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn a_row_is_held_up_for_the_time() {
        let simulation = Simulation::new(1);
        let rows = rows![{"id": 1}, {"id": 2}];
        let config = wait(serde_json::json!({"duration": "10s"}));
        simulation.run(conformance::call(config, rows).passing("id").check(&simulation.env())).done();
        assert!(simulation.elapsed() >= Duration::from_secs(10));
    }

    #[test]
    fn what_is_no_wait_is_told() {
        let schema = rows![{"id": 1}].schema();
        let told = |text: serde_json::Value| {
            wait(text).schema(std::slice::from_ref(&schema)).err().map(|p| p.0[0].message.clone())
        };
        assert_eq!(told(serde_json::json!({})).as_deref(), Some("there is nothing to wait for"));
        assert_eq!(
            told(serde_json::json!({"duration": "1s", "signal": "x"})).as_deref(),
            Some("either a time is waited for or a signal")
        );
        assert_eq!(
            told(serde_json::json!({"duration": "1s", "timeout": "1s"})).as_deref(),
            Some("a time has no `timeout`")
        );
        assert_eq!(told(serde_json::json!({"signal": "x", "timeout": "1s"})), None);
    }
}
