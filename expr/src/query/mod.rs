//! A query: one SQL `select` over the rows of a batch, which are the table `input`.

mod aggregate;
mod plan;
mod step;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::Result;
use bourn_engine::diagnostic::Problem;

use crate::errors;
use step::Step;

/// A compiled SQL query. A clone is cheap, and any number of lanes may run the same one.
///
/// It knows `select` with expressions and aggregates, `distinct`, `from input` (or a `select` in brackets), `where`,
/// `group by`, `having`, `order by`, `limit` and `offset`; each of them over the rows of one batch. Joins, unions, windows
/// and subqueries in expressions are refused. The sum of whole numbers is one, or an error where it has no room.
#[derive(Clone, Debug)]
pub struct Query {
    sql: Arc<str>,
    steps: Arc<[Step]>,
    schema: SchemaRef,
}

impl Query {
    /// Compiles a text against the columns of `input`.
    ///
    /// # Errors
    /// When the text is no query, does not fit the columns, or says what is not supported; the problem points into the
    /// text where it can.
    pub fn compile(sql: &str, input: &SchemaRef) -> Result<Self, Problem> {
        let (steps, schema) = plan::query(sql, input)?;
        Ok(Self { sql: sql.into(), steps: steps.into(), schema })
    }

    /// The columns of the result.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// What it does that would come to something else over all rows than it does batch by batch: `groups`, `sorts`; none for a
    /// query that looks at each row for itself.
    pub fn by_batch(&self) -> Option<&'static str> {
        self.steps.iter().find_map(|step| match step {
            Step::Project { .. } | Step::Filter(_) => None,
            Step::Aggregate(_) => Some("groups"),
            Step::Distinct => Some("looks for what is alike among"),
            Step::Sort { .. } => Some("sorts"),
            Step::Limit { .. } => Some("counts off"),
        })
    }

    /// The result over the rows of one batch.
    ///
    /// # Errors
    /// When a value can't be had (a failing cast, a division by zero, a sum that has no room): there is no result then.
    pub fn run(&self, rows: &RecordBatch) -> Result<RecordBatch> {
        let result = self.steps.iter().try_fold(rows.clone(), |rows, step| step.run(&rows));
        let mut shown: String = self.sql.chars().take(80).collect();
        if shown.len() < self.sql.len() {
            shown.push('…');
        }
        result.map_err(|e| errors::error(e).context(format!("`{shown}`")))
    }
}
