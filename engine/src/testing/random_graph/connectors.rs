//! The sources and sinks of random graphs: numbers in splits, and notes of what came.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::shape::Does;
use super::stages::{SCHEMA, ids, part};
use super::{Rows, Seen};
use crate::api::{
    Ack, BoxSink, BoxSource, Capabilities, Chunk, ConnectContext, Connector, Delivery, Outcome, Receipt, Rejected,
    Replay, Sink, SinkContext, Source, SourceContext, Written,
};
use crate::data::columns::DEAD_LETTER;
use crate::data::message::Epoch;
use crate::data::position::{Position, Split};
use crate::diagnostic::Problems;
use crate::env::Env;
use crate::error::{Error, Result};

/// A source or sink of a random graph.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct End {
    pub(super) does: Does,
    #[serde(skip)]
    pub(super) seen: Seen,
}

impl Connector for End {
    const NAME: &'static str = "end";

    fn capabilities(&self) -> Capabilities {
        match self.does {
            Does::Write { transactional: true, .. } => Capabilities::sink(Delivery::Transactional),
            Does::Write { .. } => Capabilities::sink(Delivery::Plain),
            _ => Capabilities::source(Replay::FromPosition, true),
        }
    }

    async fn schema(&self, _: &ConnectContext) -> Result<SchemaRef, Problems> {
        Ok(SCHEMA.clone())
    }

    async fn splits(&self, _: &ConnectContext) -> Result<Vec<Split>> {
        let Does::Read { splits, .. } = &self.does else { return Ok(Vec::new()) };
        Ok((0..splits.len()).map(|n| Split::new(n.to_string())).collect())
    }

    async fn source(&self, context: SourceContext) -> Result<BoxSource> {
        let Does::Read { first, splits, chunk, slow_ms } = &self.does else {
            return Err(Error::unsupported("this end writes"));
        };
        let mut parts = Vec::new();
        for (split, position) in context.splits {
            let number: usize = split.name().parse()?;
            let start = *first + as_id(splits[..number].iter().sum());
            let next = position.map_or(Ok(start), |p| p.read())?;
            parts.push(Part { split, next, end: start + as_id(splits[number]) });
        }
        let (env, seen) = (context.env, self.seen.clone());
        Ok(BoxSource::new(Numbers { env, seen, parts, chunk: as_id(*chunk), slow_ms: *slow_ms }))
    }

    async fn sink(&self, context: SinkContext) -> Result<BoxSink> {
        let Does::Write { slow_ms, transactional, refused_of } = self.does else {
            return Err(Error::unsupported("this end reads"));
        };
        let SinkContext { env, id, schema, lane, epochs, .. } = context;
        let behind = epochs.map_or(0, |e| e.behind);
        // What was staged of a later epoch was never committed.
        self.seen.note(|notes| notes.staged.retain(|(of, _, epoch), _| *of != id || *epoch <= behind));
        let dead_letters = schema == *DEAD_LETTER;
        let open = Vec::new();
        let notes =
            Notebook { env, id, seen: self.seen.clone(), slow_ms, transactional, refused_of, dead_letters, open };
        Ok(BoxSink::new(Staged { notes, lane, epoch: behind }))
    }
}

fn as_id(n: usize) -> i64 {
    i64::try_from(n).expect("some hundreds")
}

/// Rows with the node that they stand under.
pub(super) type Placed = Vec<(String, i64)>;

/// What is left of a split.
struct Part {
    split: Split,
    next: i64,
    end: i64,
}

struct Numbers {
    env: Env,
    seen: Seen,
    parts: Vec<Part>,
    chunk: i64,
    slow_ms: u64,
}

impl Source for Numbers {
    async fn read(&mut self) -> Result<Option<Chunk>> {
        if self.slow_ms > 0 {
            self.env.sleep(Duration::from_millis(self.env.random() % self.slow_ms)).await;
        }
        self.parts.retain(|part| part.next < part.end);
        if self.parts.is_empty() {
            return Ok(None);
        }
        self.parts.rotate_left(1);
        let part = self.parts.last_mut().expect("one is left");
        let to = (part.next + self.chunk).min(part.end);
        let numbers = part.next..to;
        let rows = Arc::new(Int64Array::from_iter_values(numbers.clone()));
        part.next = to;
        self.seen.note(|notes| notes.chunks += 1);
        let seen = self.seen.clone();
        let ack = Ack::new(move || async move {
            seen.acknowledge(numbers);
            Ok(())
        });
        let records = RecordBatch::try_new(SCHEMA.clone(), vec![rows])?;
        Ok(Some(Chunk::new(records, part.split.clone(), Position::of(&to)?).with_ack(ack)))
    }
}

