//! What was read of an input, chunk by chunk.

use std::collections::BTreeMap;

use arrow::record_batch::RecordBatch;

use crate::api::{Chunk, Rejected};
use crate::data::position::{Position, Split};

/// Splits, each with the position behind which it goes on.
pub(super) type Places = Vec<(Split, Option<Position>)>;

/// What was read.
pub(super) struct Read {
    pub(super) chunks: Vec<Chunk>,
    /// Whether the end was seen.
    pub(super) ended: bool,
}

/// The rows of one split.
pub(super) struct Part {
    pub(super) batches: Vec<RecordBatch>,
    pub(super) rejected: usize,
}

impl Part {
    pub(super) fn count(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }

    pub(super) fn total(&self) -> usize {
        self.count() + self.rejected
    }

    pub(super) fn first(&self, mut rows: usize) -> Vec<RecordBatch> {
        let mut cut = Vec::new();
        for batch in &self.batches {
            let taken = batch.num_rows().min(rows);
            cut.push(batch.slice(0, taken));
            rows -= taken;
        }
        cut
    }
}

impl Read {
    pub(super) fn rows(&self) -> usize {
        self.rows_from(0)
    }

    pub(super) fn rows_from(&self, chunk: usize) -> usize {
        let rejected = |c: &Chunk| c.rejected.iter().map(Rejected::count).sum::<usize>();
        self.chunks.iter().skip(chunk).map(|c| c.records.num_rows() + rejected(c)).sum()
    }

    /// The rows of a split in the chunks from `chunk` on.
    pub(super) fn of(&self, split: &Split, chunk: usize) -> Part {
        let chunks: Vec<_> = self.chunks.iter().skip(chunk).filter(|c| c.split == *split).collect();
        let batches = chunks.iter().map(|c| &c.records).filter(|r| r.num_rows() > 0).cloned().collect();
        Part { batches, rejected: chunks.iter().flat_map(|c| &c.rejected).map(Rejected::count).sum() }
    }

    /// Where each split is behind the first `chunks` chunks.
    pub(super) fn places(&self, splits: &[Split], chunks: usize) -> Places {
        let mut places: BTreeMap<&Split, Position> = BTreeMap::new();
        for chunk in &self.chunks[..chunks] {
            places.insert(&chunk.split, chunk.position.clone());
        }
        splits.iter().map(|split| (split.clone(), places.get(split).cloned())).collect()
    }
}
