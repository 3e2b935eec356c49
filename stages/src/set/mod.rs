//! `set`: a value made of the row itself.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, CallContext, Cardinality, Limits, Operator, StageConfig};
use bourn_engine::diagnostic::Problems;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, Answer, Ask, PerRow};
use crate::places::{Check, Document};

/// Adds a column with a JSON value that is made of the row.
///
/// `set: { value: { who: "${user.name}", tags: ["${tag}"] } }`. A text that is one place and nothing else becomes the
/// value there, with its type; in other texts places are filled in as text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// The value: any JSON, with places such as `${column.path}` in its texts.
    pub value: Value,
    /// The column that gets it.
    #[serde(default = "answer::default_output")]
    pub output: String,
    /// What bounds it; nothing outside is asked, so there is rarely a need.
    #[serde(default)]
    pub limits: Limits,
}

impl StageConfig for Set {
    const NAME: &'static str = "set";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        check.document(&["value".into()], &self.value);
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let fill = Fill(Document::read(&self.value)?);
        Ok(Operator::call(PerRow::new(fill, &context.inputs[0], &self.output)?, self.limits.clone()))
    }
}

struct Fill(Document);

impl Ask for Fill {
    async fn ask(&self, rows: &RecordBatch, row: usize, _context: &CallContext) -> Result<Answer> {
        Ok(self.0.value(rows, row)?.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::simulation::Simulation;
    use serde_json::json;

    #[test]
    fn it_keeps_the_promises_of_a_call() {
        let set: Set = serde_json::from_value(json!({"value": {"id": "${id}"}, "limits": {"rows": 2}})).unwrap();
        let simulation = Simulation::new(1);
        let rows = rows![{"id": 1}, {"id": 2}, {"id": 3}];
        simulation.run(conformance::call(set, rows).passing("id").check(&simulation.env())).done();
    }

    #[test]
    fn an_unknown_column_is_a_problem_in_the_value() {
        let set: Set = serde_json::from_value(json!({"value": ["${idd}"], "output": "_bourn_x"})).unwrap();
        let problems = set.schema(&[rows![{"id": 1}].schema()]).unwrap_err().0;
        assert_eq!(problems[0].path, ["value".into(), 0.into()]);
        assert_eq!(problems[1].path, ["output".into()]);
    }
}
