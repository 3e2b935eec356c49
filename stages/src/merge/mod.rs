//! `merge`: several objects or lists as one.

mod reduce;

use std::collections::BTreeMap;

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
use reduce::Reducers;

/// Merges what several branches gave into one value.
///
/// `merge: { of: ["${old}", "${a}"], keys: { total: sum, names: append } }`. Members of objects are taken together. Where two
/// have one member with different values, `keys` says what becomes of it, by its name or by its way (`stock.berlin`), or `conflicts` for
/// all that are not named; if neither does, the row is rejected with the way to the member, so nothing is ever overwritten by chance.
/// Branches and members that are null are passed over. `of` may be one place with a list, such as the results of a `for_each`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Merge {
    /// What is merged, in this order: a list of values with places, or one place with a list.
    pub of: Value,
    /// What becomes of members by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub keys: BTreeMap<String, Reducer>,
    /// What becomes of all other members that differ.
    #[serde(default)]
    pub conflicts: Conflicts,
    /// The column that gets it.
    #[serde(default = "answer::default_output")]
    pub output: String,
}

/// What is made of two values of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reducer {
    /// The first one stays.
    First,
    /// The last one stays.
    Overwrite,
    /// Objects are merged, member by member.
    Deep,
    /// The elements of both, in order; what is no list is an element.
    Append,
    /// The same without elements that are there already.
    Union,
    /// Numbers are added.
    Sum,
    /// The smaller number.
    Min,
    /// The larger number.
    Max,
}

/// What becomes of members that differ and are not named.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conflicts {
    /// The row is rejected.
    #[default]
    Error,
    /// The first one stays.
    First,
    /// The last one stays.
    Overwrite,
    /// Objects are merged member by member, lists appended; anything else that differs rejects the row.
    Deep,
}

impl StageConfig for Merge {
    const NAME: &'static str = "merge";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        check.document(&["of".into()], &self.of);
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
        Ok(Operator::stage(Merging {
            of: Document::read(&self.of)?,
            reducers: Reducers { keys: self.keys.clone(), conflicts: self.conflicts },
            output: self.output.clone(),
            schema,
        }))
    }
}

struct Merging {
    of: Document,
    reducers: Reducers,
    output: String,
    schema: SchemaRef,
}

impl Merging {
    fn merged(&self, rows: &RecordBatch, row: usize) -> Result<Value> {
        let Value::Array(all) = self.of.value(rows, row)? else {
            return Err(Error::validation("there is no list of what is to be merged").at_field("of"));
        };
        self.reducers.merge(all)
    }
}

impl Stage for Merging {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        answer::fill(rows, (&self.output, &self.schema), out, |row| self.merged(rows, row))?;
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

    fn merge(config: Value) -> Merge {
        serde_json::from_value(config).unwrap()
    }

    #[test]
    fn it_keeps_the_promises_of_a_stage() {
        let config = merge(json!({"of": [{"id": "${id}"}, {"n": "${id}"}]}));
        conformance::stage(config, rows![{"id": 1}, {"id": 2}, {"id": 3}]).check();
    }

    #[test]
    fn members_that_differ_reject_their_row_alone_unless_it_is_said_what_becomes_of_them() {
        let rows = rows![{"a": 1, "b": 1}, {"a": 1, "b": 2}];
        let of = json!([{"x": "${a}", "y": 1}, {"x": "${b}"}, null]);
        let merged = |more: Value| {
            let mut config = json!({"of": of, "output": "m"});
            config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let mut stage = Harness::new(&merge(config), &[rows.schema()]).unwrap();
            stage.process(&rows).unwrap();
            let told: Vec<_> = stage.said.rejected.iter().map(|r| r.error.message().to_owned()).collect();
            let all: Vec<Value> = stage.said.rows(0).iter().map(|row| row["m"].clone()).collect();
            (all, told)
        };
        let same = json!({"x": 1, "y": 1});
        let (all, told) = merged(json!({}));
        assert_eq!(all, [same]);
        assert_eq!(
            told,
            ["`x` is 1 and 2: say what becomes of it under `keys`, or of all that differ under `conflicts`"]
        );
        assert_eq!(
            merged(json!({"keys": {"x": "sum"}})).0,
            [json!({"x": 2, "y": 1}), json!({"x": 3, "y": 1})],
            "also what is the same"
        );
        assert_eq!(merged(json!({"conflicts": "overwrite"})).0[1], json!({"x": 2, "y": 1}));
    }

    #[test]
    fn a_place_with_a_list_is_merged_and_what_is_none_is_told() {
        let rows = rows![{"all": [{"a": 1}, {"b": 2}]}, {"all": []}];
        let mut stage = Harness::new(&merge(json!({"of": "${all}"})), &[rows.schema()]).unwrap();
        stage.process(&rows).unwrap();
        let made: Vec<_> = stage.said.rows(0).iter().map(|row| row["result"].clone()).collect();
        assert_eq!(made, [json!({"a": 1, "b": 2}), Value::Null], "a member that is null is none");
        let problems = merge(json!({"of": ["${al}"]})).schema(&[rows.schema()]).unwrap_err().0;
        assert_eq!(problems[0].path, ["of".into(), 0.into()]);
    }
}
