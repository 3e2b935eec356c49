//! `union`: many inputs as one.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig, merged};
use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Reads several inputs with the same columns as one: `union: {}` with `from: [a, b]`.
///
/// Rows leave in the order in which they arrive; those of one input keep theirs. Any stage may read several inputs in
/// this way; a `union` gives the result a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Union {}

impl StageConfig for Union {
    const NAME: &'static str = "union";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(united(inputs)?)
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = united(&context.inputs).map_err(super::filter::as_error)?;
        Ok(Operator::stage(Pass { schema }))
    }
}

/// Planning names inputs by their ids before it asks; by themselves they have only numbers.
fn united(inputs: &[SchemaRef]) -> Result<SchemaRef, Problem> {
    merged(inputs, |n| format!("input {}", n + 1))
}

struct Pass {
    schema: SchemaRef,
}

impl Stage for Pass {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        // Inputs may differ in what may be null.
        let same = rows.schema_ref() == &self.schema;
        let rows = rows.clone();
        out.emit(if same { rows } else { RecordBatch::try_new(self.schema.clone(), rows.columns().to_vec())? });
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::datatypes::{DataType, Field, Schema};
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;
    use std::sync::Arc;

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(Union {}, rows![{"a": 1}, {"a": 2}, {"a": 3}]).check();
    }

    #[test]
    fn inputs_with_other_columns_are_refused_by_the_name_of_the_column() {
        let inputs = [schema(&[("a", DataType::Int64)]), schema(&[("a", DataType::Utf8)])];
        let problem = Union {}.schema(&inputs).unwrap_err().0.remove(0);
        assert_eq!(problem.message, "column `a` is bigint in input 1 and text in input 2");
    }

    #[test]
    fn a_column_may_be_null_if_it_may_be_in_any_input() {
        let strict = Arc::new(Schema::new(vec![Field::new("a", DataType::Int64, false)]));
        let inputs = [strict.clone(), schema(&[("a", DataType::Int64)])];
        let planned = Union {}.schema(&inputs).unwrap();
        assert!(planned.field(0).is_nullable());
        let mut stage = Harness::new(&Union {}, &inputs).unwrap();
        let column = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        stage.process(&RecordBatch::try_new(strict, vec![column]).unwrap()).unwrap();
        assert_eq!(stage.said.ports[0][0].schema(), planned);
    }
}
