//! A batch of rows with what the engine must know of it.

use std::sync::Arc;

use arrow::array::Array;
use arrow::compute::concat_batches;
use arrow::record_batch::RecordBatch;
use serde::{Deserialize, Serialize};

use super::position::{Position, Split};
use crate::error::Result;
use crate::time::Timestamp;

/// The most rows that a batch holds on a channel.
pub const ROWS_MAX: usize = 8_192;
/// The most bytes that a batch of several rows holds on a channel; one row may be larger.
pub const BYTES_MAX: usize = 4 << 20;

/// A batch and its header.
#[derive(Clone, Debug)]
pub struct Records {
    /// The rows: at most [`ROWS_MAX`], and [`BYTES_MAX`] unless it is a single row.
    pub batch: RecordBatch,
    /// What the engine knows of them.
    pub header: Header,
}

/// What the engine knows of a batch. Rows that a stage emits inherit the header of the batch they came from.
#[derive(Clone, Debug, Default)]
pub struct Header {
    /// Wall time at which the source read the oldest of the rows.
    pub ingested: Timestamp,
    /// Where the rows were read, until an exchange by key or an aggregate mixes them.
    pub origin: Option<Arc<Origin>>,
    /// The admission that the rows hold; it is given back when the last batch that carries it is gone.
    pub credit: Option<Arc<Credit>>,
}

/// A header as it is kept on a disk. Admissions stay in memory.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeptHeader {
    ingested: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    split: Option<Split>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    position: Option<Position>,
}

impl From<&Header> for KeptHeader {
    fn from(header: &Header) -> Self {
        let origin = header.origin.as_deref();
        let (split, position) = (origin.map(|o| o.split.clone()), origin.map(|o| o.position.clone()));
        Self { ingested: header.ingested.0, split, position }
    }
}

impl From<KeptHeader> for Header {
    fn from(kept: KeptHeader) -> Self {
        let origin = kept.split.zip(kept.position).map(|(split, position)| Arc::new(Origin { split, position }));
        Self { ingested: Timestamp(kept.ingested), origin, credit: None }
    }
}

/// A place in the input of a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The part of the input.
    pub split: Split,
    /// The position behind the chunk that the rows came in.
    pub position: Position,
}

/// `a.jsonl, line 12 or before`: a position stands behind its chunk, so the row is not beyond it.
impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let position: serde_json::Value = self.position.read().unwrap_or_default();
        let known = ["line", "row"].into_iter().find_map(|unit| Some((unit, position.get(unit)?.as_u64()?)));
        match known {
            Some((unit, number)) => write!(f, "{}, {unit} {number} or before", self.split),
            // Other positions are words of the source's own.
            None => write!(f, "{}", self.split),
        }
    }
}

/// An admission held by rows in flight. What it holds is given back on drop.
pub struct Credit(#[expect(dead_code, reason = "held for its drop")] Box<dyn Send + Sync>);

impl Credit {
    /// Keeps `permit` until the last batch that carries this credit is dropped.
    pub fn new(permit: impl Send + Sync + 'static) -> Self {
        Self(Box::new(permit))
    }
}

impl std::fmt::Debug for Credit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Credit")
    }
}

impl Records {
    /// The bytes that these rows keep alive; see [`bytes_held`].
    pub fn bytes(&self) -> usize {
        bytes_held(&self.batch)
    }
}

/// The bytes of memory that a batch keeps alive: a slice counts the whole of the buffers it points into, because that
/// is what its holder pins. Buffers that two columns share count twice.
pub fn bytes_held(batch: &RecordBatch) -> usize {
    // `as_ref`, since the `Arc` is an array too, which would only ask the one behind it.
    batch.columns().iter().map(|column| column.as_ref().get_buffer_memory_size()).sum()
}

/// The bytes that the rows themselves need, without what a slice pins beside them.
pub fn bytes_needed(batch: &RecordBatch) -> usize {
    batch
        .columns()
        .iter()
        .map(|c| c.to_data().get_slice_memory_size().unwrap_or_else(|_| c.get_buffer_memory_size()))
        .sum()
}

/// A copy of the rows without what a slice pins beside them.
///
/// # Errors
/// When the copy would be larger than its offsets can say.
pub fn compact(batch: &RecordBatch) -> Result<RecordBatch> {
    // One batch alone is returned as it is by `concat_batches`; an empty second one forces the copy.
    Ok(concat_batches(batch.schema_ref(), [batch, &batch.slice(0, 0)])?)
}