/// Where rows are noted, and those that are not visible yet.
struct Notebook {
    env: Env,
    id: String,
    seen: Seen,
    slow_ms: u64,
    transactional: bool,
    refused_of: i64,
    dead_letters: bool,
    open: Placed,
}

/// Stages rows by epoch if it is transactional, and watches over the order of the engine's calls.
struct Staged {
    notes: Notebook,
    lane: usize,
    epoch: Epoch,
}

impl Notebook {
    /// The rows that are taken, by the node that they stand under.
    fn take(&self, rows: &RecordBatch) -> Result<(Placed, Vec<Rejected>)> {
        if !self.dead_letters {
            let (refused, good) = part(rows, self.refused_of)?;
            let taken = ids(&good).iter().map(|id| (self.id.clone(), *id)).collect();
            let refused = (refused.num_rows() > 0).then(|| Rejected::rows(refused, Error::validation("refused")));
            return Ok((taken, refused.into_iter().collect()));
        }
        let text = |name: &str| rows.column_by_name(name).and_then(|c| c.as_string_opt::<i32>());
        let columns = text("stage").zip(text("row"));
        let (stages, letters) = columns.ok_or_else(|| Error::engine("a dead letter has a stage and a row"))?;
        let letter = |n| {
            let row: serde_json::Value = serde_json::from_str(letters.value(n))?;
            let id = row["id"].as_i64().ok_or_else(|| Error::engine("a dead letter is the row as it entered"))?;
            Ok((stages.value(n).to_owned(), id))
        };
        Ok(((0..rows.num_rows()).map(letter).collect::<Result<_>>()?, Vec::new()))
    }

    fn show(&self, rows: Placed) {
        self.seen.note(|notes| {
            let shown = if self.dead_letters { &mut notes.dead_letters } else { &mut notes.sinks };
            for (node, id) in rows {
                let rows: &mut Rows = shown.entry(node).or_default();
                *rows.entry(id).or_default() += 1;
            }
        });
    }

    fn fault(&self, fault: &str) {
        self.seen.note(|notes| notes.faults.push(format!("sink `{}`: {fault}", self.id)));
    }
}

impl Sink for Staged {
    async fn write(&mut self, rows: &RecordBatch) -> Result<Written> {
        let notes = &mut self.notes;
        if notes.slow_ms > 0 {
            notes.env.sleep(Duration::from_millis(notes.env.random() % notes.slow_ms)).await;
        }
        let (mut taken, rejected) = notes.take(rows)?;
        if notes.transactional {
            notes.open.append(&mut taken);
        } else {
            notes.show(taken);
        }
        Ok(Written { rejected })
    }

    async fn prepare(&mut self, epoch: Epoch) -> Result<Option<Receipt>> {
        if epoch <= self.epoch {
            self.notes.fault(&format!("epoch {epoch} was prepared behind epoch {}", self.epoch));
        }
        self.epoch = epoch;
        if !self.notes.transactional {
            return Ok(None);
        }
        let rows = std::mem::take(&mut self.notes.open);
        let key = (self.notes.id.clone(), self.lane, epoch);
        self.notes.seen.note(|notes| notes.staged.insert(key, rows));
        Receipt::of(&(self.lane, epoch)).map(Some)
    }

    async fn commit(&mut self, receipt: &Receipt) -> Result<Outcome> {
        let (lane, epoch): (usize, Epoch) = receipt.read()?;
        let (staged, crashes) =
            self.notes.seen.note(|notes| (notes.staged.remove(&(self.notes.id.clone(), lane, epoch)), notes.crashes));
        match staged {
            Some(rows) => {
                self.notes.seen.commit(epoch, rows.iter().map(|(_, id)| *id));
                self.notes.show(rows);
            }
            // A job that goes on does not know how far the one before it came.
            None if crashes > 0 => {}
            None => self.notes.fault(&format!("epoch {epoch} was committed twice, or never prepared")),
        }
        Ok(Outcome::Committed)
    }

    async fn finish(&mut self) -> Result<()> {
        let left = self
            .notes
            .seen
            .note(|notes| notes.staged.keys().any(|(of, lane, _)| *of == self.notes.id && *lane == self.lane));
        if left || !self.notes.open.is_empty() {
            self.notes.fault("the job ended well with rows that were not committed");
        }
        Ok(())
    }
}
