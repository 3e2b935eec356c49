//! Numbers by key, a batch of keys at a time.

mod data;
mod part;
mod rest;

use std::collections::VecDeque;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::RowConverter;
use xxhash_rust::xxh3::xxh3_64;

use super::Cells;
use super::key_group::key_group;
use super::visitor::{Chunk, Frozen, Owned, Piece, Scope, Snapshot};
use crate::error::{Error, Result};
use data::{REMOVED, UNSAVED, UNSPILLED};
use part::Part;
use rest::{SavedRows, Take};

/// Keys in a part: little less than what doubles its index.
const PART: usize = 28_000;
/// Parts that are split before a batch. Parts of one age fill at one time, and a batch must not wait for all of them.
const SPLITS: usize = 4;
/// Parts that are made one layer again before a batch.
const RECLAIMS: usize = 32;
/// The most rows of one call: no part may overflow its index within one.
const ROWS: usize = 32_768;
/// The most bits that the keys of a part have in common.
const DEPTH: u32 = 20;
/// Rows of a chunk at rest, about.
const CHUNK: usize = 65_536;
/// A table of so many keys is saved as a whole, one with more in changes: up to so many times, and to as many rows as it has.
const WHOLE: usize = 8_192;
const CHANGES: usize = 64;

/// Where a [`Table`] has what belongs to a key, until its next call of [`Table::slots`] or [`Table::sweep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    part: u32,
    at: u32,
}

/// What a stage keeps by key: [`Table::slots`] turns columns of keys into slots, each of which has a value.
///
/// Keys equal each other as in `GROUP BY`: null equals null, numbers as their bits are. A stage that keeps one says
/// `Distribution::Keyed` with the same columns in the same order. A snapshot shares what the table holds and copies nothing:
/// what changes behind it goes into a layer above, until it is written. Only what has changed is saved.
#[derive(Debug)]
pub struct Table<V> {
    types: Vec<DataType>,
    converter: RowConverter,
    parts: Vec<Part<V>>,
    /// The part of each beginning of a hash, `bits` long.
    directory: Vec<u32>,
    bits: u32,
    /// Parts with more than [`PART`] keys.
    full: VecDeque<u32>,
    /// Whether one of them has half as many again.
    urgent: bool,
    /// Parts of two layers.
    layered: VecDeque<u32>,
    /// The part that is swept next.
    swept: usize,
    /// How many keys it holds.
    len: usize,
    log: Log,
}

/// What is saved: all keys once, and changes behind them.
#[derive(Debug, Default)]
struct Log {
    /// The numbers of chunks, in order.
    chunks: Vec<u64>,
    next: u64,
    /// Changes behind the whole, how often and how many rows.
    times: usize,
    rows: usize,
}

impl<V: Cells> Table<V> {
    /// An empty table whose keys have columns of these types.
    ///
    /// # Errors
    /// When values of one of them can't be compared.
    pub fn new(types: impl IntoIterator<Item = DataType>) -> Result<Self> {
        let types: Vec<DataType> = types.into_iter().collect();
        if types.is_empty() {
            return Err(Error::engine("a key has at least one column"));
        }
        let (converter, parts) = (rest::converter(&types)?, vec![Part::new(rest::width_of(&types))]);
        let (full, layered) = (VecDeque::new(), VecDeque::new());
        let (directory, bits, urgent, swept, len, log) = (vec![0], 0, false, 0, 0, Log::default());
        Ok(Self { types, converter, parts, directory, bits, full, urgent, layered, swept, len, log })
    }

    /// The slot of each row's key, and whether the key is new: such a one begins with the default value. A key that is there
    /// more than once is new where it stands first.
    ///
    /// # Errors
    /// When the columns are not of the types that the table was made for, or are of more than 32,768 rows.
    pub fn slots(&mut self, keys: &[ArrayRef]) -> Result<Vec<(Slot, bool)>> {
        let rows = self.converter.convert_columns(keys)?;
        self.prepare(rows.num_rows())?;
        rows.iter().map(|key| self.slot(key.as_ref())).collect()
    }

