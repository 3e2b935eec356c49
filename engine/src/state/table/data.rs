//! Keys with their values in memory: what a part of a table holds there.

use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::rest::Take;
use crate::error::{Error, Result};

/// Changed since the last snapshot.
pub(super) const UNSAVED: u8 = 1;
/// Not as the disk has it.
pub(super) const UNSPILLED: u8 = 2;
/// Removed: the key stays until a snapshot and the disk know.
pub(super) const REMOVED: u8 = 4;
/// No snapshot has the key.
pub(super) const FRESH: u8 = 8;
/// A key that was never there before.
pub(super) const NEW: u8 = UNSAVED | UNSPILLED | FRESH;

/// Keys in arrow's row format, their values, and what is to be known of each. The places of keys are dense and do not change.
#[derive(Clone, Debug)]
pub(super) struct Data<V> {
    keys: Keys,
    pub(super) values: Vec<V>,
    flags: Vec<u8>,
    /// Places by hash. Two bytes each: this is what keeps a part small.
    index: HashTable<u16>,
    unsaved: usize,
    removed: usize,
}

/// Where the keys stand: keys of one length need nothing else to be found.
#[derive(Clone, Debug)]
struct Keys {
    bytes: Vec<u8>,
    width: Option<usize>,
    /// Behind each key, where there is no one width.
    ends: Vec<u32>,
}

impl Keys {
    fn get(&self, at: usize) -> &[u8] {
        let span = match self.width {
            Some(width) => at * width..(at + 1) * width,
            None => at.checked_sub(1).map_or(0, |before| self.ends[before] as usize)..self.ends[at] as usize,
        };
        &self.bytes[span]
    }
}

/// The index looks at the highest and the lowest bits, and all keys of a part have the same highest ones.
fn spread(hash: u64) -> u64 {
    hash.rotate_left(32)
}

/// Room for one more, an eighth at a time: doubling would leave a quarter of a large state unused.
fn make_room<T>(vec: &mut Vec<T>, more: usize) {
    if vec.len() + more > vec.capacity() {
        vec.reserve_exact(more.max(vec.len() / 8).max(16));
    }
}

impl<V: Clone> Data<V> {
    pub(super) fn new(width: Option<usize>) -> Self {
        let keys = Keys { bytes: Vec::new(), width, ends: Vec::new() };
        Self { keys, values: Vec::new(), flags: Vec::new(), index: HashTable::new(), unsaved: 0, removed: 0 }
    }

    /// Places that are taken, by removed keys too.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// Keys that are there.
    pub(super) fn live(&self) -> usize {
        self.values.len() - self.removed
    }

