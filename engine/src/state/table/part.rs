//! A part of a table: the keys whose hashes begin with the same bits, in up to three layers.

use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::data::{Data, NEW, REMOVED, UNSAVED, UNSPILLED};
use super::run::{Run, Shape};
use crate::error::Result;
use crate::state::Cells;

/// What changes is in `data`. Below it, while a snapshot is being written, is what it is written of, and below that what is on
/// the disk. The highest layer that has a key counts.
#[derive(Debug)]
pub(super) struct Part<V> {
    /// How many bits its hashes have in common, and these bits, the others zero.
    pub(super) depth: u32,
    pub(super) prefix: u64,
    pub(super) data: Data<V>,
    pub(super) frozen: Option<Arc<Data<V>>>,
    pub(super) cold: Option<Arc<Run>>,
    pub(super) shape: Shape,
}

/// A layer of a snapshot, and what is on the disk below it.
pub(super) type Layer<V> = (Arc<Data<V>>, Option<Arc<Run>>);

impl<V: Cells> Part<V> {
    pub(super) fn new(width: Option<usize>) -> Self {
        let shape = Shape { width, value: V::BYTES };
        Self { depth: 0, prefix: 0, data: Data::new(width), frozen: None, cold: None, shape }
    }

    /// Places that are taken in memory.
    pub(super) fn taken(&self) -> usize {
        self.data.len() + self.frozen.as_ref().map_or(0, |f| f.len())
    }

    /// Bytes in memory.
    pub(super) fn bytes(&self) -> usize {
        let layers = std::iter::once(&self.data).chain(self.frozen.as_deref());
        layers.map(Data::bytes).sum::<usize>()
            + self.cold.as_ref().map_or(0, |run| run.bytes_held())
            + size_of::<Self>()
    }

    /// The value of a key, if it is there.
    pub(super) fn peek(&self, hash: u64, key: &[u8]) -> Result<Option<V>> {
        for layer in std::iter::once(&self.data).chain(self.frozen.as_deref()) {
            if let Some(at) = layer.find(hash, key) {
                return Ok((!layer.is(at, REMOVED)).then(|| layer.values[at].clone()));
            }
        }
        let Some(cold) = &self.cold else { return Ok(None) };
        Ok(cold.get(hash, key)?.map(|value| V::take(&value)))
    }

    /// The place of a key in the layer that changes, and whether it is new.
    pub(super) fn place(&mut self, hash: u64, key: &[u8]) -> Result<(usize, bool)> {
        if let Some(at) = self.data.find(hash, key) {
            let is_new = self.data.is(at, REMOVED);
            if is_new {
                self.data.revive(at);
                self.data.values[at] = V::default();
                self.data.mark(at, UNSAVED | UNSPILLED);
            }
            return Ok((at, is_new));
        }
        let below = self.frozen.as_ref().and_then(|f| f.find(hash, key).map(|at| (f, at)));
        let (value, flags, is_new) = match (below, &self.cold) {
            (Some((f, at)), _) if f.is(at, REMOVED) => (V::default(), UNSAVED | UNSPILLED, true),
            // What the layer below has to tell the disk and the next snapshot, it tells when both are one again.
            (Some((f, at)), _) => (f.values[at].clone(), 0, false),
            (None, None) => (V::default(), NEW, true),
            (None, Some(cold)) => match cold.get(hash, key)? {
                Some(value) => (V::take(&value), 0, false),
                None => (V::default(), NEW, true),
            },
        };
        Ok((self.data.add(hash, key, value, flags)?, is_new))
    }

    /// What it holds becomes the layer of a snapshot.
    pub(super) fn freeze(&mut self) -> Result<Layer<V>> {
        self.reclaim(true)?;
        let frozen = Arc::new(std::mem::replace(&mut self.data, Data::new(self.shape.width)));
        self.frozen = Some(frozen.clone());
        Ok((frozen, self.cold.clone()))
    }

    /// Makes one layer in memory of two, if the snapshot that shares the other has been written, or a copy may be made. Places
    /// change.
    pub(super) fn reclaim(&mut self, copy: bool) -> Result<bool> {
        let Some(frozen) = self.frozen.take() else { return Ok(true) };
        let mut below = match Arc::try_unwrap(frozen) {
            Ok(data) => data,
            Err(shared) if copy => shared.as_ref().clone(),
            Err(shared) => {
                self.frozen = Some(shared);
                return Ok(false);
            }
        };
        below.saved();
        below.fold(&self.data)?;
        self.data = below;
        self.clean(4)?;
        Ok(true)
    }

    /// Gives the room of removed keys back when they are more than one in `share`. Places change.
    pub(super) fn clean(&mut self, share: usize) -> Result<()> {
        let removed = self.data.len() - self.data.live();
        if removed * share > self.data.len() && self.frozen.is_none() {
            let spilled = self.cold.is_some();
            self.data = self.data.part(self.data.live(), |data, at, _| !data.is_waste(at, spilled))?;
        }
        Ok(())
    }

    /// The other half of it: the keys whose next bit is one.
    pub(super) fn half(&mut self, data: Data<V>, cold: Option<Arc<Run>>) -> Self {
        let prefix = self.prefix | 1 << (63 - self.depth);
        self.depth += 1;
        Self { depth: self.depth, prefix, data, frozen: None, cold, shape: self.shape }
    }

