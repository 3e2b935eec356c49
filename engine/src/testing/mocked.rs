//! A stage that answers what a test says, in place of what it would ask.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::{Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use arrow_json::reader::ReaderBuilder;
use serde_json::{Map, Value};

use crate::api::erased::ErasedStage;
use crate::api::registry::BoxStageConfig;
use crate::api::{
    BuildContext, Call, CallContext, Cardinality, Distribution, Inputs, Limits, Operator, Rejected, Reply,
};
use crate::data::columns::is_json;
use crate::data::json::row_value;
use crate::diagnostic::Problems;
use crate::error::{Error, Kind, Result};
use crate::spec::case::Mock;

/// The stage of `config`, planned as it is, with answers that a case of a spec says. It gives one row for one.
pub fn mocked(config: BoxStageConfig, mock: Mock) -> BoxStageConfig {
    BoxStageConfig(Arc::new(Mocked { inner: config, mock }))
}

/// Whether a stage asks something outside: whether it is a call, as it is built.
///
/// # Errors
/// When it can't be built.
pub fn asks(config: &BoxStageConfig, context: &BuildContext) -> Result<bool> {
    Ok(matches!(config.0.build(context)?, Operator::Call(..)))
}

struct Mocked {
    inner: BoxStageConfig,
    mock: Mock,
}

impl ErasedStage for Mocked {
    fn kind(&self) -> &'static str {
        "mock"
    }

    fn schema(&self, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.inner.0.schema(inputs)
    }

    fn port_schema(&self, port: &str, inputs: &[SchemaRef]) -> Result<SchemaRef, Problems> {
        self.inner.0.port_schema(port, inputs)
    }

    fn distribution(&self) -> Distribution {
        self.inner.0.distribution()
    }

    fn ports(&self) -> Vec<String> {
        self.inner.0.ports()
    }

    fn inputs(&self) -> Inputs {
        self.inner.0.inputs()
    }

    fn cardinality(&self) -> Cardinality {
        Cardinality::One
    }

    fn build(&self, context: &BuildContext) -> Result<Operator> {
        let limits = match self.inner.0.build(context)? {
            Operator::Call(_, limits) => limits,
            _ => Limits::default(),
        };
        let input = &context.inputs[0];
        let schema = self.inner.0.schema(&context.inputs).map_err(|Problems(all)| {
            Error::validation(all.into_iter().map(|p| p.message).collect::<Vec<_>>().join("; "))
        })?;
        let said = self.inner.0.describe().get("output").and_then(Value::as_str).map(str::to_owned);
        let is_answer = |i: &usize| {
            let field = schema.field(*i);
            said.as_deref() == Some(field.name())
                || input.column_with_name(field.name()).is_none_or(|(_, f)| f != field)
        };
        let answered = (0..schema.fields().len()).filter(is_answer).collect();
        Ok(Operator::call(Answers { mock: self.mock.clone(), schema, answered }, limits))
    }

    fn describe(&self) -> Value {
        self.inner.0.describe()
    }
}

struct Answers {
    mock: Mock,
    schema: SchemaRef,
    /// The columns that hold the answer: those that the input has not, or has in another form.
    answered: Vec<usize>,
}

impl Call for Answers {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let (mut answers, mut rejected) = (vec![RecordBatch::new_empty(self.schema.clone())], Vec::new());
        for row in 0..rows.num_rows() {
            let one = rows.slice(row, 1);
            match self.answer(&one, context.attempt)? {
                Ok(value) => answers.push(self.row(&one, value)?),
                Err(error) => rejected.push(Rejected::rows(one, error)),
            }
        }
        Ok(Reply { rejected, ..Reply::rows(concat_batches(&self.schema, &answers)?) })
    }
}

impl Answers {
    /// What a row is answered, or why it is refused for good; an error is one that may be tried again.
    fn answer(&self, row: &RecordBatch, attempt: u32) -> Result<Result<Value>> {
        let value = Value::Object(row_value(row, 0)?);
        let when = self.mock.when.iter().find(|w| covers(&Value::Object(w.row.clone()), &value));
        let Mock { answer, fail, times, .. } = &self.mock;
        let (answer, fail, times) = when.map_or((answer, fail, times), |w| (&w.answer, &w.fail, &w.times));
        match (fail, times, answer) {
            (Some(reason), Some(times), _) if attempt <= *times => {
                Err(Error::new(Kind::Io, reason.clone()).transient())
            }
            (Some(reason), None, _) => Ok(Err(Error::validation(reason.clone()))),
            (_, _, Some(answer)) => Ok(Ok(answer.clone())),
            _ => Ok(Err(Error::validation(format!("no mock answers this row: {value}")))),
        }
    }

    /// The row with its answer: the value of the only column, or an object with those of several.
    fn row(&self, row: &RecordBatch, answer: Value) -> Result<RecordBatch> {
        let schema = self.schema.project(&self.answered)?;
        let mut members = match (self.answered.as_slice(), answer) {
            ([_], value) => Map::from_iter([(schema.field(0).name().clone(), value)]),
            (_, Value::Object(members)) => members,
            (_, other) => return Err(Error::validation(format!("an answer in several columns is no {other}"))),
        };
        for field in schema.fields().iter().filter(|f| is_json(f)) {
            if let Some(value) = members.get_mut(field.name()).filter(|v| !v.is_null()) {
                *value = Value::String(value.to_string());
            }
        }
        let nullable = schema.fields().iter().map(|f| f.as_ref().clone().with_nullable(true)).collect::<Vec<_>>();
        let mut decoder = ReaderBuilder::new(Arc::new(Schema::new(nullable))).build_decoder()?;
        decoder.serialize(&[members])?;
        let answer = decoder.flush()?.ok_or_else(|| Error::engine("an answer is a row"))?;
        let column = |i: usize| match self.answered.iter().position(|a| *a == i) {
            Some(at) => Ok(answer.column(at).clone()),
            None => row
                .column_by_name(self.schema.field(i).name())
                .cloned()
                .ok_or_else(|| Error::engine("a column is gone")),
        };
        let columns = (0..self.schema.fields().len()).map(column).collect::<Result<Vec<_>>>()?;
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}

/// Whether every member that `part` says is the same in `whole`, in objects at any depth.
pub fn covers(part: &Value, whole: &Value) -> bool {
    match (part, whole) {
        (Value::Object(part), Value::Object(whole)) => {
            part.iter().all(|(name, value)| whole.get(name).is_some_and(|found| covers(value, found)))
        }
        (Value::Array(part), Value::Array(whole)) => {
            part.len() == whole.len() && part.iter().zip(whole).all(|(p, w)| covers(p, w))
        }
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        _ => part == whole,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_part_covers_what_it_does_not_say() {
        let whole = json!({"a": 1, "b": {"c": [1, {"d": 2}], "e": null}});
        assert!(covers(&json!({"a": 1.0, "b": {"c": [1, {}]}}), &whole));
        for wrong in [json!({"a": 2}), json!({"b": {"c": [1]}}), json!({"x": null}), json!({"a": "1"})] {
            assert!(!covers(&wrong, &whole), "{wrong}");
        }
    }
}