    /// Keys that have changed since the last snapshot.
    pub(super) fn unsaved(&self) -> usize {
        self.unsaved
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> usize {
        // Seven eighths of the index can be used; each place takes two bytes and one for its hash.
        let index = self.index.capacity() * 8 / 7 * 3;
        let ends = self.keys.ends.capacity() * size_of::<u32>();
        self.keys.bytes.capacity() + ends + self.values.capacity() * size_of::<V>() + self.flags.capacity() + index
    }

    pub(super) fn key(&self, at: usize) -> &[u8] {
        self.keys.get(at)
    }

    pub(super) fn is(&self, at: usize, flag: u8) -> bool {
        self.flags[at] & flag != 0
    }

    pub(super) fn find(&self, hash: u64, key: &[u8]) -> Option<usize> {
        let found = self.index.find(spread(hash), |at| self.keys.get(usize::from(*at)) == key);
        found.map(|at| usize::from(*at))
    }

    /// Adds a key that is not there.
    pub(super) fn add(&mut self, hash: u64, key: &[u8], value: V, flags: u8) -> Result<usize> {
        let at = self.values.len();
        let place = u16::try_from(at).map_err(|_| Error::engine("a part of a table is full"))?;
        if self.keys.width.is_some_and(|width| width != key.len()) {
            return Err(Error::engine("a key has another length than all others"));
        }
        make_room(&mut self.keys.bytes, key.len());
        self.keys.bytes.extend_from_slice(key);
        if self.keys.width.is_none() {
            make_room(&mut self.keys.ends, 1);
            self.keys.ends.push(u32::try_from(self.keys.bytes.len())?);
        }
        make_room(&mut self.values, 1);
        self.values.push(value);
        make_room(&mut self.flags, 1);
        self.flags.push(0);
        let Self { index, keys, .. } = self;
        index.insert_unique(spread(hash), place, |at| spread(xxh3_64(keys.get(usize::from(*at)))));
        self.mark(at, flags);
        Ok(at)
    }

    /// Sets flags.
    pub(super) fn mark(&mut self, at: usize, flags: u8) {
        let new = flags & !self.flags[at];
        self.flags[at] |= flags;
        self.unsaved += usize::from(new & UNSAVED != 0);
        self.removed += usize::from(new & REMOVED != 0);
    }

    /// A removed key is there again.
    pub(super) fn revive(&mut self, at: usize) {
        if self.is(at, REMOVED) {
            self.flags[at] &= !REMOVED;
            self.removed -= 1;
        }
    }

    /// All that has changed is saved.
    pub(super) fn saved(&mut self) {
        self.flags.iter_mut().for_each(|flags| *flags &= !(UNSAVED | FRESH));
        self.unsaved = 0;
    }

    /// Whether a removed key has to be told to the next snapshot.
    pub(super) fn is_told(&self, at: usize) -> bool {
        self.is(at, UNSAVED) && !(self.is(at, REMOVED) && self.is(at, FRESH))
    }

    /// Whether a snapshot takes it.
    pub(super) fn is_taken(&self, at: usize, take: Take) -> bool {
        match take {
            Take::All => !self.is(at, REMOVED),
            Take::Changes => self.is_told(at),
        }
    }

    /// Bytes of what a snapshot takes, about.
    pub(super) fn bytes_taken(&self, take: Take) -> usize {
        self.bytes() / self.len().max(1) * self.count_taken(take)
    }

    /// How many keys a snapshot takes, or some more.
    pub(super) fn count_taken(&self, take: Take) -> usize {
        match take {
            Take::All => self.live(),
            Take::Changes => self.unsaved,
        }
    }

    /// Whether a removed key needs to be remembered no more; `spilled`: the disk has some of this part.
    pub(super) fn is_waste(&self, at: usize, spilled: bool) -> bool {
        self.is(at, REMOVED) && !self.is_told(at) && !(spilled && self.is(at, UNSPILLED))
    }

    /// The keys whose places `wanted` picks, anew.
    pub(super) fn part(&self, room: usize, wanted: impl Fn(&Self, usize, u64) -> bool) -> Result<Self> {
        let mut part = Self::new(self.keys.width);
        part.values.reserve_exact(room);
        part.flags.reserve_exact(room);
        part.keys.bytes.reserve_exact(room * self.keys.width.unwrap_or(0));
        part.index.reserve(room, |_| 0);
        for at in 0..self.len() {
            let hash = xxh3_64(self.key(at));
            if wanted(self, at, hash) {
                part.add(hash, self.key(at), self.values[at].clone(), self.flags[at])?;
            }
        }
        Ok(part)
    }

    /// Takes over what is newer.
    pub(super) fn fold(&mut self, newer: &Self) -> Result<()> {
        for at in 0..newer.len() {
            let (key, flags) = (newer.key(at), newer.flags[at]);
            let hash = xxh3_64(key);
            match self.find(hash, key) {
                Some(old) => {
                    self.values[old] = newer.values[at].clone();
                    self.revive(old);
                    self.mark(old, flags);
                }
                None => drop(self.add(hash, key, newer.values[at].clone(), flags)?),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_held_are_those_of_keys_values_and_index_with_some_room() {
        for (width, ends) in [(Some(8), 0), (None, 4)] {
            let mut data = Data::<u64>::new(width);
            assert_eq!(data.bytes(), 0);
            for n in 0..1_000u64 {
                let key = n.to_be_bytes();
                assert_eq!(data.add(xxh3_64(&key), &key, n, NEW).unwrap(), usize::try_from(n).unwrap());
            }
            // A key, a value and flags each; the index has a power of two of places, three bytes each.
            let (content, index) = (1_000 * (8 + ends + 8 + 1), 2_048 * 3);
            let bytes = data.bytes();
            assert!((content + index..content * 9 / 8 + index + 300).contains(&bytes), "{bytes}");
            let taken = data.bytes_taken(Take::All);
            assert!((bytes - 1_000..=bytes).contains(&taken), "{taken} of {bytes}");
            let copy = data.part(1_000, |_, _, _| true).unwrap();
            assert_eq!((copy.len(), copy.values.capacity(), copy.flags.capacity()), (1_000, 1_000, 1_000));
            assert!(width.is_none() || copy.keys.bytes.capacity() == 8_000);
            data.saved();
            assert_eq!((data.bytes_taken(Take::Changes), data.live(), data.len()), (0, 1_000, 1_000));
            data.mark(7, REMOVED | UNSAVED);
            data.mark(7, REMOVED | UNSAVED);
            assert_eq!((data.live(), data.unsaved(), data.count_taken(Take::All)), (999, 1, 999));
            data.revive(7);
            data.revive(7);
            assert_eq!((data.live(), data.key(7)), (1_000, &7u64.to_be_bytes()[..]));
        }
        let mut data = Data::<u64>::new(Some(8));
        assert!(data.add(1, b"short", 1, NEW).is_err());
    }

    #[test]
    fn room_grows_by_sixteen_and_then_by_an_eighth() {
        let (mut vec, mut rooms) = (Vec::<u8>::new(), Vec::new());
        for _ in 0..200 {
            make_room(&mut vec, 1);
            vec.push(0);
            rooms.push(vec.capacity());
        }
        rooms.dedup();
        let sixteens = (1..=9).map(|n| n * 16);
        assert_eq!(rooms, sixteens.chain([162, 182, 204]).collect::<Vec<_>>());
        make_room(&mut vec, 100);
        assert_eq!(vec.capacity(), 300);
    }
}
