//! `count`: numbers the rows of each key.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{BuildContext, Cardinality, Distribution, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::state::{StateVisitor, Table};
use bourn_engine::{Error, Kind, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::Keys;
use crate::column;

/// Numbers the rows of each key, in the order in which they come.
///
/// `count: { by: [user], as: visit }` adds a column `visit` that is 1 in the first row of a user, 2 in the second, and so on:
/// a `filter: visit <= 3` behind it keeps the first three of each. The counts are part of the checkpoints of the job, so that
/// a restart goes on counting. They take some 16 bytes a key and the key itself; those that do not fit into the state's share of `limits.memory` go to
/// the disk, if the job keeps checkpoints. A job that meets more than `keys` of them ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Count {
    /// The columns that make a key.
    #[schemars(length(min = 1))]
    pub by: Vec<String>,
    /// The name of the column that is added.
    #[serde(rename = "as", default = "column_name")]
    pub name: String,
    /// The most keys in each lane.
    #[serde(default = "keys_max")]
    #[schemars(range(min = 1, max = 4_000_000_000_u64))]
    pub keys: u64,
}

fn column_name() -> String {
    "count".into()
}

fn keys_max() -> u64 {
    10_000_000
}

impl Count {
    fn keys_of(&self, input: &SchemaRef) -> Result<Keys, Problems> {
        if self.by.is_empty() {
            return Err(Problem::new("no column is named").under("by").into());
        }
        Keys::new(input, &self.by, "by")
    }

    fn with_count(&self, input: &SchemaRef) -> SchemaRef {
        let count = Arc::new(Field::new(&self.name, DataType::Int64, false));
        Arc::new(Schema::new(input.fields().iter().cloned().chain([count]).collect::<Vec<_>>()))
    }
}

impl StageConfig for Count {
    const NAME: &'static str = "count";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut problems = self.keys_of(&inputs[0]).err().map(|Problems(p)| p).unwrap_or_default();
        if column::is_reserved(&self.name) {
            problems.push(column::reserved(&self.name).under("as"));
        } else if inputs[0].column_with_name(&self.name).is_some() {
            let problem = Problem::new(format!("there is a column `{}` already", self.name)).under("as");
            problems.push(problem.help("give the count another name: `as: n`"));
        }
        Problems::check(problems)?;
        Ok(self.with_count(&inputs[0]))
    }

    fn distribution(&self) -> Distribution {
        Distribution::Keyed(self.by.clone())
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let input = &context.inputs[0];
        let keys = self.keys_of(input).map_err(|Problems(mut p)| super::filter::as_error(p.swap_remove(0)))?;
        let columns = keys.columns().to_vec();
        let table = Table::new(columns.iter().map(|at| input.field(*at).data_type().clone()))?;
        Ok(Operator::stage(Counts { columns, table, most: self.keys, schema: self.with_count(input) }))
    }
}

struct Counts {
    columns: Vec<usize>,
    table: Table<i64>,
    most: u64,
    schema: SchemaRef,
}

impl Stage for Counts {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let keys: Vec<ArrayRef> = self.columns.iter().map(|at| rows.column(*at).clone()).collect();
        let slots = self.table.slots(&keys)?;
        if self.table.len() as u64 > self.most {
            let message =
                format!("more than {} keys are to be counted in one lane; `keys` says how many may be", self.most);
            return Err(Error::new(Kind::Budget, message));
        }
        let count = |(slot, _)| {
            let count = self.table.get_mut(slot);
            *count += 1;
            *count
        };
        let counted = Int64Array::from_iter_values(slots.into_iter().map(count));
        let columns = rows.columns().iter().cloned().chain([Arc::new(counted) as ArrayRef]).collect();
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(Progress::Done)
    }

    fn visit_state(&mut self, visitor: &mut dyn StateVisitor) -> Result<()> {
        visitor.piece("counts", &mut self.table)
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

    fn config(config: Value) -> Count {
        serde_json::from_value(config).unwrap()
    }

    fn visits() -> RecordBatch {
        rows![{"user": "a"}, {"user": "b"}, {"user": "a"}, {"user": null}, {"user": "a"}, {"user": null}]
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        conformance::stage(config(json!({"by": ["user"]})), visits()).check();
    }

    #[test]
    fn rows_are_numbered_by_key_and_a_restart_goes_on() {
        let stage = || Harness::new(&config(json!({"by": ["user"], "as": "n"})), &[visits().schema()]).unwrap();
        let (mut before, mut after) = (stage(), stage());
        before.process(&visits()).unwrap();
        let numbers: Vec<_> = before.said.rows(0).iter().map(|r| r["n"].clone()).collect();
        assert_eq!(numbers, [1, 1, 2, 1, 3, 2]);
        after.restore(before.snapshot().unwrap()).unwrap();
        after.process(&rows![{"user": "a"}, {"user": "c"}]).unwrap();
        assert_eq!(after.said.rows(0), [json!({"user": "a", "n": 4}), json!({"user": "c", "n": 1})]);
    }

    #[test]
    fn too_many_keys_and_slips_are_told() {
        let mut few = Harness::new(&config(json!({"by": ["user"], "keys": 2})), &[visits().schema()]).unwrap();
        let error = few.process(&visits()).unwrap_err();
        assert_eq!((error.kind(), error.message().contains("more than 2 keys")), (Kind::Budget, true));
        let said = told(config(json!({"by": ["usr"], "as": "user"})).schema(&[visits().schema()]));
        assert_eq!(said.len(), 2, "{said:?}");
        assert_eq!(said[1], "as | there is a column `user` already | give the count another name: `as: n`");
        assert_eq!(told(config(json!({"by": []})).schema(&[visits().schema()])), ["by | no column is named | "]);
    }
}
