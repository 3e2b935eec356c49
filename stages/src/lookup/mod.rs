//! `lookup`: one statement in SQL for each row, over a database or over rows that the row has.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::template::Template;
use bourn_engine::api::{BuildContext, Cardinality, Limits, Operator, Output, Progress, Stage, StageConfig};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::answer::{self, PerRow};
use crate::places::{Check, Document};

#[cfg(feature = "sqlite")]
mod database;
mod given;

/// The most rows of one answer.
const ROWS_MAX: usize = 10_000;

/// Runs one statement in SQL for each row, and adds a column with the rows that it gave: a list of objects.
///
/// `lookup: { database: airports.db, query: "select name, city from airports where code = ?1", params: ["${origin}"] }` asks a file of SQLite.
/// Values reach it as `params` alone, whose places are filled in for each row: the query is the same for all. A list or an object among them
/// is bound as JSON. A statement that gives no rows, such as an `insert`, gives `{"changed": 3}`; it is done at least once for each row,
/// so let it be one that may be done twice.
///
/// `lookup: { rows: "${items}", query: "select who, sum(total) as total from input group by who" }` asks the rows that a place has, a list of
/// objects, as the table `input`, and nobody else. Their types are found out for each list. Of no rows none are found.
///
/// In a workflow it is the command `sql` too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lookup {
    /// The statement.
    pub query: String,
    /// The database: the path of a file of SQLite, which must be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// What `?1`, `?2` and so on stand for in the query.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Value>,
    /// The table `input`: a list of objects, with places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<Value>,
    /// The most rows that it may give for a row; more are an error.
    #[serde(default = "rows_max")]
    pub rows_max: usize,
    /// The column that gets them.
    #[serde(default = "answer::default_output")]
    pub output: String,
    /// What bounds the calls.
    #[serde(default)]
    pub limits: Limits,
}

fn rows_max() -> usize {
    ROWS_MAX
}

impl StageConfig for Lookup {
    const NAME: &'static str = "lookup";

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        let mut check = Check::against(&inputs[0]);
        if self.query.trim().is_empty() {
            check.add(Problem::new("there is nothing to ask").under("query"));
        }
        if let Some(place) = Template::parse(&self.query).ok().and_then(|t| t.references().next().cloned()) {
            let problem = Problem::new(format!("`${{{place}}}` would become a part of the query")).under("query");
            check.add(problem.part(place.span.clone()).help("write `?1` here, and the place in `params`"));
        }
        match (&self.database, &self.rows) {
            (Some(_), None) => {}
            (None, Some(rows)) => {
                check.document(&["rows".into()], rows);
                if !self.params.is_empty() {
                    let problem = Problem::new("a query of rows has no `params`").under("params");
                    check.add(problem.help("put what it needs into the rows"));
                }
            }
            (Some(_), Some(_)) => {
                check.add(Problem::new("either a database is asked or rows are").under("rows").help("take one away"));
            }
            (None, None) => {
                let problem = Problem::new("it does not say what is asked");
                check.add(problem.help("say `database: FILE`, or `rows: \"${…}\"`"));
            }
        }
        for (i, param) in self.params.iter().enumerate() {
            check.document(&["params".into(), i.into()], param);
        }
        check.finish(answer::schema(&inputs[0], &self.output))
    }

    fn is_stateless(&self) -> bool {
        self.rows.is_some()
    }

    fn is_pure(&self) -> bool {
        self.rows.is_some()
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let input = &context.inputs[0];
        if let Some(rows) = &self.rows {
            let schema = answer::schema(input, &self.output).map_err(|p| Error::validation(p.message))?;
            return Ok(Operator::stage(OfRows { config: self.clone(), rows: Document::read(rows)?, schema }));
        }
        #[cfg(feature = "sqlite")]
        {
            let ask = database::Database::new(self)?;
            Ok(Operator::call(PerRow::new(ask, input, &self.output)?, self.limits.clone()))
        }
        #[cfg(not(feature = "sqlite"))]
        Err(Error::unsupported("this Bourn was built without `sqlite`, so it knows no database"))
    }
}

/// What it says when there are more rows than there may be.
fn too_many(most: usize) -> Error {
    Error::validation(format!("the query gives more than {most} rows (`rows_max`)"))
}

/// Asks the rows that each row has.
struct OfRows {
    config: Lookup,
    rows: Document,
    schema: SchemaRef,
}

impl Stage for OfRows {
    fn process(&mut self, rows: &RecordBatch, out: &mut Output) -> Result<Progress> {
        let Lookup { query, rows_max, output, .. } = &self.config;
        answer::fill(rows, (output, &self.schema), out, |row| {
            given::ask(query, &self.rows.value(rows, row)?, *rows_max).map_err(|e| e.at_row(row))
        })?;
        Ok(Progress::Done)
    }
}

#[cfg(test)]
mod tests;
