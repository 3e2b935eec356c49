//! Calls that ask once for each row, and add one column of JSON with the answers.

use std::future::Future;
use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::call::RemoteLimits;
use bourn_engine::api::{Call, CallContext, Rejected, Reply, Usage};
use bourn_engine::data::columns::{RESERVED_PREFIX, json_field};
use bourn_engine::diagnostic::Problem;
use bourn_engine::error::Retry;
use bourn_engine::{Error, Result};
use serde_json::Value;

/// The name of the column with the answers when the spec says none.
pub fn default_output() -> String {
    "result".into()
}

/// The input and one more column, or the same columns if there is one of this name, which then holds the answers.
pub fn schema(input: &SchemaRef, output: &str) -> Result<SchemaRef, Problem> {
    if output.is_empty() || output.starts_with(RESERVED_PREFIX) {
        let problem = Problem::new(format!("`{output}` can't be the name of a column"));
        return Err(problem
            .help(format!("names that begin with `{RESERVED_PREFIX}` belong to the engine"))
            .under("output"));
    }
    let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
    let answer = Arc::new(json_field(output));
    match input.index_of(output) {
        Ok(at) => fields[at] = answer,
        Err(_) => fields.push(answer),
    }
    Ok(Arc::new(Schema::new_with_metadata(fields, input.metadata().clone())))
}

/// The rows with the column that [`schema`] has added or replaced.
pub fn with_column(rows: &RecordBatch, output: &str, column: StringArray, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut columns = rows.columns().to_vec();
    let column = Arc::new(column) as ArrayRef;
    match rows.schema_ref().index_of(output) {
        Ok(at) => columns[at] = column,
        Err(_) => columns.push(column),
    }
    Ok(RecordBatch::try_new(schema.clone(), columns)?)
}

/// What a row was answered.
#[derive(Debug, Default)]
pub struct Answer {
    /// The value that the column gets.
    pub value: Value,
    /// What it cost.
    pub usage: Usage,
    /// What the other side said of its limits.
    pub limits: Option<Box<RemoteLimits>>,
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        Self { value, usage: Usage::default(), limits: None }
    }
}

/// Something that is asked about one row.
pub trait Ask: Send + Sync + 'static {
    /// Asks about row `row` of `rows`. The context is that of the row: its key differs from that of the others.
    ///
    /// # Errors
    /// As for [`Call::call`].
    fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext)
    -> impl Future<Output = Result<Answer>> + Send;

    /// What the answer is expected to cost, as for [`Call::estimate`].
    fn estimate(&self, rows: &RecordBatch, row: usize) -> Usage {
        let _ = (rows, row);
        Usage::default()
    }
}

/// The call that asks about each row of a request, one after the other.
pub struct PerRow<A> {
    ask: A,
    output: String,
    schema: SchemaRef,
}

impl<A: Ask> PerRow<A> {
    /// Asks `ask`, and puts the answers into the column `output`.
    ///
    /// # Errors
    /// When the column can't be called so.
    pub fn new(ask: A, input: &SchemaRef, output: &str) -> Result<Self> {
        let schema = schema(input, output).map_err(|p| Error::validation(p.message))?;
        Ok(Self { ask, output: output.to_owned(), schema })
    }

    fn reply(&self, rows: &RecordBatch, answers: Vec<Answer>, rejected: Vec<Rejected>) -> Result<Reply> {
        let text: StringArray = answers
            .iter()
            .map(|a| match &a.value {
                Value::Null => None,
                value => Some(value.to_string()),
            })
            .collect();
        let mut usage = Usage::default();
        for answer in &answers {
            usage.input_tokens += answer.usage.input_tokens;
            usage.output_tokens += answer.usage.output_tokens;
            usage.usd += answer.usage.usd;
        }
        // The last one has seen the others.
        let limits = answers.last().and_then(|answer| answer.limits.clone());
        Ok(Reply { rows: with_column(rows, &self.output, text, &self.schema)?, rejected, usage, limits })
    }
}

