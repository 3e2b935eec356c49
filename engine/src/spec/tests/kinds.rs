//! A registry of small kinds for tests of specs.

use std::collections::BTreeMap;

use arrow::datatypes::SchemaRef;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Result;
use crate::api::{
    BuildContext, Capabilities, Connector, Delivery, Inputs, Limits, Operator, Registry, Replay, StageConfig,
};
use crate::data::units::{Interval, Rate};
use crate::diagnostic::Problems;

macro_rules! stage {
    ($type:ident, $name:literal $(, $method:item)*) => {
        impl StageConfig for $type {
            const NAME: &'static str = $name;
            fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
                Ok(inputs[0].clone())
            }
            $($method)*
            fn build(&self, _: &BuildContext) -> Result<Operator> {
                Err(crate::Error::unsupported("never built"))
            }
        }
    };
}

/// Keeps rows.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Filter(String);
stage!(Filter, "filter");

/// Makes columns.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Shape(BTreeMap<String, String>);
stage!(Shape, "map");

/// Sends rows to ports.
#[derive(Serialize, Deserialize, JsonSchema)]
pub(crate) struct Route(BTreeMap<String, String>);
stage!(
    Route,
    "route",
    fn ports(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }
);

/// Reads two.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Zip {}
stage!(
    Zip,
    "zip",
    fn inputs(&self) -> Inputs {
        Inputs::Two
    }
);

/// Asks a model.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ask {
    /// What to ask.
    prompt: String,
    /// Whom.
    model: Option<String>,
    /// What it is told before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    system: Option<String>,
    /// What the answer fits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    json_schema: Option<Value>,
    #[serde(default)]
    limits: Limits,
}
stage!(Ask, "model");

/// Gives a value.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Set {
    value: Value,
}
stage!(Set, "set");

/// Runs a program.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Process {
    command: Vec<String>,
}
stage!(Process, "process");

/// A file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct File {
    /// Where it is.
    path: String,
    /// How it is written.
    format: Option<Format>,
    /// How often it is read anew.
    every: Option<Interval>,
    rate: Option<Rate>,
}

/// The format of a file.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// JSON lines.
    Json,
    /// Parquet.
    Parquet,
}

impl Connector for File {
    const NAME: &'static str = "file";
    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true).and_sink(Delivery::Plain)
    }
}

/// Forgets.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Blackhole {}

impl Connector for Blackhole {
    const NAME: &'static str = "blackhole";
    fn capabilities(&self) -> Capabilities {
        Capabilities::sink(Delivery::Plain)
    }
}

/// All of them.
pub(crate) fn registry() -> Registry {
    let registry = Registry::new().stage::<Filter>().stage::<Shape>().stage::<Route>().stage::<Zip>();
    let registry = registry.stage::<Ask>().stage::<Set>().stage::<Process>();
    registry.connector::<File>().connector::<Blackhole>()
}