    /// The value of each row's key, where there is one.
    ///
    /// # Errors
    /// When the columns are not of the types that the table was made for.
    pub fn find(&self, keys: &[ArrayRef]) -> Result<Vec<Option<V>>> {
        let rows = self.converter.convert_columns(keys)?;
        let value = |key: &[u8]| {
            let hash = xxh3_64(key);
            self.parts[self.part_of(hash)].peek(hash, key)
        };
        Ok(rows.iter().map(|key| value(key.as_ref())).collect())
    }

    fn part_of(&self, hash: u64) -> usize {
        let at = if self.bits == 0 { 0 } else { hash >> (64 - self.bits) };
        #[expect(clippy::cast_possible_truncation, reason = "it has DEPTH bits at most")]
        let at = at as usize;
        self.directory[at] as usize
    }

    fn slot(&mut self, key: &[u8]) -> Result<(Slot, bool)> {
        let hash = xxh3_64(key);
        let number = self.part_of(hash);
        let part = &mut self.parts[number];
        let before = part.taken();
        let (at, is_new) = part.place(hash, key)?;
        if before == PART && part.taken() > PART {
            self.full.push_back(u32::try_from(number)?);
        }
        self.urgent |= part.taken() > PART + PART / 2;
        self.len += usize::from(is_new);
        Ok((Slot { part: u32::try_from(number)?, at: u32::try_from(at)? }, is_new))
    }

    /// The value of a slot.
    pub fn get(&self, slot: Slot) -> &V {
        &self.parts[slot.part as usize].data.values[slot.at as usize]
    }

    /// The value of a slot, to be changed.
    pub fn get_mut(&mut self, slot: Slot) -> &mut V {
        let data = &mut self.parts[slot.part as usize].data;
        data.mark(slot.at as usize, UNSAVED | UNSPILLED);
        &mut data.values[slot.at as usize]
    }

    /// Forgets a key.
    pub fn remove(&mut self, slot: Slot) {
        let data = &mut self.parts[slot.part as usize].data;
        if !data.is(slot.at as usize, REMOVED) {
            data.mark(slot.at as usize, REMOVED | UNSAVED | UNSPILLED);
            self.len -= 1;
        }
    }

    /// Forgets the keys whose values are no longer wanted, in one part of the table: each call comes to the next one. Returns
    /// how many keys it has looked at.
    ///
    /// # Errors
    /// None as long as the table fits into memory.
    pub fn sweep(&mut self, is_wanted: impl Fn(&V) -> bool) -> Result<usize> {
        self.swept = (self.swept + 1) % self.parts.len();
        let part = &mut self.parts[self.swept];
        if !part.reclaim(false)? {
            return Ok(part.taken());
        }
        let looked = part.data.len();
        for at in 0..looked {
            if !part.data.is(at, REMOVED) && !is_wanted(&part.data.values[at]) {
                part.data.mark(at, REMOVED | UNSAVED | UNSPILLED);
                self.len -= 1;
            }
        }
        part.clean(4)?;
        Ok(looked)
    }

