//! Messages to rows.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, StringArray, TimestampMicrosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use async_nats::HeaderMap;
use bourn_engine::api::Rejected;
use bourn_engine::data::columns::{MOMENT, json_field};
use bourn_engine::diagnostic::Problem;
use bourn_engine::{Error, Result};
use serde::de::IgnoredAny;
use serde_json::{Map, Value};

use super::Metadata;
use crate::codec::json::{Columns, Decoder};
use crate::codec::lines::{is_blank, not_utf8};

/// The column of texts.
pub(super) const TEXT: &str = "text";

pub(super) fn text_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new(TEXT, DataType::Utf8, false)]))
}

/// The columns of the content, and those of the metadata behind them.
pub(super) fn with_metadata(content: &SchemaRef, metadata: Option<&Metadata>) -> Result<SchemaRef, Problem> {
    let mut fields: Vec<_> = content.fields().iter().map(|f| f.as_ref().clone()).collect();
    let Metadata { subject, sequence, time, headers } = metadata.cloned().unwrap_or_default();
    let added = [
        ("subject", subject.map(|n| Field::new(n, DataType::Utf8, false))),
        ("sequence", sequence.map(|n| Field::new(n, DataType::Int64, false))),
        ("time", time.map(|n| Field::new(n, MOMENT, false))),
        ("headers", headers.map(|n| json_field(&n))),
    ];
    for (key, field) in added {
        let Some(field) = field else { continue };
        if fields.iter().any(|f| f.name() == field.name()) {
            let problem = Problem::new(format!("there is a column `{}` already", field.name())).under(key);
            return Err(problem.help("give it a name of its own"));
        }
        fields.push(field);
    }
    Ok(Arc::new(Schema::new(fields)))
}

/// A message as the source sees it.
#[derive(Debug)]
pub(super) struct Message {
    pub(super) sequence: u64,
    /// Nanoseconds from 1970.
    pub(super) published: i128,
    pub(super) subject: String,
    pub(super) payload: bytes::Bytes,
    pub(super) headers: Option<HeaderMap>,
}

/// What messages become.
pub(super) enum Decode {
    Json(Box<Decoder>),
    Text,
}

impl Decode {
    pub(super) fn json(schema: &SchemaRef, content: usize, mixed: &[String]) -> Result<Self> {
        let content = Arc::new(schema.project(&(0..content).collect::<Vec<_>>())?);
        Ok(Self::Json(Box::new(Decoder::new(Columns::new(content, mixed))?)))
    }

    /// The rows of messages, and those that are none.
    pub(super) fn decode(
        &mut self,
        messages: &[Message],
        split: &str,
        schema: &SchemaRef,
    ) -> Result<(RecordBatch, Vec<Rejected>)> {
        let (content, faults) = match self {
            Self::Json(decoder) => json(decoder, messages)?,
            Self::Text => text(messages)?,
        };
        let mut good = vec![true; messages.len()];
        let mut rejected = Vec::new();
        for (at, error) in faults {
            good[at] = false;
            let error = error.at_input(format!("{split}:{}", messages[at].sequence));
            rejected.push(Rejected::text(String::from_utf8_lossy(&messages[at].payload), error));
        }
        let kept: Vec<_> = messages.iter().zip(good).filter(|(_, good)| *good).map(|(m, _)| m).collect();
        let mut columns = content.columns().to_vec();
        for field in &schema.fields()[columns.len()..] {
            columns.push(metadata(field, &kept));
        }
        let options = RecordBatchOptions::new().with_row_count(Some(kept.len()));
        Ok((RecordBatch::try_new_with_options(schema.clone(), columns, &options)?, rejected))
    }
}

/// A column of metadata, which its type tells.
fn metadata(field: &Field, messages: &[&Message]) -> ArrayRef {
    match field.data_type() {
        DataType::Int64 => {
            let sequences = messages.iter().map(|m| i64::try_from(m.sequence).unwrap_or(i64::MAX));
            Arc::new(Int64Array::from_iter_values(sequences))
        }
        DataType::Timestamp(..) => {
            let micros = messages.iter().map(|m| i64::try_from(m.published.div_euclid(1_000)).unwrap_or_default());
            Arc::new(TimestampMicrosecondArray::from_iter_values(micros))
        }
        _ if field.is_nullable() => {
            let headers = messages.iter().map(|m| m.headers.as_ref().map(headers_text));
            Arc::new(headers.collect::<StringArray>())
        }
        _ => Arc::new(StringArray::from_iter_values(messages.iter().map(|m| &m.subject))),
    }
}

/// Headers by name; a list where one stands several times.
fn headers_text(headers: &HeaderMap) -> String {
    let mut named: Vec<_> = headers.iter().collect();
    named.sort_by_key(|(name, _)| name.to_string());
    let one = |values: &Vec<async_nats::HeaderValue>| match values.as_slice() {
        [value] => Value::from(value.as_str()),
        values => values.iter().map(|v| Value::from(v.as_str())).collect(),
    };
    let object: Map<String, Value> = named.into_iter().map(|(name, values)| (name.to_string(), one(values))).collect();
    Value::Object(object).to_string()
}

type Faults = Vec<(usize, Error)>;

