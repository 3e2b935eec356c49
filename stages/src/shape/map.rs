//! `map`: makes columns, keeps, drops, renames and casts them.

use arrow::array::ArrayRef;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::api::{BuildContext, Cardinality, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Key, Problems};
use bourn_expr::Expression;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns;
use crate::named::Named;

/// Makes columns from SQL expressions, and keeps, drops, renames or casts those there are.
///
/// `map: { origin: origin, hours: delay / 60.0 }` leaves exactly these two columns. `keep: "*"` keeps the others as well,
/// `keep: [a, b]` just these; `drop: [a]`, `rename: { old: new }` and `cast: { a: bigint }` keep all that they do not
/// name. Expressions, `drop`, `rename` and `cast` speak of the columns of the input, and what is kept stands before what
/// is made; a made column of the same name takes the place of a kept one.
///
/// The functions for JSON, CSV, URLs, timestamps and the like are on the page docs/functions.md.
///
/// A made column that is called `keep`, `drop`, `rename`, `cast` or `columns` is written below `columns:`, as any other
/// may be: `map: { columns: { keep: a > 1 } }`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Map {
    /// Columns of the input that stay: `"*"` or a list of names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<Keep>,
    /// Columns of the input that go; the others stay.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub drop: Vec<String>,
    /// Columns of the input that get another name: `old: new`.
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub rename: Named,
    /// Columns of the input that become another type, by its SQL name: `bigint`, `double`, `text`, `timestamp`, ….
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub cast: Named,
    /// Columns that are made, each with its SQL expression.
    #[serde(default, skip_serializing_if = "Named::is_empty")]
    pub columns: Named,
    /// The same, in short.
    #[serde(flatten)]
    pub short: Named,
}

/// What of the input stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Keep {
    /// Every column.
    All(All),
    /// These columns.
    Columns(Vec<String>),
}

/// `"*"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum All {
    /// Every column.
    #[serde(rename = "*")]
    Star,
}

impl Map {
    /// The made columns: where each stands in the configuration, its name, its expression.
    pub(super) fn made(&self) -> impl Iterator<Item = (Vec<Key>, &str, &str)> {
        let long = self.columns.iter().map(|(name, sql)| (vec!["columns".into(), name.into()], name, sql));
        let short = self.short.iter().map(|(name, sql)| (vec![name.into()], name, sql));
        long.chain(short)
    }
}

impl StageConfig for Map {
    const NAME: &'static str = "map";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        Ok(columns::plan(self, &inputs[0])?.0)
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let (schema, columns) = columns::plan(self, &context.inputs[0])
            .map_err(|Problems(mut p)| super::filter::as_error(p.swap_remove(0)))?;
        Ok(Operator::stage(Make { schema, columns }))
    }
}

struct Make {
    schema: SchemaRef,
    columns: Vec<Expression>,
}

impl Stage for Make {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|c| c.evaluate(rows)).collect::<Result<_>>()?;
        out.emit(RecordBatch::try_new(self.schema.clone(), columns)?);
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests;