impl<A: Ask> Call for PerRow<A> {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let count = rows.num_rows();
        let (mut answers, mut answered, mut rejected) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        for row in 0..count {
            let mut context = context.clone();
            if count > 1 {
                context.idempotency_key = format!("{}/{row}", context.idempotency_key).into();
            }
            match self.ask.ask(&rows, row, &context).await {
                Ok(answer) => {
                    answers.push(answer);
                    answered.push(rows.slice(row, 1));
                }
                // Trying the whole request again may help; a service knows the rows that it has done by their keys.
                Err(error) if count == 1 || error.retry() != Retry::Never => return Err(error),
                Err(error) => rejected.push(Rejected::rows(rows.slice(row, 1), error)),
            }
        }
        let rows = if rejected.is_empty() { rows } else { concat_batches(rows.schema_ref(), &answered)? };
        self.reply(&rows, answers, rejected)
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        let mut sum = Usage::default();
        for one in (0..rows.num_rows()).map(|row| self.ask.estimate(rows, row)) {
            sum.input_tokens += one.input_tokens;
            sum.output_tokens += one.output_tokens;
        }
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use bourn_engine::testing::harness::rows_of;
    use bourn_engine::testing::simulation::Simulation;
    use serde_json::json;

    /// Answers with the key; refuses odd numbers, and 4 only for now.
    struct Odd;

    impl Ask for Odd {
        async fn ask(&self, rows: &RecordBatch, row: usize, context: &CallContext) -> Result<Answer> {
            let n = bourn_engine::data::json::row_value(rows, row)?["n"].as_i64().unwrap();
            match n {
                4 => Err(Error::validation("busy").transient()),
                n if n % 2 == 1 => Err(Error::validation(format!("{n} is odd"))),
                0 => Ok(Value::Null.into()),
                _ => Ok(Answer {
                    value: json!({"key": &*context.idempotency_key}),
                    usage: Usage { input_tokens: 5, output_tokens: 1, usd: 0.5 },
                    limits: None,
                }),
            }
        }
    }

    fn ask(rows: RecordBatch, output: &str) -> Result<Reply> {
        let call = PerRow::new(Odd, &rows.schema(), output)?;
        let simulation = Simulation::new(1);
        let context = context(&simulation);
        simulation.run(async move { call.call(rows, &context).await }).done()
    }

    fn context(simulation: &Simulation) -> CallContext {
        CallContext {
            env: simulation.env(),
            stage: "s".into(),
            idempotency_key: "k".into(),
            attempt: 1,
            deadline: std::time::Duration::from_mins(1),
            journal: None,
        }
    }

    #[test]
    fn a_row_that_is_refused_for_good_is_rejected_alone_and_the_answers_stay_with_their_rows() {
        let reply = ask(rows![{"n": 2}, {"n": 3}, {"n": 6}, {"n": 0}], "a").unwrap();
        assert_eq!(
            rows_of(&reply.rows),
            [json!({"n": 2, "a": {"key": "k/0"}}), json!({"n": 6, "a": {"key": "k/2"}}), json!({"n": 0, "a": null})]
        );
        assert_eq!(reply.rejected.len(), 1);
        assert_eq!(reply.rejected[0].error.message(), "3 is odd");
        assert_eq!(reply.usage, Usage { input_tokens: 10, output_tokens: 2, usd: 1.0 });
        assert_eq!(reply.rows.schema(), schema(&rows![{"n": 2}].schema(), "a").unwrap());
    }

    #[test]
    fn a_request_of_one_row_fails_as_its_row_does_and_a_transient_error_fails_the_request() {
        assert_eq!(ask(rows![{"n": 3}], "a").unwrap_err().message(), "3 is odd");
        assert_eq!(ask(rows![{"n": 2}, {"n": 4}], "a").unwrap_err().retry(), Retry::Soon);
        assert_eq!(rows_of(&ask(rows![{"n": 2}], "a").unwrap().rows), [json!({"n": 2, "a": {"key": "k"}})]);
    }

    #[test]
    fn a_column_of_that_name_is_replaced_where_it_stands() {
        let reply = ask(rows![{"n": 2, "a": 1, "z": 0}], "a").unwrap();
        assert_eq!(rows_of(&reply.rows), [json!({"n": 2, "a": {"key": "k"}, "z": 0})]);
        assert_eq!(ask(rows![{"n": 2}], "_bourn_x").unwrap_err().message(), "`_bourn_x` can't be the name of a column");
    }
}
