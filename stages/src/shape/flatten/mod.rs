//! `flatten`: lists become rows, structs become columns.

mod fields;
mod lists;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::data::columns::is_json;
use bourn_engine::data::sql_type::sql_name;
use bourn_engine::diagnostic::{Problem, Problems};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::filter::as_error;
use super::map::All;
use crate::column;
use lists::Explode;

/// Makes rows of the elements of a list, and columns of the members of structs.
///
/// `flatten: { list: items }` makes one row of each element; the other columns are repeated, and the element stands where
/// the list stood. The list may also be a JSON document (the answer of a call): then each element is one too, and a row
/// whose document is no list is rejected. A row whose list is empty or null leaves no row, and counts as filtered;
/// `empty: keep` makes it one row with a null.
///
/// `flatten: { structs: "*" }` puts the members of every struct into columns of their own, down to the last level:
/// `user: { name, home: { city } }` becomes `user_name` and `user_home_city`. `structs: [user]` does so with these columns
/// alone. With both, the list is first, so that `{ list: items, structs: [items] }` makes a table of a list of structs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Flatten {
    /// The column whose lists become rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub list: Option<String>,
    /// What becomes of a row whose list is empty or null.
    #[serde(default)]
    pub empty: Empty,
    /// A column that gets the place of the element in its list, from 1 as in SQL; null for a row that `empty: keep` has kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<String>,
    /// The columns whose structs become columns: `"*"` or a list of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub structs: Option<Structs>,
    /// What stands between the names of a column and a member.
    #[serde(default = "underscore")]
    pub separator: String,
}

/// What becomes of a row whose list is empty or null.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Empty {
    /// It leaves no row.
    #[default]
    Drop,
    /// It leaves one row, with null for the element.
    Keep,
}

/// Which structs become columns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Structs {
    /// Every struct.
    All(All),
    /// Those of these columns.
    Columns(Vec<String>),
}

fn underscore() -> String {
    "_".to_owned()
}

impl Flatten {
    /// The schema behind the list, and where the list stands.
    fn exploded(&self, input: &SchemaRef) -> Result<(SchemaRef, Option<usize>), Problem> {
        let Some(list) = &self.list else {
            let problem = Problem::new("`index` is the place in a list, and there is no `list`").under("index");
            return if self.index.is_some() { Err(problem) } else { Ok((input.clone(), None)) };
        };
        let (at, field) = column::find(input, list).map_err(|p| p.under("list"))?;
        let element = lists::element(field).ok_or_else(|| not_a(field, "list").under("list"))?;
        let mut fields: Vec<Field> = input.fields().iter().map(|f| f.as_ref().clone()).collect();
        let nullable = element.is_nullable() || self.empty == Empty::Keep;
        fields[at] = element.with_name(list).with_nullable(nullable);
        if let Some(index) = &self.index {
            if column::is_reserved(index) {
                return Err(column::reserved(index).under("index"));
            } else if input.index_of(index).is_ok() {
                return Err(Problem::new(format!("there is a column `{index}` already")).under("index"));
            }
            fields.insert(at + 1, Field::new(index, DataType::Int64, self.empty == Empty::Keep));
        }
        Ok((Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())), Some(at)))
    }
}

impl StageConfig for Flatten {
    const NAME: &'static str = "flatten";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        if self.list.is_none() && self.structs.is_none() {
            let problem = Problem::new("this names neither a list nor structs");
            return Err(problem.help("write `list: items` for rows, or `structs: \"*\"` for columns").into());
        }
        let (schema, _) = self.exploded(&inputs[0])?;
        match &self.structs {
            Some(structs) => fields::plan(&schema, structs, &self.separator).map(|plan| plan.schema),
            None => Ok(schema),
        }
    }

    fn cardinality(&self) -> Cardinality {
        if self.list.is_some() { Cardinality::Many } else { Cardinality::One }
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let (schema, at) = self.exploded(&context.inputs[0]).map_err(as_error)?;
        let plan = self.structs.as_ref().map(|s| fields::plan(&schema, s, &self.separator));
        let structs = plan.transpose().map_err(|Problems(mut p)| as_error(p.swap_remove(0)))?;
        let keep = self.empty == Empty::Keep;
        let explode = at.map(|column| Explode::new(column, schema, keep, self.index.is_some()));
        Ok(Operator::stage(Flat { explode, structs }))
    }
}

fn not_a(field: &Field, what: &str) -> Problem {
    let (name, is) = (field.name(), sql_name(field.data_type()));
    let problem = Problem::new(format!("column `{name}` is no {what}")).label(format!("`{name}` is {is}"));
    if is_json(field) {
        return problem
            .help(format!("its members are not known yet: `map` takes them out with `json_get_text({name}, …)`"));
    }
    problem
}

struct Flat {
    explode: Option<Explode>,
    structs: Option<fields::Plan>,
}

impl Flat {
    fn emit(&self, rows: RecordBatch, out: &mut Output) -> Result<()> {
        out.emit(match &self.structs {
            Some(plan) => plan.apply(&rows)?,
            None => rows,
        });
        Ok(())
    }
}

impl Stage for Flat {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        match &mut self.explode {
            Some(explode) => {
                explode.begin(rows, out)?;
                self.resume(out)
            }
            None => self.emit(rows.clone(), out).map(|()| Progress::Done),
        }
    }

    fn resume(&mut self, out: &mut Output) -> Result<Progress> {
        let Some(explode) = &mut self.explode else { return Ok(Progress::Done) };
        let piece = explode.piece()?;
        let progress = if explode.is_done() { Progress::Done } else { Progress::More };
        if let Some(rows) = piece {
            self.emit(rows, out)?;
        }
        Ok(progress)
    }
}
