//! Batches of a program: rows it has, and rows it wants.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use bourn_engine::api::{
    BoxSink, BoxSource, Capabilities, Chunk, ConnectContext, Connector, Delivery, Receipt, Replay, Sink, SinkContext,
    Source, SourceContext, Written,
};
use bourn_engine::data::json::row_value;
use bourn_engine::data::message::Epoch;
use bourn_engine::data::position::{Position, Split};
use bourn_engine::diagnostic::{Problem, Problems};
use bourn_engine::{Error, Result};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::codec::json::{Columns, Decoder, Inference};
use crate::codec::types::Declared;
use crate::generate::Nothing;

/// Rows that stand in the spec, or batches of a Rust program; as a sink, rows that a Rust program takes.
///
/// `memory: { rows: [ { id: 1, name: a }, { id: 2, name: b } ] }`
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The rows of a source.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<Map<String, Value>>,
    /// The columns with their types; inferred from the rows if it is not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schema: Option<Declared>,
    #[serde(skip)]
    #[schemars(skip)]
    batches: Option<(SchemaRef, Vec<RecordBatch>)>,
    #[serde(skip)]
    #[schemars(skip)]
    collected: Collected,
}

/// What a sink has taken so far, in the order in which it came; a clone is the same collection.
#[derive(Clone, Debug, Default)]
pub struct Collected(Arc<Mutex<Vec<RecordBatch>>>);

impl Collected {
    /// The batches as they came.
    pub fn batches(&self) -> Vec<RecordBatch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many rows.
    pub fn count(&self) -> usize {
        self.batches().iter().map(RecordBatch::num_rows).sum()
    }

    /// The rows as objects.
    ///
    /// # Errors
    /// When a column has a type without a JSON form.
    pub fn rows(&self) -> Result<Vec<Map<String, Value>>> {
        self.batches().iter().flat_map(|b| (0..b.num_rows()).map(move |i| row_value(b, i))).collect()
    }
}

impl Memory {
    /// A source of these batches, which have the schema of the first.
    pub fn rows(batches: impl Into<Vec<RecordBatch>>) -> Self {
        let batches = batches.into();
        let batches = batches.first().map(RecordBatch::schema).map(|schema| (schema, batches));
        Self { batches, ..Self::default() }
    }

    /// A source of these batches, of which there may be none.
    pub fn of(schema: SchemaRef, batches: impl Into<Vec<RecordBatch>>) -> Self {
        Self { batches: Some((schema, batches.into())), ..Self::default() }
    }

    /// A sink, and what it collects.
    pub fn collect() -> (Self, Collected) {
        let sink = Self::default();
        let collected = sink.collected.clone();
        (sink, collected)
    }

    fn read(&self) -> Result<(SchemaRef, Vec<RecordBatch>), Problems> {
        if let Some(given) = &self.batches {
            return Ok(given.clone());
        }
        let lines: Vec<_> = self.rows.iter().map(|row| serde_json::to_string(row).unwrap_or_default()).collect();
        let text = lines.join("\n");
        let columns = if let Some(declared) = &self.schema {
            Columns::new(declared.schema().map_err(|p| p.under("schema"))?, &[])
        } else if self.rows.is_empty() {
            return Err(Problem::new("there are no rows to read").help("give `rows: [ {...} ]`").into());
        } else {
            let mut inference = Inference::default();
            inference.look(text.as_bytes());
            let inferred = inference.finish();
            Columns::new(inferred.schema, &inferred.mixed)
        };
        let mut decoder = Decoder::new(columns)?;
        let (mut batches, mut problems) = (Vec::new(), Vec::new());
        let (mut at, mut row) = (0, 0);
        while at < text.len() {
            let part = decoder.decode(&text.as_bytes()[at..])?;
            batches.push(part.batch);
            for fault in part.faults {
                let index = usize::try_from(row + fault.line).unwrap_or(usize::MAX);
                problems.push(Problem::new(fault.error.to_string()).under(index).under("rows"));
            }
            at += part.bytes;
            row += part.lines;
        }
        Problems::check(problems)?;
        Ok((decoder.schema().clone(), batches))
    }
}

