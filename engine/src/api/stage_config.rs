//! The configuration of a stage: what a spec says below the stage's name.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::call::{BoxCall, Call};
use super::jobs::Jobs;
use super::join::{BoxJoin, Join};
use super::limits::Limits;
use super::stage::{BoxStage, Stage};
use crate::diagnostic::{Problem, Problems};
use crate::env::Env;

/// The configuration of a stage. Its doc comments become the page of `bourn list NAME`, its fields the JSON Schema of the
/// spec; give it `#[serde(deny_unknown_fields)]`, so that a slip in a key is an error.
pub trait StageConfig: DeserializeOwned + Serialize + JsonSchema + Send + Sync + 'static {
    /// The key in a spec.
    const NAME: &'static str;

    /// The schema of the rows that leave by the main port, given that of each input. Asked at planning, so this is where
    /// expressions are checked; all faults are told at once.
    ///
    /// # Errors
    /// When the configuration does not fit the inputs.
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems>;

    /// The schema of the rows that leave by another port, by default that of the main one.
    ///
    /// # Errors
    /// When the configuration does not fit the inputs.
    fn port_schema(&self, port: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let _ = port;
        self.schema(inputs)
    }

    /// How rows must be spread over lanes.
    fn distribution(&self) -> Distribution {
        Distribution::Any
    }

    /// The names of its ports beside the main one; a reader says `from: stage.port`. They may depend on the configuration.
    fn ports(&self) -> Vec<String> {
        Vec::new()
    }

    /// How many inputs it reads.
    fn inputs(&self) -> Inputs {
        Inputs::Merged
    }

    /// How many rows leave for one that enters; the engine checks the count.
    fn cardinality(&self) -> Cardinality {
        Cardinality::Many
    }

    /// What it does with each batch by itself, where a reader may think of all rows: groups, sorts, drops what is alike. `bourn
    /// validate` and `bourn plan` tell it, unless the stage before [makes batches](StageConfig::makes_batches). Asked at planning,
    /// once the schema is agreed.
    fn by_batch(&self, inputs: &[SchemaRef]) -> Option<Problem> {
        let _ = inputs;
        None
    }

    /// Whether it is there to make batches: what works batch by batch behind it is meant so.
    fn makes_batches(&self) -> bool {
        false
    }

    /// What it waits for, when it does nothing else: in a workflow the journal keeps the wait, over restarts.
    fn waits(&self) -> Option<WaitFor> {
        None
    }

    /// Why its calls give no sign of life ([`Bill::alive`](super::Bill::alive)) before they have answered, so that none can be missed; `None`
    /// when they give some.
    fn silent(&self) -> Option<&'static str> {
        Some(SILENT)
    }

    /// Whether it changes nothing outside: steps of a workflow that do may run side by side always.
    fn is_stateless(&self) -> bool {
        false
    }

    /// Whether it asks nobody and is soon done: what it makes of a row depends on the row alone. Steps of a workflow that do and could
    /// run side by side stand in a line instead, which costs less than the way to each of them.
    fn is_pure(&self) -> bool {
        false
    }

    /// One instance, for one lane. Nothing of the configuration can be at fault any more, since [`StageConfig::schema`] agreed.
    ///
    /// # Errors
    /// When something outside is not as it was at planning.
    fn build(&self, context: &BuildContext) -> crate::Result<Operator>;
}

/// Most that is asked says nothing until its answer is there.
pub(super) const SILENT: &str = "it says nothing until it has answered";

/// What is waited for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitFor {
    /// How long; for a signal, at most.
    pub time: Option<Duration>,
    /// The name of a signal.
    pub signal: Option<String>,
    /// Whether a person decides what a step gives that has failed: what comes is its results, or a refusal.
    pub decision: bool,
}

/// What an instance is made with.
#[derive(Clone, Debug)]
pub struct BuildContext {
    /// The world.
    pub env: Env,
    /// The id of the stage in the spec.
    pub id: String,
    /// Which lane, from 0.
    pub lane: usize,
    /// Of how many.
    pub lanes: usize,
    /// The schema of each input.
    pub inputs: Vec<SchemaRef>,
    /// Whether model calls must go to the mock model in the process.
    pub mock: bool,
    /// What runs a pipeline for it; none where nothing runs yet.
    pub jobs: Option<Arc<dyn Jobs>>,
}

impl BuildContext {
    /// The only lane of a stage, which may ask real models and runs no jobs.
    pub fn of(env: Env, id: impl Into<String>, inputs: Vec<SchemaRef>) -> Self {
        Self { env, id: id.into(), lane: 0, lanes: 1, inputs, mock: false, jobs: None }
    }
}

/// What runs.
pub enum Operator {
    /// A synchronous stage.
    Stage(BoxStage),
    /// A stage with two inputs.
    Join(BoxJoin),
    /// An asynchronous call, and what bounds it.
    Call(BoxCall, Limits),
}

impl Operator {
    /// A synchronous stage.
    pub fn stage(stage: impl Stage) -> Self {
        Self::Stage(BoxStage::new(stage))
    }

    /// A stage with two inputs.
    pub fn join(join: impl Join) -> Self {
        Self::Join(BoxJoin::new(join))
    }

    /// An asynchronous call within `limits`.
    pub fn call(call: impl Call, limits: Limits) -> Self {
        Self::Call(BoxCall::new(call), limits)
    }
}

/// How rows must be spread over lanes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Distribution {
    /// Any lane may get any row.
    Any,
    /// Rows with equal values in these columns go to one lane.
    Keyed(Vec<String>),
    /// There is one lane.
    Single,
    /// Every lane gets every row.
    Broadcast,
}

/// How many inputs a stage reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// One or more of the same schema, merged in the order of arrival.
    Merged,
    /// Two, told apart: a [`Join`].
    Two,
}

/// How many rows leave, by all ports together, for one that enters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    /// One, unless it is rejected: `in = out + rejected + held`.
    One,
    /// One or none: `in = out + filtered + rejected + late + held`.
    AtMostOne,
    /// Any number.
    Many,
}
