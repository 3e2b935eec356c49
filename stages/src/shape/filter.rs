//! `filter`: keeps the rows for which a condition is true.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use bourn_expr::Predicate;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Keeps the rows for which a condition in SQL is true.
///
/// `filter: delay > 15 and origin = 'JFK'`. Null counts as not true, as in SQL. A row for which the condition can't be
/// worked out (a failing cast, say) is rejected alone; rows that are not kept are counted as filtered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Filter(
    /// The condition.
    pub String,
);

impl StageConfig for Filter {
    const NAME: &'static str = "filter";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Predicate::compile(&self.0, &inputs[0])?;
        Ok(inputs[0].clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::AtMostOne
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Keep(predicate(&self.0, &context.inputs[0])?)))
    }
}

/// A condition that planning has agreed to.
pub(crate) fn predicate(sql: &str, schema: &SchemaRef) -> Result<Predicate> {
    Predicate::compile(sql, schema).map_err(as_error)
}

/// A problem that can't be placed any more.
pub(crate) fn as_error(problem: Problem) -> Error {
    Error::validation(problem.message)
}

struct Keep(Predicate);

impl Stage for Keep {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let kept = self.0.select(rows)?;
        out.filtered(rows.num_rows() - kept.num_rows());
        out.emit(kept);
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

    fn flights() -> RecordBatch {
        rows![{"id": 1, "delay": 20}, {"id": 2, "delay": null}, {"id": 3, "delay": -4}, {"id": 4, "delay": 16}]
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(Filter("delay > 15".into()), flights()).failing(rows![{"id": 1, "delay": 1}]).check();
        let text = rows![{"n": "1"}, {"n": "x"}, {"n": "3"}];
        conformance::stage(Filter("cast(n as int) > 1".into()), text.clone()).failing(text).check();
    }

    #[test]
    fn rows_that_are_not_kept_are_counted() {
        let mut stage = Harness::new(&Filter("delay > 15".into()), &[flights().schema()]).unwrap();
        stage.process(&flights()).unwrap();
        assert_eq!(stage.said.rows(0), [json!({"id": 1, "delay": 20}), json!({"id": 4, "delay": 16})]);
        assert_eq!((stage.said.filtered, stage.said.rejections()), (2, 0));
    }

    #[test]
    fn a_bad_condition_is_a_problem_that_points_into_it() {
        let problem = Filter("dely > 15".into()).schema(&[flights().schema()]).unwrap_err().0.remove(0);
        assert_eq!(
            (problem.path, problem.part, problem.help),
            (vec![], Some(0..4), Some("did you mean `delay`?".into()))
        );
        let problem = Filter("delay".into()).schema(&[flights().schema()]).unwrap_err().0.remove(0);
        assert_eq!(problem.message, "a condition is true or false, and this is bigint");
    }

    #[test]
    fn a_row_that_can_not_be_worked_fails_the_batch_so_that_the_engine_finds_it() {
        let text = rows![{"n": "1"}, {"n": "x"}];
        let mut stage = Harness::new(&Filter("cast(n as int) > 0".into()), &[text.schema()]).unwrap();
        let error = stage.process(&text).unwrap_err();
        assert_eq!(error.message(), "`cast(n as int) > 0`: cannot cast string 'x' to value of int type");
        assert_eq!(stage.said.emitted(), 0);
    }
}
