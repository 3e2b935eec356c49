//! The promises of a call.

#[cfg(test)]
mod broken;
mod run;

use std::time::Duration;

use arrow::record_batch::RecordBatch;

use super::{Broken, Check, config, must_hold, require, without_panic};
use crate::api::{BuildContext, Operator, StageConfig};
use crate::env::Env;
use run::Run;

/// Planning agrees, and a call is built.
pub const BUILDS: &str = "the configuration plans for its input and builds a call";
/// Requests end.
pub const ENDS: &str = "a request ends within the bound";
/// Requests succeed.
pub const ANSWERS: &str = "a request over good rows succeeds, if need be when it is tried again";
/// Schemas are kept.
pub const SCHEMA: &str = "the rows of an answer have the schema that was planned";
/// The count is right.
pub const CARDINALITY: &str = "an answer has as many rows as the request, less the rejected ones, as declared";
/// The order is kept.
pub const ORDER: &str = "the rows of an answer stand in the order of the request";
/// Requests are apart.
pub const TOGETHER: &str = "requests made at the same time get the same answers as one after the other";
/// Cancel safety.
pub const DROPPED: &str = "a request that was dropped at any await does no harm to the next";
/// The key is used.
pub const KEY: &str =
    "what goes out carries the idempotency key of its request: the same for each attempt, another for each request";
/// Failures become data well.
pub const FAILED: &str = "an answer made of a failure has the planned schema, and as many rows as declared";

/// What [`Suite::check`] tests beside [`config::PROMISES`] and [`super::NO_PANIC`].
pub const PROMISES: &[&str] = &[BUILDS, ENDS, ANSWERS, SCHEMA, CARDINALITY, ORDER, TOGETHER, DROPPED, KEY, FAILED];

/// The suite for a call with requests made of `input`: ten rows or more that it can answer.
///
/// ```
/// # use bourn_engine::{api::StageConfig, rows, testing::{conformance, simulation::Simulation}};
/// # fn example(stage: impl StageConfig) {
/// let simulation = Simulation::new(1);
/// let suite = conformance::call(stage, rows![{"id": 1}, {"id": 2}, {"id": 3}]).passing("id");
/// simulation.run(suite.check(&simulation.env())).done();
/// # }
/// ```
pub fn call<C: StageConfig>(config: C, input: RecordBatch) -> Suite<C> {
    Suite { config, input, bound: Duration::from_mins(1), passing: None, keys_seen: None, varying: false }
}

/// See [`call()`].
pub struct Suite<C> {
    config: C,
    input: RecordBatch,
    bound: Duration,
    passing: Option<String>,
    keys_seen: Option<KeysSeen>,
    varying: bool,
}

type KeysSeen = Box<dyn Fn() -> Vec<String> + Send + Sync>;

impl<C: StageConfig> Suite<C> {
    /// How long a request may take; a minute if not said.
    #[must_use]
    pub fn bound(mut self, bound: Duration) -> Self {
        self.bound = bound;
        self
    }

    /// A column that the answer has from the request, with another value in each row: by it the order is tested. If
    /// not said, the first column that both have with one type.
    #[must_use]
    pub fn passing(mut self, column: &str) -> Self {
        self.passing = Some(column.to_owned());
        self
    }

    /// How to learn from the other side (a mock in the test) which keys it has seen, in order: tests [`KEY`].
    #[must_use]
    pub fn keys_seen(mut self, seen: impl Fn() -> Vec<String> + Send + Sync + 'static) -> Self {
        self.keys_seen = Some(Box::new(seen));
        self
    }

    /// For a call whose answer to the same rows may be another each time: answers are compared by the passed column alone.
    #[must_use]
    pub fn varying(mut self) -> Self {
        self.varying = true;
        self
    }

    /// Tests every promise.
    ///
    /// # Panics
    /// With the first promise that is broken.
    pub async fn check(&self, env: &Env) {
        must_hold(C::NAME, self.verify(env).await);
    }

    /// As [`Suite::check`].
    ///
    /// # Errors
    /// The first promise that is broken.
    pub async fn verify(&self, env: &Env) -> Check {
        without_panic(self.all(env)).await
    }

    async fn all(&self, env: &Env) -> Check {
        config::check(&self.config)?;
        let inputs = vec![self.input.schema()];
        let planned = self.config.schema(&inputs);
        let planned = planned.map_err(|problems| Broken::new(BUILDS, format!("{:?}", problems.0)))?;
        let shared = || {
            let same = |f: &&arrow::datatypes::FieldRef| {
                planned.field_with_name(f.name()).is_ok_and(|p| p.data_type() == f.data_type())
            };
            inputs[0].fields().iter().find(same).map(|f| f.name().clone())
        };
        let passed = self.passing.clone().or_else(shared);
        let known = passed.as_ref().is_none_or(|p| inputs[0].index_of(p).is_ok() && planned.index_of(p).is_ok());
        require(known, ORDER, || format!("input and answer have no column {passed:?}"))?;
        let context = BuildContext { mock: true, ..BuildContext::of(env.clone(), "call", inputs) };
        let built = self.config.build(&context).map_err(|e| Broken::new(BUILDS, e))?;
        let Operator::Call(call, limits) = built else { return Err(Broken::new(BUILDS, "it builds a stage or join")) };
        let run =
            Run { suite: self, env, call, rows: limits.rows, planned, passed, cardinality: self.config.cardinality() };
        run.answers().await?;
        run.together().await?;
        run.drops().await?;
        run.keys().await?;
        run.failures()
    }
}
