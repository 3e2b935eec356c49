//! `sql`: one query over the rows of each batch.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_expr::Query;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::as_error;
use crate::column::is_reserved;

/// Runs one SQL query over the rows of each batch, which are the table `input`.
///
/// `sql: select origin, count(*) as flights, max(delay) as worst from input where delay > 0 group by origin`. There are
/// expressions and aggregates, `distinct`, `where`, `group by`, `having`, `order by`, `limit` and `offset`, a `select` in
/// brackets in place of `input`, and `with`. Joins, unions, windows and subqueries in expressions are refused.
///
/// It knows one batch and no other: a group that comes in two batches leaves two rows, and a sorted batch follows a
/// sorted batch. A `batch` before it makes batches of one size. `map` and `filter` say the same of single rows, and
/// windows of time, which span batches, come later. In a batch with a row that can't be worked (a failing cast, say) that row is
/// rejected alone, and the rest is worked in two or more parts, as if it had come in several batches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Sql(
    /// The query.
    pub String,
);

impl StageConfig for Sql {
    const NAME: &'static str = "sql";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let query = Query::compile(&self.0, &inputs[0])?;
        let names = |schema: &SchemaRef| schema.fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>();
        let (enters, leaves) = (names(&inputs[0]), names(query.schema()));
        let mut problems = Vec::new();
        for name in enters.iter().filter(|n| is_reserved(n) && !leaves.contains(n)) {
            let problem = Problem::new(format!("the engine must know `{name}` of every row, and the query drops it"));
            problems.push(problem.help(format!("choose it as well: `select \"{name}\", …`")));
        }
        for (n, name) in leaves.iter().enumerate().filter(|(n, name)| leaves[..*n].contains(name)) {
            let problem = Problem::new(format!("two columns would be called `{name}`"));
            problems.push(problem.help(format!("name the column {} with `as`", n + 1)));
        }
        Problems::check(problems)?;
        Ok(query.schema().clone())
    }

    fn by_batch(&self, inputs: &[SchemaRef]) -> Option<Problem> {
        let does = Query::compile(&self.0, &inputs[0]).ok()?.by_batch()?;
        let note = format!("{does} the rows of each batch by itself, not of all that come");
        let help = "a `batch` before it makes batches larger, and says that this is meant";
        Some(Problem::new(note).help(help))
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        Ok(Operator::stage(Run(Query::compile(&self.0, &context.inputs[0]).map_err(as_error)?)))
    }
}

struct Run(Query);

impl Stage for Run {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        out.emit(self.0.run(rows)?);
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::told;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;
    use serde_json::json;

    fn flights() -> RecordBatch {
        rows![
            {"id": 1, "origin": "JFK", "delay": 20, "n": "1"}, {"id": 2, "origin": "LAX", "delay": null, "n": "2"},
            {"id": 3, "origin": "JFK", "delay": -4, "n": "x"}, {"id": 4, "origin": "LAX", "delay": 16, "n": "4"},
        ]
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(Sql("select id, delay / 60.0 as hours from input where delay > 0".into()), flights())
            .check();
        let groups = "select origin, count(*) as n, sum(delay) as s from input group by origin order by origin";
        conformance::stage(Sql(groups.into()), flights()).chunking_matters().check();
        let failing = Sql("select cast(n as bigint) as n from input".into());
        conformance::stage(failing, flights()).failing(flights()).check();
    }

    #[test]
    fn each_batch_has_its_own_result() {
        let sql = Sql("select origin, count(*) as n from input group by origin".into());
        let mut stage = Harness::new(&sql, &[flights().schema()]).unwrap();
        stage.process(&flights()).unwrap();
        stage.process(&flights().slice(2, 1)).unwrap();
        let expected = [("JFK", 2), ("LAX", 2), ("JFK", 1)].map(|(o, n)| json!({"origin": o, "n": n}));
        assert_eq!(stage.said.rows(0), expected);
    }

    #[test]
    fn a_row_that_can_not_be_worked_is_rejected_alone() {
        let sql = Sql("select sum(cast(n as bigint)) as s from input".into());
        let mut stage = Harness::new(&sql, &[flights().schema()]).unwrap();
        stage.process_bisecting(&flights());
        assert_eq!((stage.said.rows(0), stage.said.rejections()), (vec![json!({"s": 3}), json!({"s": 4})], 1));
    }

    #[test]
    fn a_bad_query_is_a_problem_that_points_into_it() {
        let problem = Sql("select dely from input".into()).schema(&[flights().schema()]).unwrap_err().0.remove(0);
        assert_eq!((problem.part, problem.help), (Some(7..11), Some("did you mean `delay`?".into())));
    }

    #[test]
    fn what_the_engine_must_know_of_a_row_can_not_be_dropped() {
        let rows = rows![{"a": 1, "_bourn_run_id": "r1"}];
        assert_eq!(
            told(Sql("select a from input".into()).schema(&[rows.schema()])),
            [
                " | the engine must know `_bourn_run_id` of every row, and the query drops it | choose it as well: `select \"_bourn_run_id\", …`"
            ]
        );
        assert!(Sql("select * from input".into()).schema(&[rows.schema()]).is_ok());
    }
}