    /// Calls `each` with every value, in no order.
    ///
    /// # Errors
    /// None as long as the table fits into memory.
    pub fn each(&mut self, mut each: impl FnMut(&V)) -> Result<()> {
        for part in &mut self.parts {
            part.reclaim(true)?;
            (0..part.data.len()).filter(|at| !part.data.is(*at, REMOVED)).for_each(|at| each(&part.data.values[at]));
        }
        Ok(())
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Makes room for a batch. What moves keys is done here, so that slots stay as they are within one.
    fn prepare(&mut self, rows: usize) -> Result<()> {
        if rows > ROWS {
            return Err(Error::engine(format!("a batch of {rows} keys; {ROWS} are the most")));
        }
        for _ in 0..RECLAIMS.min(self.layered.len()) {
            let Some(number) = self.layered.pop_front() else { break };
            if !self.parts[number as usize].reclaim(false)? {
                self.layered.push_front(number);
                break;
            }
        }
        let splits = if std::mem::take(&mut self.urgent) || rows > PART / 2 { usize::MAX } else { SPLITS };
        for _ in 0..splits.min(self.full.len()) {
            if let Some(number) = self.full.pop_front() {
                self.split(number as usize)?;
            }
        }
        Ok(())
    }

    fn split(&mut self, number: usize) -> Result<()> {
        let part = &mut self.parts[number];
        part.reclaim(true)?;
        part.clean(8)?;
        while self.parts[number].taken() > PART && self.parts[number].depth < DEPTH {
            let (depth, prefix) = (self.parts[number].depth, self.parts[number].prefix);
            if depth == self.bits {
                self.directory = self.directory.iter().flat_map(|part| [*part, *part]).collect();
                self.bits += 1;
            }
            let other = self.parts[number].split()?;
            let is_full = other.taken() > PART;
            // The second half of the beginnings that were this part's.
            let count = 1usize << (self.bits - depth - 1);
            let start = usize::try_from(prefix >> (64 - self.bits))? + count;
            let new = u32::try_from(self.parts.len())?;
            self.directory[start..start + count].fill(new);
            self.parts.push(other);
            if is_full {
                self.full.push_back(new);
            }
        }
        Ok(())
    }

    fn put(&mut self, rows: &RecordBatch, owned: &Owned) -> Result<()> {
        let saved = SavedRows::<V>::read(&self.types, rows)?;
        let keys = self.converter.convert_columns(&saved.keys)?;
        for row in 0..rows.num_rows() {
            if row % ROWS == 0 {
                self.prepare(ROWS.min(rows.num_rows() - row))?;
            }
            let key = keys.row(row);
            if owned.owns(key_group(key.as_ref())) {
                let (slot, _) = self.slot(key.as_ref())?;
                if saved.is_removed(row) {
                    self.remove(slot);
                } else {
                    self.get_mut(slot).clone_from(&saved.values[row]);
                }
            }
        }
        Ok(())
    }
}

impl<V: Cells> Piece for Table<V> {
    fn snapshot(&mut self, whole: bool) -> Result<Snapshot> {
        let unsaved: usize = self.parts.iter().map(|p| p.data.unsaved()).sum();
        let Log { chunks, times, rows, .. } = &self.log;
        if unsaved == 0 && !whole && !chunks.is_empty() {
            return Ok(Snapshot(chunks.iter().map(|n| Chunk::Unchanged(*n)).collect()));
        }
        let is_small = self.len <= WHOLE;
        let all = whole || chunks.is_empty() || is_small || *times >= CHANGES || rows + unsaved > self.len;
        let take = if all { Take::All } else { Take::Changes };
        if all {
            self.log = Log { next: self.log.next, ..Log::default() };
        } else {
            self.log.times += 1;
            self.log.rows += unsaved;
        }
        let mut content: Vec<Chunk> = self.log.chunks.iter().map(|n| Chunk::Unchanged(*n)).collect();
        let (mut layers, mut rows) = (Vec::new(), 0);
        for number in 0..self.parts.len() {
            let part = &mut self.parts[number];
            if (all && part.taken() > 0) || part.data.unsaved() > 0 {
                layers.push(part.freeze()?);
                let layer = &layers[layers.len() - 1];
                rows += if all { layer.live() } else { layer.unsaved() };
                self.layered.push_back(u32::try_from(number)?);
            }
            if rows >= CHUNK || (number + 1 == self.parts.len() && !layers.is_empty()) {
                let (types, taken) = (self.types.clone(), std::mem::take(&mut layers));
                let frozen = Frozen::new(move || rest::at_rest(&types, &taken, take));
                content.push(Chunk::Changed(self.log.next, frozen));
                self.log.chunks.push(self.log.next);
                (self.log.next, rows) = (self.log.next + 1, 0);
            }
        }
        Ok(Snapshot(content))
    }

    fn restore(&mut self, content: Vec<RecordBatch>, owned: &Owned) -> Result<()> {
        *self = Self::new(self.types.clone())?;
        content.iter().try_for_each(|rows| self.put(rows, owned))
    }

    fn scope(&self) -> Scope {
        Scope::Key
    }

    fn bytes_held(&self) -> usize {
        let part = |part: &Part<V>| {
            let layers = std::iter::once(&part.data).chain(part.frozen.as_deref());
            layers.map(|data| data.len() * (size_of::<V>() + 8) + data.key_bytes()).sum::<usize>()
        };
        self.parts.iter().map(part).sum()
    }
}

#[cfg(test)]
mod tests;
