//! `union`: many inputs as one.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_expr::sql_name;
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
        Ok(merged(inputs)?)
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let schema = merged(&context.inputs).map_err(super::filter::as_error)?;
        Ok(Operator::stage(Pass { schema }))
    }
}

/// The columns that all inputs have; one may be null if it may be in any of them.
fn merged(inputs: &[SchemaRef]) -> Result<SchemaRef, Problem> {
    let (first, others) = inputs.split_first().ok_or_else(|| Problem::new("there is nothing to unite"))?;
    let mut fields: Vec<Field> = first.fields().iter().map(|f| f.as_ref().clone()).collect();
    for (n, other) in others.iter().enumerate() {
        differing(first, other, n + 2)?;
        for (field, other) in fields.iter_mut().zip(other.fields()) {
            let same = field.metadata() == other.metadata();
            let metadata = if same { std::mem::take(field.metadata_mut()) } else { HashMap::new() };
            let nullable = field.is_nullable() || other.is_nullable();
            *field = field.clone().with_nullable(nullable).with_metadata(metadata);
        }
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// Names the first column by which the input number `n` differs from the first.
fn differing(first: &Schema, other: &Schema, n: usize) -> Result<(), Problem> {
    let help = "bring the inputs to the same columns with `map` first";
    let said = |message: String| Err(Problem::new(message).help(help));
    for field in first.fields() {
        match other.field_with_name(field.name()) {
            Err(_) => return said(format!("column `{}` is in input 1 and not in input {n}", field.name())),
            Ok(f) if f.data_type() != field.data_type() => {
                let (one, another) = (sql_name(field.data_type()), sql_name(f.data_type()));
                return said(format!("column `{}` is {one} in input 1 and {another} in input {n}", field.name()));
            }
            Ok(_) => {}
        }
    }
    if let Some(more) = other.fields().iter().find(|f| first.field_with_name(f.name()).is_err()) {
        return said(format!("column `{}` is in input {n} and not in input 1", more.name()));
    }
    let unlike = |(a, b): (&Arc<Field>, &Arc<Field>)| (a.name() != b.name()).then(|| a.name().clone());
    match first.fields().iter().zip(other.fields()).find_map(unlike) {
        Some(name) => said(format!("column `{name}` stands at another place in input {n} than in input 1")),
        None => Ok(()),
    }
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
    use arrow::datatypes::DataType;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;

    fn schema(columns: &[(&str, DataType)]) -> SchemaRef {
        Arc::new(Schema::new(columns.iter().map(|(n, t)| Field::new(*n, t.clone(), true)).collect::<Vec<_>>()))
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(Union {}, rows![{"a": 1}, {"a": 2}, {"a": 3}]).check();
    }

    #[test]
    fn inputs_with_other_columns_are_refused_by_the_name_of_the_column() {
        use DataType::{Int64, Utf8};
        let first = schema(&[("a", Int64), ("b", Utf8)]);
        for (other, said) in [
            (schema(&[("a", Int64)]), "column `b` is in input 1 and not in input 3"),
            (schema(&[("a", Int64), ("b", Int64)]), "column `b` is text in input 1 and bigint in input 3"),
            (schema(&[("a", Int64), ("b", Utf8), ("c", Utf8)]), "column `c` is in input 3 and not in input 1"),
            (schema(&[("b", Utf8), ("a", Int64)]), "column `a` stands at another place in input 3 than in input 1"),
        ] {
            let problem = Union {}.schema(&[first.clone(), first.clone(), other]).unwrap_err().0.remove(0);
            assert_eq!(problem.message, said);
        }
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
