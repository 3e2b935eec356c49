//! A step that chooses which steps come next.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::compute::take_record_batch;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use serde_json::{Value, json};

use crate::api::erased::ErasedStage;
use crate::api::template::Template;
use crate::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage};
use crate::data::columns::json_field;
use crate::diagnostic::Problems;
use crate::error::{Error, Result};

/// The column that it adds.
const CHOSEN: &str = "chosen";

/// The ways out of a switch. It can't be read from a spec by itself, so it has no `StageConfig` of its own.
#[derive(Clone)]
pub(crate) struct SwitchConfig {
    pub ways: Vec<Way>,
}

/// A way out of it.
#[derive(Clone)]
pub(crate) struct Way {
    /// When it is taken; always, if none.
    pub when: Option<Template>,
    /// The ids of the steps that come next.
    pub then: Vec<String>,
}

/// What a condition gives; anything but true and false is an error.
pub(crate) fn holds(condition: &Template, rows: &RecordBatch, row: usize, key: &str) -> Result<bool> {
    match condition.value(rows, row)? {
        Value::Bool(holds) => Ok(holds),
        other => Err(Error::validation(format!("the condition is neither true nor false: {other}")).at_field(key)),
    }
}

impl ErasedStage for SwitchConfig {
    fn kind(&self) -> &'static str {
        "switch"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let fields = inputs[0].fields().iter().cloned().chain([Arc::new(json_field(CHOSEN))]);
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }

    fn is_stateless(&self) -> bool {
        true
    }

    fn is_pure(&self) -> bool {
        true
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = self.schema(&context.inputs).map_err(|Problems(_)| Error::engine("a switch has a schema"))?;
        Ok(Operator::stage(Switch { ways: self.ways.clone(), schema }))
    }

    fn describe(&self) -> Value {
        json!(self.ways.iter().map(|way| &way.then).collect::<Vec<_>>())
    }
}

struct Switch {
    ways: Vec<Way>,
    schema: SchemaRef,
}

impl Switch {
    /// The steps that come next: those of the first way that is open; none if none is.
    fn choose(&self, rows: &RecordBatch, row: usize) -> Result<&[String]> {
        for way in &self.ways {
            let is_open = way.when.as_ref().map_or(Ok(true), |when| holds(when, rows, row, "when"))?;
            if is_open {
                return Ok(&way.then);
            }
        }
        Ok(&[])
    }
}

impl Stage for Switch {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (mut good, mut chosen) = (Vec::new(), Vec::new());
        for row in 0..rows.num_rows() {
            match self.choose(rows, row) {
                Ok(steps) => {
                    good.push(row as u64);
                    chosen.push(serde_json::to_string(steps)?);
                }
                Err(error) => out.reject(rows.slice(row, 1), error),
            }
        }
        let rows = if good.len() < rows.num_rows() {
            take_record_batch(rows, &UInt64Array::from(good))?
        } else {
            rows.clone()
        };
        let columns = rows.columns().iter().cloned().chain([Arc::new(StringArray::from(chosen)) as ArrayRef]);
        out.emit(RecordBatch::try_new(self.schema.clone(), columns.collect())?);
        Ok(Progress::Done)
    }
}