    /// Two parts of one that has nothing on the disk: the keys whose next bit is zero stay, the others leave.
    pub(super) fn split(&mut self) -> Result<Self> {
        let bit = 63 - self.depth;
        let half = self.data.live() / 2;
        let kept =
            |high: u64| move |data: &Data<V>, at, hash: u64| hash >> bit & 1 == high && !data.is_waste(at, false);
        let (low, high) = (self.data.part(half, kept(0))?, self.data.part(half, kept(1))?);
        self.data = low;
        Ok(self.half(high, None))
    }

    /// Calls `each` with the keys and values on the disk that no layer in memory has.
    pub(super) fn each_cold(&self, mut each: impl FnMut(u64, &[u8], &[u8]) -> Result<()>) -> Result<()> {
        let Some(cold) = &self.cold else { return Ok(()) };
        for (key, value) in self.shape.records(&cold.load()?) {
            let hash = xxh3_64(key);
            let is_above = |data: &Data<V>| data.find(hash, key).is_some();
            if !is_above(&self.data) && !self.frozen.as_deref().is_some_and(is_above) {
                each(hash, key, value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::*;
    use crate::state::room::Room;

    fn part(keys: std::ops::Range<u64>) -> Part<i64> {
        let mut part = Part::new(Some(8));
        for key in keys {
            let key = key.to_be_bytes();
            part.place(xxh3_64(&key), &key).unwrap();
        }
        part
    }

    #[test]
    fn removed_keys_give_their_room_back_when_they_are_more_than_their_share_and_nobody_needs_them() {
        let mut part = part(0..8);
        let mut removed = |at: usize, told: bool| {
            part.data.mark(at, REMOVED);
            if told {
                part.data.saved();
            }
            part.clean(4).unwrap();
            (part.taken(), part.data.live())
        };
        // A quarter is not more than a quarter; they were never saved, so no snapshot has to tell of them.
        assert_eq!([removed(0, false), removed(1, false), removed(2, false)], [(8, 7), (8, 6), (5, 5)]);
        assert_eq!([removed(0, true), removed(1, true)], [(5, 4), (3, 3)]);
        // The next snapshot has to tell of these.
        part.data.saved();
        (0..3).for_each(|at| part.data.mark(at, REMOVED | UNSAVED));
        part.clean(4).unwrap();
        assert_eq!((part.taken(), part.data.live()), (3, 0));
    }

    #[test]
    fn a_key_that_comes_again_while_its_removal_is_written_has_to_be_told() {
        let mut part = part(0..4);
        let key = 0u64.to_be_bytes();
        let (at, _) = part.place(xxh3_64(&key), &key).unwrap();
        part.data.mark(at, REMOVED | UNSAVED | UNSPILLED);
        let _written = part.freeze().unwrap();
        let (at, is_new) = part.place(xxh3_64(&key), &key).unwrap();
        assert!(is_new && part.data.is(at, UNSAVED) && part.data.is(at, UNSPILLED));
        assert_eq!(part.data.unsaved(), 1);
    }

    #[test]
    fn a_part_is_two_by_the_next_bit_and_holds_the_bytes_of_its_keys() {
        let mut low = part(0..1_000);
        let before = low.bytes();
        let high = low.split().unwrap();
        assert_eq!((low.depth, high.depth, low.prefix, high.prefix), (1, 1, 0, 1 << 63));
        assert_eq!((low.taken() + high.taken(), low.shape.width), (1_000, high.shape.width));
        assert!((0..high.taken()).all(|at| xxh3_64(high.data.key(at)) >> 63 == 1));
        assert!((0..low.taken()).all(|at| xxh3_64(low.data.key(at)) >> 63 == 0));
        // Each has its room from the beginning.
        assert_eq!(low.data.values.capacity().min(high.data.values.capacity()), 500);
        for half in [low.bytes(), high.bytes()] {
            assert!((before / 3..before * 2 / 3).contains(&half), "{half} of {before} bytes");
        }
        let next = low.split().unwrap();
        assert_eq!((low.depth, next.depth, next.prefix), (2, 2, 1 << 62));
    }

    #[test]
    fn a_part_on_the_disk_is_two_when_it_has_more_keys_than_it_may() {
        let (env, folder, name) = (crate::testing::simulation::Simulation::new(1).env(), "s".into(), "t".into());
        let mut disk = Disk::new(Room { memory: 0, env, folder, name, file: 1_000_000 });
        let mut low = part(0..10);
        assert!(low.spill(&mut disk, 25).unwrap().is_none());
        for key in 10..20u64 {
            low.place(xxh3_64(&key.to_be_bytes()), &key.to_be_bytes()).unwrap();
        }
        assert!(low.spill(&mut disk, 25).unwrap().is_none());
        let count = |part: &Part<i64>| part.cold.as_ref().map_or(0, |run| run.count);
        assert_eq!((count(&low), low.taken(), low.depth), (20, 0, 0));
        for key in 20..30u64 {
            low.place(xxh3_64(&key.to_be_bytes()), &key.to_be_bytes()).unwrap();
        }
        let high = low.spill(&mut disk, 25).unwrap().unwrap();
        assert_eq!((count(&low) + count(&high), low.depth, high.depth), (30, 1, 1));
    }
}
