//! Calls that ask once for each row, and add one column of JSON with the answers.

use std::future::Future;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, StringArray, StringBuilder};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use bourn_engine::api::call::RemoteLimits;
use bourn_engine::api::memo::Key;
use bourn_engine::api::{Accounts, Call, CallContext, Kept, Memo, Output, Rejected, Reply, Usage};
use bourn_engine::data::columns::{RESERVED_PREFIX, json_field};
use bourn_engine::diagnostic::Problem;
use bourn_engine::error::Retry;
use bourn_engine::{Error, Result};
use serde_json::{Value, json};

/// The name of the column with the answers when the spec says none.
pub fn default_output() -> String {
    "result".into()
}

/// The input and one more column, or the same columns if there is one of this name, which then holds the answers.
pub fn schema(input: &SchemaRef, output: &str) -> Result<SchemaRef, Problem> {
    with_field(input, output).map_err(|problem| problem.under("output"))
}

/// The same with a column of JSON of any name.
pub fn with_field(input: &SchemaRef, name: &str) -> Result<SchemaRef, Problem> {
    if name.is_empty() || name.starts_with(RESERVED_PREFIX) {
        let problem = Problem::new(format!("`{name}` can't be the name of a column"));
        return Err(problem.help(format!("names that begin with `{RESERVED_PREFIX}` belong to the engine")));
    }
    let mut fields: Vec<Arc<Field>> = input.fields().iter().cloned().collect();
    let answer = Arc::new(json_field(name));
    match input.index_of(name) {
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

/// Emits the rows with the column that [`schema`] has added, with a value made of each row. A row of which none can be made is rejected alone.
pub fn fill(
    rows: &RecordBatch,
    (output, schema): (&str, &SchemaRef),
    out: &mut Output,
    value: impl Fn(usize) -> Result<Value>,
) -> Result<()> {
    let (mut texts, mut made) = (StringBuilder::new(), Vec::with_capacity(rows.num_rows()));
    for row in 0..rows.num_rows() {
        let value = value(row);
        made.push(value.is_ok());
        match value {
            Ok(Value::Null) => texts.append_null(),
            Ok(value) => texts.append_value(value.to_string()),
            Err(error) => out.reject(rows.slice(row, 1), error),
        }
    }
    let texts = texts.finish();
    let rows = if texts.len() == rows.num_rows() {
        rows.clone()
    } else {
        filter_record_batch(rows, &BooleanArray::from(made))?
    };
    out.emit(with_column(&rows, output, texts, schema)?);
    Ok(())
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

    /// The key of all that the answer depends on; none when it can't be kept.
    ///
    /// # Errors
    /// When a place has no value in this row.
    fn key(&self, rows: &RecordBatch, row: usize) -> Result<Option<Key>> {
        let _ = (rows, row);
        Ok(None)
    }

    /// What can be accounted for.
    fn accounts(&self) -> Accounts {
        Accounts::default()
    }
}

/// The call that asks about each row of a request, one after the other.
pub struct PerRow<A> {
    ask: A,
    output: String,
    schema: SchemaRef,
    /// A second column: what each answer cost.
    usage: Option<(String, SchemaRef)>,
}

impl<A: Ask> PerRow<A> {
    /// Asks `ask`, and puts the answers into the column `output`.
    ///
    /// # Errors
    /// When the column can't be called so.
    pub fn new(ask: A, input: &SchemaRef, output: &str) -> Result<Self> {
        let schema = schema(input, output).map_err(|p| Error::validation(p.message))?;
        Ok(Self { ask, output: output.to_owned(), schema, usage: None })
    }

    /// The same with a column that gets what each answer cost when it was paid for.
    ///
    /// # Errors
    /// When the column can't be called so.
    pub fn telling(mut self, usage: Option<&str>) -> Result<Self> {
        if let Some(name) = usage {
            let schema = with_field(&self.schema, name).map_err(|p| Error::validation(p.message))?;
            self.usage = Some((name.to_owned(), schema));
        }
        Ok(self)
    }

    /// The rows with their answers.
    fn answered(&self, rows: &RecordBatch, answers: &[Answer]) -> Result<RecordBatch> {
        let text = |value: Option<&Value>| value.filter(|value| !value.is_null()).map(Value::to_string);
        let column = answers.iter().map(|answer| text(Some(&answer.value))).collect();
        let rows = with_column(rows, &self.output, column, &self.schema)?;
        let Some((name, schema)) = &self.usage else { return Ok(rows) };
        let column = answers.iter().map(|answer| text(cost(answer.usage).as_ref())).collect();
        with_column(&rows, name, column, schema)
    }

    /// The keys of rows whose answers can be kept.
    fn keys(&self, rows: &RecordBatch) -> Vec<Option<Key>> {
        // A row that has none for a fault of its own will fail when it is asked about.
        (0..rows.num_rows()).map(|row| self.ask.key(rows, row).ok().flatten()).collect()
    }
}

/// What an answer cost, as a document; none when it cost nothing.
fn cost(usage: Usage) -> Option<Value> {
    let Usage { input_tokens, output_tokens, usd } = usage;
    let document = json!({ "input_tokens": input_tokens, "output_tokens": output_tokens, "usd": usd });
    (usage != Usage::default()).then_some(document)
}

/// The answers that the journal has, one for each key that it knows.
async fn find(journal: &dyn Memo, keys: &[Option<Key>]) -> Result<Vec<Option<Answer>>> {
    let asked: Vec<Key> = keys.iter().flatten().copied().collect();
    let mut found = if asked.is_empty() { Vec::new() } else { journal.find(asked).await? }.into_iter();
    let answer = |kept: Kept| -> Result<Answer> {
        Ok(Answer { value: serde_json::from_slice(&kept.answer)?, usage: kept.usage, limits: None })
    };
    keys.iter().map(|key| key.and_then(|_| found.next().flatten()).map(answer).transpose()).collect()
}

impl<A: Ask> Call for PerRow<A> {
    async fn known(&self, rows: &RecordBatch, context: &CallContext) -> Result<Option<RecordBatch>> {
        let Some(journal) = &context.journal else { return Ok(None) };
        let found = find(&**journal, &self.keys(rows)).await?;
        let Some(answers) = found.into_iter().collect::<Option<Vec<_>>>() else { return Ok(None) };
        context.bill.known(answers.len());
        Ok(Some(self.answered(rows, &answers)?))
    }

    fn unasked(&self, rows: &RecordBatch) -> Result<Option<RecordBatch>> {
        let answers: Vec<Answer> = (0..rows.num_rows()).map(|_| Answer::default()).collect();
        Ok(Some(self.answered(rows, &answers)?))
    }

    fn key(&self, rows: &RecordBatch) -> Result<Option<Key>> {
        self.ask.key(rows, 0)
    }

    fn accounts(&self) -> Accounts {
        self.ask.accounts()
    }

    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let count = rows.num_rows();
        let (mut answers, mut answered, mut rejected) = (Vec::with_capacity(count), Vec::new(), Vec::new());
        let keys = if context.journal.is_some() { self.keys(&rows) } else { vec![None; count] };
        let mut found: Vec<Option<Answer>> = (0..count).map(|_| None).collect();
        // Of a request of one row it is known already that its answer is not there.
        if let Some(journal) = context.journal.as_ref().filter(|_| count > 1 || context.attempt > 1) {
            found = find(&**journal, &keys).await?;
        }
        let mut usage = Usage::default();
        for row in 0..count {
            if let Some(known) = found[row].take() {
                context.bill.known(1);
                answers.push(known);
                answered.push(rows.slice(row, 1));
                continue;
            }
            let mut context = context.clone();
            if count > 1 {
                context.idempotency_key = format!("{}/{row}", context.idempotency_key).into();
            }
            match self.ask.ask(&rows, row, &context).await {
                Ok(answer) => {
                    usage += answer.usage;
                    if let (Some(journal), Some(key)) = (&context.journal, keys[row]) {
                        // It is durable before anyone sees it, so no reader ever has a result that a restart would pay for again.
                        let kept = Kept { answer: serde_json::to_vec(&answer.value)?, usage: answer.usage };
                        journal.keep(vec![(key, kept)]).await?;
                    }
                    answers.push(answer);
                    answered.push(rows.slice(row, 1));
                }
                // Trying the whole request again may help; a service knows the rows that it has done by their keys.
                Err(error) if count == 1 || error.retry() != Retry::Never => {
                    context.bill.kept(usage);
                    return Err(error);
                }
                Err(error) => rejected.push(Rejected::rows(rows.slice(row, 1), error)),
            }
        }
        let rows = if rejected.is_empty() { rows } else { concat_batches(rows.schema_ref(), &answered)? };
        // The last one has seen the others.
        let limits = answers.last_mut().and_then(|answer| answer.limits.take());
        Ok(Reply { rows: self.answered(&rows, &answers)?, rejected, usage, limits })
    }

    fn estimate(&self, rows: &RecordBatch) -> Usage {
        let mut sum = Usage::default();
        (0..rows.num_rows()).for_each(|row| sum += self.ask.estimate(rows, row));
        sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bourn_engine::rows;
    use bourn_engine::testing::harness::rows_of;
    use bourn_engine::testing::simulation::Simulation;

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
            ingested: bourn_engine::time::Timestamp(0),
            journal: None,
            feedback: None,
            bill: bourn_engine::api::Bill::default(),
            trace: bourn_engine::api::Trace::default(),
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
