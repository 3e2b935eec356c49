//! `dedupe`: leaves one row of those that are alike, in a batch or among all that it remembers.

mod remember;

use std::collections::HashMap;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::data::units::Interval;
use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use remember::Remember;

/// Leaves one row of those that are alike, in a batch or among all that it remembers.
///
/// `dedupe: { by: [id], within: 1d }` lets the first row of each `id` pass and drops those that come within a day after it;
/// `keys: 1000000` remembers the newest million ids instead, and both together whichever is less. What it remembers is part of
/// the checkpoints of the job, so that a restart forgets nothing. It takes 40 bytes a key and the key itself.
///
/// With neither, it looks at one batch at a time and remembers nothing of it: two rows alike that come in two batches both
/// pass, and `keep: last` lets the last one stay. A `batch: { rows: 8192, within: 1s }` before it makes the batches as
/// large as they may be.
///
/// Without `by`, rows are alike when all of their columns are. Null is like null. The rows that stay keep their order, the
/// others count as filtered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dedupe {
    /// The columns that make rows alike; all of them when none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub by: Vec<String>,
    /// Which of the rows stays.
    #[serde(default)]
    pub keep: Which,
    /// How long a key is remembered behind the row that passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<Interval>,
    /// How many keys are remembered, in each lane; the oldest goes first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000_000))]
    pub keys: Option<usize>,
}

impl Dedupe {
    fn remembers(&self) -> bool {
        self.within.is_some() || self.keys.is_some()
    }
}

/// Which of the rows that are alike stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Which {
    /// The first of the batch.
    #[default]
    First,
    /// The last of the batch; not where rows of earlier batches are remembered, which have gone on.
    Last,
}

impl StageConfig for Dedupe {
    const NAME: &'static str = "dedupe";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut problems = Keys::new(&inputs[0], &self.by, "by").err().map(|Problems(p)| p).unwrap_or_default();
        if self.remembers() && self.keep == Which::Last {
            let problem = Problem::new("the first row of a key has gone on when the last one comes").under("keep");
            problems.push(problem.help("leave out `keep`, or `within` and `keys`"));
        }
        if self.within == Some(Interval(Duration::ZERO)) {
            problems.push(Problem::new("nothing is remembered for no time").under("within"));
        }
        Problems::check(problems)?;
        Ok(inputs[0].clone())
    }

    fn distribution(&self) -> Distribution {
        match (self.remembers(), self.by.is_empty()) {
            (false, _) => Distribution::Any,
            // Which columns there are is not known here.
            (true, true) => Distribution::Single,
            (true, false) => Distribution::Keyed(self.by.clone()),
        }
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::AtMostOne
    }

    fn by_batch(&self, _: &[SchemaRef]) -> Option<Problem> {
        let note = "looks at one batch at a time: rows alike that come in two batches both stay";
        let help =
            "`keys: 1000000` or `within: 1d` remembers what has passed; a `batch` before it says that this is meant";
        (!self.remembers()).then(|| Problem::new(note).help(help))
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let keys = Keys::new(&context.inputs[0], &self.by, "by")
            .map_err(|Problems(mut p)| super::filter::as_error(p.swap_remove(0)))?;
        if self.remembers() {
            let within = self.within.map(|Interval(time)| time);
            return Ok(Operator::stage(Remember::new(&context.inputs[0], keys.columns(), within, self.keys)?));
        }
        Ok(Operator::stage(Unlike { keys, keep: self.keep }))
    }
}

struct Unlike {
    keys: Keys,
    keep: Which,
}

impl Stage for Unlike {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let keys = self.keys.of(rows)?;
        let mut stays = HashMap::with_capacity(rows.num_rows());
        let mut kept = vec![false; rows.num_rows()];
        for (row, key) in keys.iter().enumerate() {
            let stay = stays.entry(key.data()).or_insert(row);
            if self.keep == Which::Last {
                kept[*stay] = false;
                *stay = row;
            }
            kept[*stay] = true;
        }
        super::sample::emit(rows, &kept.into(), out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::column::told;
    use bourn_engine::rows;
    use bourn_engine::testing::conformance;
    use bourn_engine::testing::harness::Harness;
    use serde_json::{Value, json};

    fn dedupe(config: Value) -> Dedupe {
        serde_json::from_value(config).unwrap()
    }

    fn events() -> RecordBatch {
        rows![
            {"id": 1, "tags": ["a"], "n": 0}, {"id": 2, "tags": [], "n": 1}, {"id": 1, "tags": ["a"], "n": 2},
            {"id": null, "tags": [], "n": 3}, {"id": 2, "tags": ["b"], "n": 4}, {"id": null, "tags": [], "n": 5},
            {"id": 1, "tags": ["a"], "n": 0},
        ]
    }

    /// The places of the rows that stay.
    fn kept(config: Value) -> Vec<Value> {
        let mut stage = Harness::new(&dedupe(config), &[events().schema()]).unwrap();
        stage.process(&events()).unwrap();
        assert_eq!(stage.said.count(0) + stage.said.filtered, events().num_rows());
        stage.said.rows(0).iter().map(|r| r["n"].clone()).collect()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(dedupe(json!({"by": ["id"]})), events()).chunking_matters().check();
        conformance::stage(dedupe(json!({"keep": "last"})), events()).chunking_matters().check();
    }

    #[test]
    fn one_row_of_those_alike_stays_in_the_order_of_the_batch() {
        assert_eq!(kept(json!({"by": ["id"]})), [0, 1, 3]);
        assert_eq!(kept(json!({"by": ["id"], "keep": "last"})), [4, 5, 0]);
        assert_eq!(kept(json!({"by": ["id", "tags"]})), [0, 1, 3, 4]);
        assert_eq!(kept(json!({})), [0, 1, 2, 3, 4, 5]);
    }

    #[test]
    fn two_batches_know_nothing_of_each_other() {
        let mut stage = Harness::new(&dedupe(json!({"by": ["id"]})), &[events().schema()]).unwrap();
        stage.process(&events().slice(0, 1)).unwrap();
        stage.process(&events().slice(2, 1)).unwrap();
        assert_eq!(stage.said.count(0), 2);
    }

    #[test]
    fn an_unknown_column_is_a_problem_with_its_place() {
        let said = told(dedupe(json!({"by": ["id", "idd"]})).schema(&[events().schema()]));
        assert_eq!(said, ["by.1 | unknown column `idd` | did you mean `id`?"]);
    }
}
