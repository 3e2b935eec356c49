//! What a table hands to its checkpoints: all keys once, and then changes, until these are as many.

use std::collections::VecDeque;

use arrow::datatypes::DataType;

use super::data::Data;
use super::disk::Disk;
use super::part::Part;
use super::rest::{self, Take};
use super::run::Shape;
use super::spill::{Copied, Told};
use crate::error::Result;
use crate::state::Cells;
use crate::state::visitor::{Chunk, Frozen, Snapshot};

/// Rows of a chunk at rest, about.
const CHUNK: usize = 65_536;
/// A table of so many keys is saved as a whole, one with more by its changes: so many times, and up to as many rows as it has.
const WHOLE: usize = 8_192;
pub(super) const CHANGES: usize = 64;
/// Parts of so many bytes are copied out while the task waits, some milliseconds at most. More become layers, which hold up nobody
/// and cost more in all.
const COPIED: usize = 8 << 20;

/// What is saved of a table.
#[derive(Debug)]
pub(super) struct Log {
    /// The numbers of chunks, in order.
    chunks: Vec<u64>,
    next: u64,
    /// Changes behind the whole: how often, and how many rows.
    times: usize,
    rows: usize,
    /// Changes that went to the disk since the last snapshot.
    told: Vec<Told>,
    /// Whether the next snapshot is one of the whole, because there were too many of them.
    is_whole_next: bool,
    /// What is copied at most.
    pub(super) copied: usize,
}

impl Default for Log {
    fn default() -> Self {
        let (chunks, told) = (Vec::new(), Vec::new());
        Self { chunks, next: 0, times: 0, rows: 0, told, is_whole_next: false, copied: COPIED }
    }
}

impl Log {
    /// What a part has in memory goes to the disk, which does not know what is saved.
    pub(super) fn spills<V: Cells>(&mut self, data: &Data<V>, shape: Shape, disk: &mut Disk, len: usize) -> Result<()> {
        if self.chunks.is_empty() || self.is_whole_next {
            return Ok(());
        }
        self.told.extend(Told::write(data, shape, disk)?);
        if self.rows + self.told.iter().map(|told| told.count).sum::<usize>() > len {
            self.is_whole_next = true;
            self.told.clear();
        }
        Ok(())
    }

    /// What is to be saved now. Parts that are not empty become those of two layers.
    pub(super) fn snapshot<V: Cells>(
        &mut self,
        (types, len, whole): (&[DataType], usize, bool),
        parts: &mut [Part<V>],
        layered: &mut VecDeque<u32>,
    ) -> Result<Snapshot> {
        let told = std::mem::take(&mut self.told);
        let changes = parts.iter().map(|p| p.data.unsaved()).chain(told.iter().map(|told| told.count)).sum::<usize>();
        let is_whole_next = std::mem::take(&mut self.is_whole_next);
        if changes == 0 && !whole && !is_whole_next && !self.chunks.is_empty() {
            return Ok(Snapshot(self.chunks.iter().map(|n| Chunk::Unchanged(*n)).collect()));
        }
        let is_much = self.times >= CHANGES || self.rows + changes > len;
        let all = whole
            || is_whole_next
            || self.chunks.is_empty()
            || is_much
            || len <= WHOLE && parts.iter().all(|p| p.cold.is_none());
        if all {
            *self = Self { next: self.next, copied: self.copied, ..Self::default() };
        } else {
            (self.times, self.rows) = (self.times + 1, self.rows + changes);
        }
        let mut content: Vec<Chunk> = self.chunks.iter().map(|n| Chunk::Unchanged(*n)).collect();
        let mut add = |frozen: Frozen| {
            content.push(Chunk::Changed(self.next, frozen));
            self.chunks.push(self.next);
            self.next += 1;
        };
        for told in told.into_iter().filter(|_| !all) {
            let types = types.to_vec();
            add(Frozen::in_batches(move |each| told.at_rest::<V>(&types, each)));
        }
        let take = if all { Take::All } else { Take::Changes };
        let is_in_one = parts.iter().all(|p| p.cold.is_none() && p.frozen.is_none());
        let bytes: usize = parts.iter().map(|p| p.data.bytes_taken(take)).sum();
        if bytes <= self.copied && (is_in_one || !all) {
            for copied in copies(parts, take)? {
                let types = types.to_vec();
                add(Frozen::in_batches(move |each| copied.at_rest::<V>(&types, take, each)));
            }
            return Ok(Snapshot(content));
        }
        let (mut layers, mut rows) = (Vec::new(), 0);
        let last = parts.len() - 1;
        for (number, part) in parts.iter_mut().enumerate() {
            if (all && (part.taken() > 0 || part.cold.is_some())) || part.data.unsaved() > 0 {
                let (layer, cold) = part.freeze()?;
                let cold = cold.filter(|_| all);
                rows += if all { layer.live() } else { layer.unsaved() };
                rows += cold.as_ref().map_or(0, |run| run.count);
                layers.push((layer, cold));
                layered.push_back(u32::try_from(number)?);
            }
            if rows >= CHUNK || (number == last && !layers.is_empty()) {
                let (types, taken) = (types.to_vec(), std::mem::take(&mut layers));
                add(Frozen::in_batches(move |each| rest::at_rest(&types, &taken, take, each)));
                rows = 0;
            }
        }
        Ok(Snapshot(content))
    }
}

/// Copies what a snapshot takes of parts, a chunk at a time.
fn copies<V: Cells>(parts: &mut [Part<V>], take: Take) -> Result<Vec<Copied>> {
    let mut chunks: Vec<Copied> = Vec::new();
    let mut left: usize = parts.iter().map(|part| part.data.count_taken(take)).sum();
    for part in parts {
        if take == Take::Changes && part.data.unsaved() == 0 {
            continue;
        }
        let full = left.min(CHUNK + CHUNK / 4);
        let mut last = chunks.pop_if(|last| last.count() < CHUNK).unwrap_or_else(|| Copied::new(part.shape, full));
        left -= part.data.count_taken(take);
        last.add(&part.data, take)?;
        chunks.push(last);
        part.data.saved();
        part.clean(4)?;
    }
    chunks.retain(|chunk| chunk.count() > 0);
    Ok(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;
    use xxhash_rust::xxh3::xxh3_64;

    #[test]
    fn what_is_copied_of_many_parts_has_its_room_from_the_beginning() {
        let part = |number: u64| {
            let mut part = Part::<i64>::new(Some(8));
            for key in number * 1_000..(number + 1) * 1_000 {
                let key = key.to_be_bytes();
                part.place(xxh3_64(&key), &key).unwrap();
            }
            part
        };
        let mut parts: Vec<_> = (0..100).map(part).collect();
        let chunks = copies(&mut parts, Take::All).unwrap();
        let counts: Vec<usize> = chunks.iter().map(Copied::count).collect();
        assert_eq!(counts, [66_000, 34_000]);
        let bytes = chunks.iter().map(|chunk| (chunk.records.len(), chunk.records.capacity()));
        let all = CHUNK + CHUNK / 4;
        assert_eq!(bytes.collect::<Vec<_>>(), [(66_000 * 16, all * 16), (34_000 * 16, 34_000 * 16)]);
        // All is saved.
        assert!(copies(&mut parts, Take::Changes).unwrap().is_empty());
    }
}
