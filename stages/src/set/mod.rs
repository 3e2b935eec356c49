//! `set`: a value made of the row itself.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::Problems;
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer;
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
}

impl StageConfig for Set {
    const NAME: &'static str = "set";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        check.document(&["value".into()], &self.value);
        check.finish(answer::schema(&inputs[0], &self.output))
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
        let schema = answer::schema(&context.inputs[0], &self.output).map_err(|p| Error::validation(p.message))?;
        Ok(Operator::stage(Fill { value: Document::read(&self.value)?, output: self.output.clone(), schema }))
    }
}

struct Fill {
    value: Document,
    output: String,
    schema: SchemaRef,
}

impl Stage for Fill {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        answer::fill(rows, (&self.output, &self.schema), out, |row| self.value.value(rows, row))?;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;
    use serde_json::json;

    fn set(config: Value) -> Set {
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(set(json!({"value": {"id": "${id}"}})), rows![{"id": 1}, {"id": 2}, {"id": 3}]).check();
    }

    #[test]
    fn a_row_without_the_value_is_rejected_alone() {
        let rows = rows![{"n": 1, "l": [1, 2]}, {"n": 2, "l": [3]}, {"n": 3, "l": [4, null]}, {"n": 4, "l": null}];
        // The column that is replaced stays where it was.
        let mut stage = Harness::new(&set(json!({"value": "${l[1]}", "output": "n"})), &[rows.schema()]).unwrap();
        stage.process(&rows).unwrap();
        assert_eq!(stage.said.rows(0), [json!({"n": 2, "l": [1, 2]}), json!({"n": null, "l": [4, null]})]);
        let rejected: Vec<_> = stage.said.rejected.iter().map(|r| r.error.message().to_owned()).collect();
        let told = |what: &str| format!("`${{l[1]}}` has no value: no `[1]` in {what}");
        assert_eq!(rejected, [told("a list"), told("null")]);
    }

    #[test]
    fn an_unknown_column_is_a_problem_in_the_value() {
        let problems = set(json!({"value": ["${idd}"], "output": "_bourn_x"})).schema(&[rows![{"id": 1}].schema()]);
        let problems = problems.unwrap_err().0;
        assert_eq!(problems[0].path, ["value".into(), 0.into()]);
        assert_eq!(problems[1].path, ["output".into()]);
    }
}
