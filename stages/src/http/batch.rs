//! One request for many rows: an array goes out, and an array of as many answers comes back.

use arrow::array::{BooleanArray, StringArray};
use arrow::compute::filter_record_batch;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{Call, CallContext, Rejected, Reply};
use bourn_engine::{Error, Result};
use serde_json::Value;

use super::body;
use super::request::Send;
use crate::answer::with_column;

/// The call that sends the rows of a request together.
pub struct Together {
    send: Send,
    /// Where the array is in the answer, as a JSON pointer.
    answers: String,
    output: String,
    schema: SchemaRef,
}

impl Together {
    /// Sends by `send`, and puts the answers into the column `output` of `schema`.
    pub fn new(send: Send, answers: &str, output: &str, schema: SchemaRef) -> Self {
        Self { send, answers: answers.to_owned(), output: output.to_owned(), schema }
    }

    /// The elements of the answer.
    fn elements(&self, bytes: &[u8], count: usize) -> Result<Vec<Value>> {
        let mut document = body::json(bytes)?;
        let wrong = |what: String| {
            let place = if self.answers.is_empty() { String::new() } else { format!(" at `{}`", self.answers) };
            Error::validation(format!("the answer has {what}{place} for {count} rows"))
        };
        match document.pointer_mut(&self.answers).map(Value::take) {
            Some(Value::Array(elements)) if elements.len() == count => Ok(elements),
            Some(Value::Array(elements)) => Err(wrong(format!("{} answers", elements.len()))),
            _ => Err(wrong("no array".into())),
        }
    }
}

impl Call for Together {
    async fn call(&self, rows: RecordBatch, context: &CallContext) -> Result<Reply> {
        let mut rejected = Vec::new();
        // Of each row, what it sends, or none if that can't be made.
        let mut sent = Vec::with_capacity(rows.num_rows());
        for row in 0..rows.num_rows() {
            let element = self.send.element(&rows, row);
            sent.push(element.map_err(|e| rejected.push(Rejected::rows(rows.slice(row, 1), e))).ok());
        }
        let elements: Vec<Value> = sent.iter().flatten().cloned().collect();
        if elements.is_empty() {
            let reply = Reply::rows(RecordBatch::new_empty(self.schema.clone()));
            return Ok(Reply { rejected, ..reply });
        }
        let count = elements.len();
        let request = self.send.array(&rows, &Value::Array(elements), &context.idempotency_key)?;
        let answer = self.send.exchange(request, context).await?;
        let mut answers = self.elements(&answer.body, count).map_err(|e| e.context(&answer.asked))?.into_iter();
        let (mut kept, mut texts) = (Vec::with_capacity(sent.len()), Vec::with_capacity(count));
        for (row, element) in sent.iter().enumerate() {
            let answer_of = element.as_ref().and_then(|_| answers.next());
            kept.push(match answer_of.as_ref().map(failed) {
                Some(Some(why)) => {
                    let error = Error::validation(format!("{}: {why}", answer.asked));
                    rejected.push(Rejected::rows(rows.slice(row, 1), error));
                    false
                }
                Some(None) => {
                    texts.push(answer_of.filter(|a| !a.is_null()).map(|a| a.to_string()));
                    true
                }
                None => false,
            });
        }
        let rows = filter_record_batch(&rows, &BooleanArray::from(kept))?;
        let rows = with_column(&rows, &self.output, StringArray::from(texts), &self.schema)?;
        Ok(Reply { rejected, ..Reply::rows(rows) })
    }
}

/// What an element says that stands for a row that has failed: it has an `error`.
fn failed(answer: &Value) -> Option<String> {
    match answer.get("error")? {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    }
}