impl Connector for Memory {
    const NAME: &'static str = "memory";

    fn capabilities(&self) -> Capabilities {
        Capabilities::source(Replay::FromPosition, true).and_sink(Delivery::Plain)
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(self.read()?.0)
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let (_, batches) = self.read().map_err(|Problems(p)| Error::validation(p[0].message.clone()))?;
        let Some((split, position)) = context.splits.into_iter().next() else {
            return Ok(BoxSource::new(Nothing));
        };
        let done = position.map_or(Ok(0), |p| p.read::<BatchPosition>().map(|p| p.batch))?;
        let rows = |batches: &[RecordBatch]| batches.iter().map(|b| b.num_rows() as u64).sum();
        let progress = (rows(&batches[..done.min(batches.len())]), rows(&batches));
        Ok(BoxSource::new(MemorySource { waiting: batches.into_iter().skip(done).collect(), done, progress, split }))
    }

    async fn sink(&self, _: SinkContext) -> Result<BoxSink> {
        Ok(BoxSink::new(MemorySink(self.collected.clone())))
    }
}

/// How many batches were read.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct BatchPosition {
    batch: usize,
}

struct MemorySource {
    waiting: VecDeque<RecordBatch>,
    done: usize,
    /// Rows that were read, and rows that there are.
    progress: (u64, u64),
    split: Split,
}

impl Source for MemorySource {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        let Some(batch) = self.waiting.pop_front() else {
            return Ok(None);
        };
        self.done += 1;
        self.progress.0 += batch.num_rows() as u64;
        let position = Position::of(&BatchPosition { batch: self.done })?;
        let (done, total) = self.progress;
        Ok(Some(Chunk::new(batch, self.split.clone(), position).with_progress(done, total)))
    }
}

struct MemorySink(Collected);

impl Sink for MemorySink {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).push(rows.clone());
        Ok(Written::all())
    }

    async fn prepare(&mut self, _: Epoch) -> Result<Option<Receipt>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{batch_of, chunks, connect, open, read_all, rows, write_all};
    use serde_json::json;

    #[tokio::test]
    async fn rows_of_a_spec_are_rows_of_a_source() {
        let memory: Memory = serde_json::from_value(json!({"rows": [{"a": 1, "b": "x"}, {"b": "y"}]})).unwrap();
        assert_eq!(rows(&read_all(&memory).await.unwrap()), [json!({"a": 1, "b": "x"}), json!({"a": null, "b": "y"})]);
    }

    #[tokio::test]
    async fn a_row_that_does_not_fit_is_told_with_its_place() {
        let config = json!({"rows": [{"a": 1}, {"a": "x"}], "schema": {"a": "bigint"}});
        let memory: Memory = serde_json::from_value(config).unwrap();
        let Problems(problems) = memory.schema(&connect()).await.unwrap_err();
        assert_eq!(problems[0].path, ["rows".into(), 1.into()]);
    }

    #[tokio::test]
    async fn batches_go_in_and_out_and_on_from_any_position() {
        let batch = batch_of(&[json!({"a": 1}), json!({"a": 2}), json!({"a": 3})]);
        let source = Memory::rows([batch.slice(0, 1), batch.slice(1, 2)]);
        let whole = read_all(&source).await.unwrap();
        let rest = chunks(open(&source, Some(&whole[0].position)).await.unwrap()).await.unwrap();
        assert_eq!(rows(&rest), rows(&whole[1..]));
        assert_eq!(whole.iter().map(|c| c.progress.unwrap()).collect::<Vec<_>>(), [(1, 3), (3, 3)]);
        assert_eq!(rest[0].progress, Some((3, 3)));
        let (sink, collected) = Memory::collect();
        write_all(&sink, std::slice::from_ref(&batch)).await.unwrap();
        assert_eq!((collected.batches(), collected.count()), (vec![batch], 3));
    }
}