fn json(decoder: &mut Decoder, messages: &[Message]) -> Result<(RecordBatch, Faults)> {
    let (mut lines, mut at, mut faults) = (Vec::new(), Vec::new(), Vec::new());
    for (n, message) in messages.iter().enumerate() {
        match line(&message.payload) {
            Ok(line) => {
                lines.extend_from_slice(&line);
                lines.push(b'\n');
                at.push(n);
            }
            Err(error) => faults.push((n, error)),
        }
    }
    let (mut batches, mut begin, mut passed) = (Vec::new(), 0, 0);
    while begin < lines.len() {
        let part = decoder.decode(&lines[begin..])?;
        faults.extend(part.faults.into_iter().map(|f| (at[passed + index(f.line)], f.error)));
        begin += part.bytes;
        passed += index(part.lines);
        batches.push(part.batch);
    }
    Ok((concat_batches(decoder.schema(), &batches)?, faults))
}

fn index(line: u64) -> usize {
    usize::try_from(line).unwrap_or(usize::MAX)
}

/// A message as one line: between the tokens of JSON a line may end, and is told from one within a text.
pub(super) fn line(payload: &[u8]) -> Result<std::borrow::Cow<'_, [u8]>> {
    if is_blank(payload) {
        return Err(Error::validation("an empty message is no JSON object"));
    }
    if memchr::memchr2(b'\n', b'\r', payload).is_none() {
        return Ok(payload.into());
    }
    if let Err(e) = serde_json::from_slice::<IgnoredAny>(payload) {
        return Err(Error::validation(format!("not JSON: {e}")));
    }
    let spaced = payload.iter().map(|b| if matches!(b, b'\n' | b'\r') { b' ' } else { *b });
    Ok(spaced.collect::<Vec<_>>().into())
}

fn text(messages: &[Message]) -> Result<(RecordBatch, Faults)> {
    let (mut texts, mut faults) = (Vec::new(), Vec::new());
    for (n, message) in messages.iter().enumerate() {
        match std::str::from_utf8(&message.payload) {
            Ok(text) => texts.push(text),
            Err(e) => faults.push((n, not_utf8(&message.payload, e))),
        }
    }
    let texts: ArrayRef = Arc::new(StringArray::from(texts));
    Ok((RecordBatch::try_new(text_schema(), vec![texts])?, faults))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::rows_of;
    use serde_json::json;

    fn message(sequence: u64, payload: &[u8]) -> Message {
        let payload = bytes::Bytes::copy_from_slice(payload);
        let mut headers = HeaderMap::new();
        headers.append("b", "1");
        headers.append("a", "x");
        headers.append("a", "y");
        Message { sequence, published: 1_000_000_500, subject: "s".into(), payload, headers: Some(headers) }
    }

    #[test]
    fn every_message_is_a_row_or_rejected_with_its_sequence() {
        let content = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        let names = Metadata { sequence: Some("seq".into()), headers: Some("h".into()), ..Metadata::default() };
        let schema = with_metadata(&content, Some(&names)).unwrap();
        let payloads: &[&[u8]] = &[
            b"{\"n\":1}",
            b"",
            b"{\"n\":\n 2}\r\n",
            b"{\"n\":\"a\nb\"}",
            b"\xff",
            b"{\"n\":\"x\"}",
            b"{\"n\":3}",
            b"[1]",
            b" ",
        ];
        let messages: Vec<_> = payloads.iter().zip(10..).map(|(p, n)| message(n, p)).collect();
        let mut decode = Decode::json(&schema, 1, &[]).unwrap();
        let (batch, rejected) = decode.decode(&messages, "ORDERS", &schema).unwrap();
        let h = json!({"a": ["x", "y"], "b": "1"});
        let expected = [(1, 10), (2, 12), (3, 16)].map(|(n, seq)| json!({"n": n, "seq": seq, "h": h}));
        assert_eq!(rows_of(&batch), expected);
        let mut places: Vec<_> = rejected.iter().map(|r| r.error.place().input.clone().unwrap()).collect();
        places.sort();
        assert_eq!(places, [11, 13, 14, 15, 17, 18].map(|n| format!("ORDERS:{n}")));
    }

    #[test]
    fn texts_are_kept_as_they_are() {
        let names = Metadata { time: Some("time".into()), subject: Some("subject".into()), ..Metadata::default() };
        let schema = with_metadata(&text_schema(), Some(&names)).unwrap();
        let messages = [message(1, b"a\nb"), message(2, b"\xff"), message(3, b"")];
        let (batch, rejected) = Decode::Text.decode(&messages, "S", &schema).unwrap();
        let row = |text: &str| json!({"text": text, "subject": "s", "time": "1970-01-01T00:00:01"});
        assert_eq!(rows_of(&batch), [row("a\nb"), row("")]);
        assert_eq!(rejected.len(), 1);
    }

    #[test]
    fn a_column_of_metadata_does_not_hide_another() {
        let names = Metadata { subject: Some(TEXT.into()), ..Metadata::default() };
        let problem = with_metadata(&text_schema(), Some(&names)).unwrap_err();
        assert_eq!(problem.message, "there is a column `text` already");
    }
}
