//! The way past a step that asks somebody, for rows of which it asks nothing: they do not wait behind those that are asked for, so that a run
//! that is passed once more comes to its other steps at once, however many others wait for their turn here.

use std::sync::Arc;

use arrow::array::UInt64Array;
use arrow::compute::take_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::course::{Begin, Course};
use super::nested::with_record;
use super::record::Record;
use super::wiring::{Wiring, node};
use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use crate::diagnostic::{Key, Problems};
use crate::error::Result;
use crate::graph::{Input, Role};

/// The port by which they leave.
const PORT: &str = "aside";

/// Parts them from the others. It can't be read from a spec, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(super) struct AsideConfig {
    /// The step.
    pub id: Arc<str>,
    pub begin: Begin,
}

impl ErasedStage for AsideConfig {
    fn kind(&self) -> &'static str {
        "aside"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn port_schema(&self, _: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(with_record(&inputs[0], &self.id))
    }

    fn ports(&self) -> Vec<String> {
        vec![PORT.to_owned()]
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = with_record(&context.inputs[0], &self.id);
        let (id, env, begin) = (self.id.clone(), context.env.clone(), self.begin.clone());
        Ok(Operator::stage(Aside(Course { id, schema, env, begin })))
    }

    fn describe(&self) -> Value {
        json!({ "step": &*self.id })
    }
}

struct Aside(Course);

impl Stage for Aside {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (mut asked, mut aside, mut records) = (Vec::new(), Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            let record = match self.0.settled(rows, row) {
                Ok(record) => record,
                Err(error) => Some(serde_json::to_string(&Record::failed(&error, 1))?),
            };
            match record {
                None => asked.push(row as u64),
                Some(record) => {
                    aside.push(row as u64);
                    records.push(record);
                }
            }
        }
        if aside.is_empty() {
            out.emit(rows.clone());
            return Ok(Progress::Done);
        }
        let part = |places: Vec<u64>| take_record_batch(rows, &UInt64Array::from(places));
        out.emit_to(1, self.0.answer(&part(aside)?, records)?);
        if !asked.is_empty() {
            out.emit(part(asked)?);
        }
        Ok(Progress::Done)
    }
}

/// Both ways together again.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MeetConfig {}

impl StageConfig for MeetConfig {
    const NAME: &'static str = "meet";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, _: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Meet))
    }
}

struct Meet;

impl Stage for Meet {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        out.emit(rows.clone());
        Ok(Progress::Done)
    }
}

impl Wiring {
    /// The node before that of a step, by which the rows leave of which it asks nothing.
    pub(super) fn aside(&mut self, id: &str, config: AsideConfig, from: String, path: Vec<Key>) -> String {
        let aside = format!("@aside:{id}");
        self.stage(&aside, BoxStageConfig(Arc::new(config)), vec![from], path);
        aside
    }

    /// The node behind that of a step, where they come back.
    pub(super) fn meet(&mut self, id: &str, aside: String, path: Vec<Key>) -> String {
        let meet = format!("@meet:{id}");
        let mut node = node(&meet, Role::Stage(BoxStageConfig::new(MeetConfig {})), vec![id.to_owned()], path);
        node.inputs.push(Input { node: aside, port: Some(PORT.to_owned()) });
        self.graph.nodes.push(node);
        meet
    }
}
