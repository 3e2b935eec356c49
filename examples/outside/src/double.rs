//! A stage: doubles a column, and rejects the rows whose double does not fit.

use std::sync::Arc;

use arrow::array::{AsArray, BooleanArray, Int64Array};
use arrow::compute::{filter_record_batch, not};
use arrow::datatypes::{DataType, Int64Type, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Doubles a column of whole numbers.
///
/// In a spec: `double: { column: n }`.
#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Double {
    /// The column.
    pub column: String,
}

impl StageConfig for Double {
    const NAME: &'static str = "double";

    // Asked at planning: a fault here points into the spec, and nothing has started yet.
    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        match inputs[0].field_with_name(&self.column) {
            Ok(field) if *field.data_type() == DataType::Int64 => Ok(inputs[0].clone()),
            Ok(_) => Err(Problem::new(format!("`{}` is no Int64", self.column)).under("column").into()),
            Err(_) => Err(Problem::new(format!("there is no column `{}`", self.column)).under("column").into()),
        }
    }

    // Each row leaves once or is rejected; the engine counts.
    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Doubling(context.inputs[0].index_of(&self.column)?)))
    }
}

struct Doubling(usize);

impl Stage for Doubling {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let numbers = rows.column(self.0).as_primitive::<Int64Type>();
        let fits: BooleanArray = numbers.iter().map(|n| Some(n.is_none_or(|n| n.checked_mul(2).is_some()))).collect();
        out.reject(filter_record_batch(rows, &not(&fits)?)?, Error::validation("its double is too large"));
        let rows = filter_record_batch(rows, &fits)?;
        let doubled: Int64Array =
            rows.column(self.0).as_primitive::<Int64Type>().iter().map(|n| n.map(|n| n * 2)).collect();
        let mut columns = rows.columns().to_vec();
        columns[self.0] = Arc::new(doubled);
        out.emit(RecordBatch::try_new(rows.schema(), columns)?);
        Ok(Progress::Done)
    }
}
