//! Rows of a pipeline as runs of a workflow: what a run has is added before it, and what the workflow gave is a column behind it.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{ADMISSION, RUN, cell};
use super::record::{Failure, Record};
use crate::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use crate::data::columns::{RUN_ID, json_field};
use crate::diagnostic::{Problem, Problems};
use crate::error::{Error, Kind, Result};
use crate::state::{StateVisitor, Value};

/// Makes a run of each row.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RunConfig {
    /// The id of the stage in the spec.
    pub stage: String,
}

impl RunConfig {
    fn output(input: &SchemaRef) -> Result<SchemaRef, Problem> {
        if input.index_of(RUN_ID).is_ok() {
            return Err(Problem::new("a row can't be a run of two workflows at once"));
        }
        let own = [
            Field::new(RUN_ID, DataType::Utf8, false),
            Field::new(RUN, DataType::UInt64, false),
            json_field(ADMISSION),
        ];
        let fields = input.fields().iter().cloned().chain(own.map(Arc::new));
        Ok(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
    }
}

impl StageConfig for RunConfig {
    const NAME: &'static str = "runs";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(Self::output(&inputs[0])?)
    }

    fn distribution(&self) -> Distribution {
        Distribution::Single
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = Self::output(&context.inputs[0]).map_err(|p| Error::validation(p.message))?;
        // Of two jobs no two runs have one name; a job that goes on has that of before.
        let name = format!("{}-{:016x}", self.stage, context.env.random());
        Ok(Operator::stage(Runs { schema, name: Value::new(name), next: Value::new(0) }))
    }
}

struct Runs {
    schema: SchemaRef,
    /// What the names of runs begin with.
    name: Value<String>,
    /// The number of the next run.
    next: Value<u64>,
}

impl Stage for Runs {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let first = *self.next.get();
        let numbers: Vec<u64> = (first..).take(rows.num_rows()).collect();
        self.next.set(first + rows.num_rows() as u64);
        let name = self.name.get();
        let own: [ArrayRef; 3] = [
            Arc::new(StringArray::from_iter_values(numbers.iter().map(|number| format!("{name}-{number}")))),
            Arc::new(UInt64Array::from(numbers)),
            Arc::new(StringArray::new_null(rows.num_rows())),
        ];
        out.emit(RecordBatch::try_new(self.schema.clone(), rows.columns().iter().cloned().chain(own).collect())?);
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("name", &mut self.name)?;
        visitor.piece("next", &mut self.next)
    }
}

/// Makes rows of runs again: with what the workflow gave, or rejected when it failed.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RowConfig {
    /// The column with the record.
    pub record: String,
    /// The column that gets the result.
    pub output: String,
}

impl RowConfig {
    /// The places of the columns of the row, without the one that is replaced, and the columns that leave.
    fn columns(&self, input: &SchemaRef) -> (Vec<usize>, SchemaRef) {
        let engine = [RUN_ID, RUN, ADMISSION, self.record.as_str()];
        let is_kept = |i: &usize| {
            let name = input.field(*i).name().as_str();
            !engine.contains(&name)
        };
        let kept: Vec<usize> = (0..input.fields().len()).filter(is_kept).collect();
        let field = |i: &usize| match input.fields()[*i].clone() {
            field if *field.name() == self.output => Arc::new(json_field(&self.output)),
            field => field,
        };
        let mut fields: Vec<_> = kept.iter().map(field).collect();
        if input.index_of(&self.output).is_err() {
            fields.push(Arc::new(json_field(&self.output)));
        }
        (kept, Arc::new(Schema::new(fields)))
    }
}

impl StageConfig for RowConfig {
    const NAME: &'static str = "workflow";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(self.columns(&inputs[0]).1)
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let (kept, schema) = self.columns(&context.inputs[0]);
        Ok(Operator::stage(Rows { config: self.clone(), kept, schema }))
    }
}

struct Rows {
    config: RowConfig,
    kept: Vec<usize>,
    schema: SchemaRef,
}

impl Stage for Rows {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let (mut results, mut places) = (Vec::new(), Vec::new());
        let plain = rows.project(&self.kept)?;
        for row in 0..rows.num_rows() {
            let record = cell(rows, &self.config.record, row)?.ok_or_else(|| Error::engine("a run has no record"))?;
            let record: Record = serde_json::from_str(record)?;
            if record.has_results() {
                places.push(row as u64);
                results.push(record.results.filter(|value| !value.is_null()).map(|value| value.to_string()));
            } else {
                out.reject(plain.slice(row, 1), error(record));
            }
        }
        let plain = arrow::compute::take_record_batch(&plain, &UInt64Array::from(places))?;
        let results: ArrayRef = Arc::new(StringArray::from(results));
        let columns = self.schema.fields().iter().map(|field| match plain.column_by_name(field.name()) {
            Some(column) if *field.name() != self.config.output => column.clone(),
            _ => results.clone(),
        });
        out.emit(RecordBatch::try_new(self.schema.clone(), columns.collect())?);
        Ok(Progress::Done)
    }
}

/// The failure of a run as an error of its row.
fn error(record: Record) -> Error {
    let reason = record.reason.unwrap_or_else(|| "the workflow gave nothing".into());
    let Some(Failure { class, message, .. }) = record.error else { return Error::new(Kind::Other, reason) };
    let kind = match class.as_str() {
        "rate_limit" => Kind::RateLimit,
        "timeout" => Kind::Timeout,
        "validation" => Kind::Validation,
        "budget" => Kind::Budget,
        "canceled" => Kind::Canceled,
        "engine" => Kind::Engine,
        _ => Kind::Other,
    };
    Error::new(kind, message)
}
