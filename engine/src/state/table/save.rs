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
    use crate::state::room::Room;
    use crate::state::table::data::UNSAVED;
    use crate::testing::simulation::Simulation;
    use arrow::array::{ArrayRef, Int64Array};
    use arrow::record_batch::RecordBatch;
    use std::sync::Arc;
    use xxhash_rust::xxh3::xxh3_64;

    fn part(keys: std::ops::Range<i64>) -> Part<i64> {
        let types = [DataType::Int64];
        let mut part = Part::new(rest::width_of(&types));
        let column: ArrayRef = Arc::new(Int64Array::from_iter_values(keys));
        for key in &rest::converter(&types).unwrap().convert_columns(&[column]).unwrap() {
            part.place(xxh3_64(key.as_ref()), key.as_ref()).unwrap();
        }
        part
    }

    fn thousands(n: i64) -> Part<i64> {
        part(n * 1_000..(n + 1) * 1_000)
    }

    /// The chunks of a snapshot, each with its rows if it has changed, and the parts that have become layers.
    fn chunks(log: &mut Log, len: usize, parts: &mut [Part<i64>]) -> (Vec<(u64, Option<usize>)>, Vec<u32>) {
        let mut layered = VecDeque::new();
        let snapshot = log.snapshot((&[DataType::Int64], len, false), parts, &mut layered).unwrap();
        let chunk = |chunk| match chunk {
            Chunk::Unchanged(number) => (number, None),
            Chunk::Changed(number, frozen) => {
                (number, Some(frozen.batches().unwrap().iter().map(RecordBatch::num_rows).sum()))
            }
        };
        (snapshot.0.into_iter().map(chunk).collect(), layered.into())
    }

    #[test]
    fn parts_that_have_something_become_layers_and_many_of_them_one_chunk() {
        let mut log = Log { copied: 0, ..Log::default() };
        let mut parts: Vec<_> = (0..100).map(thousands).collect();
        parts.insert(1, part(0..0));
        parts.push(part(0..0));
        let (first, layered) = chunks(&mut log, 100_000, &mut parts);
        assert_eq!(first, [(0, Some(66_000)), (1, Some(34_000))]);
        assert_eq!(layered, (0..101).filter(|n| *n != 1).collect::<Vec<_>>());
        // Then only those that have changed.
        parts[3].reclaim(false).unwrap();
        (5..7).for_each(|at| parts[3].data.mark(at, UNSAVED));
        let (second, layered) = chunks(&mut log, 100_000, &mut parts);
        assert_eq!((&second[..], &layered[..]), (&[(0, None), (1, None), (2, Some(2))][..], &[3][..]));
        let nothing = chunks(&mut log, 100_000, &mut parts[..3]);
        assert_eq!(nothing, (vec![(0, None), (1, None), (2, None)], vec![]));
        // And all of them again when the whole is saved, whatever has changed.
        log.is_whole_next = true;
        let (whole, layered) = chunks(&mut log, 100_000, &mut parts);
        assert_eq!((whole, layered.len()), (vec![(3, Some(66_000)), (4, Some(34_000))], 100));
    }

    #[test]
    fn a_part_on_the_disk_is_in_the_whole_and_among_the_changes_if_it_has_changed() {
        let mut log = Log::default();
        let mut parts = [thousands(0), thousands(1), part(0..0)];
        parts[0].spill(&mut disk(), usize::MAX).unwrap();
        let (first, layered) = chunks(&mut log, 2_000, &mut parts);
        assert_eq!((first, layered), (vec![(0, Some(2_000))], vec![0, 1]));
        // A small table is saved as a whole, but not one of which some is on the disk.
        assert!(parts.iter_mut().all(|part| part.reclaim(false).unwrap()));
        parts[1].data.mark(7, UNSAVED);
        assert_eq!(chunks(&mut log, 2_000, &mut parts).0, [(0, None), (1, Some(1))]);
        parts[0].cold = None;
        parts[1].data.mark(7, UNSAVED);
        assert_eq!(chunks(&mut log, 1_000, &mut parts).0, [(2, Some(1_000))]);
        assert_eq!(chunks(&mut log, 1_000, &mut parts).0, [(2, None)]);
        let (mut disk, mut parts) = (disk(), (0..100).map(thousands).collect::<Vec<_>>());
        assert!(parts.iter_mut().all(|part| part.spill(&mut disk, usize::MAX).unwrap().is_none()));
        let all = chunks(&mut Log::default(), 100_000, &mut parts).0;
        assert_eq!(all, [(0, Some(66_000)), (1, Some(34_000))]);
    }

    fn disk() -> Disk {
        let (env, folder, name) = (Simulation::new(1).env(), "s".into(), "t".into());
        Disk::new(Room { memory: 0, env, folder, name, file: 1_000_000 })
    }

    #[test]
    fn changes_that_go_to_the_disk_are_told_to_the_next_snapshot_unless_they_are_more_than_the_keys() {
        let (mut log, mut disk) = (Log::default(), disk());
        let mut parts = [thousands(0)];
        let mut spills = |log: &mut Log| {
            let few = part(0..10);
            log.spills(&few.data, few.shape, &mut disk, 20).unwrap();
            (log.told.len(), log.is_whole_next)
        };
        // There is nothing yet that they would be changes of.
        assert_eq!(spills(&mut log), (0, false));
        assert_eq!(chunks(&mut log, 10_000, &mut parts).0, [(0, Some(1_000))]);
        assert_eq!([spills(&mut log), spills(&mut log)], [(1, false), (2, false)]);
        assert_eq!(chunks(&mut log, 10_000, &mut parts).0, [(0, None), (1, Some(10)), (2, Some(10))]);
        assert_eq!([spills(&mut log), spills(&mut log)], [(0, true); 2]);
        assert_eq!(chunks(&mut log, 10_000, &mut parts).0, [(3, Some(1_000))]);
        assert_eq!(chunks(&mut log, 10_000, &mut parts).0, [(3, None)]);
        assert_eq!([spills(&mut log), spills(&mut log), spills(&mut log)], [(1, false), (2, false), (0, true)]);
    }

    #[test]
    fn what_is_copied_of_many_parts_has_its_room_from_the_beginning() {
        let mut parts: Vec<_> = (0..100).map(|n| part(n * 1_024..(n + 1) * 1_024)).collect();
        let chunks = copies(&mut parts, Take::All).unwrap();
        let counts: Vec<usize> = chunks.iter().map(Copied::count).collect();
        assert_eq!(counts, [65_536, 36_864]);
        let bytes = chunks.iter().map(|chunk| (chunk.records.len(), chunk.records.capacity()));
        let all = CHUNK + CHUNK / 4;
        assert_eq!(bytes.collect::<Vec<_>>(), [(65_536 * 17, all * 17), (36_864 * 17, 36_864 * 17)]);
        // All is saved, and could be so again.
        assert!(copies(&mut parts, Take::Changes).unwrap().is_empty());
        let again = copies(&mut parts, Take::All).unwrap();
        assert_eq!(again.iter().map(Copied::count).collect::<Vec<_>>(), counts);
    }
}
