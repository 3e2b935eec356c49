//! Numbers by key, a batch of keys at a time.

mod data;
mod disk;
mod part;
mod rest;
mod run;
mod save;
mod spill;

use std::collections::VecDeque;

use arrow::array::ArrayRef;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::RowConverter;
use xxhash_rust::xxh3::xxh3_64;

use super::Cells;
use super::key_group::key_group;
use super::room::Room;
use super::visitor::{Owned, Piece, Scope, Snapshot};
use crate::error::{Error, Result};
use data::{REMOVED, UNSAVED, UNSPILLED};
use disk::Disk;
use part::Part;
use rest::SavedRows;
use save::Log;

/// Keys in a part, but in tests: little less than what doubles its index.
const PART: usize = 28_000;
/// Parts that are split before a batch. Parts of one age fill at one time, and a batch must not wait for all of them.
const SPLITS: usize = 4;
/// Parts that are made one layer again before a batch.
const RECLAIMS: usize = 32;
/// The most rows of one call: no part may overflow its index within one.
const ROWS: usize = 32_768;
/// The most bits that the keys of a part have in common.
const DEPTH: u32 = 20;
/// Parts that go to the disk before a batch, as long as memory holds a quarter more than it may at most.
const SPILLS: usize = 2;

/// Where a [`Table`] has what belongs to a key, until its next call of [`Table::slots`] or [`Table::sweep`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    part: u32,
    at: u32,
}

/// What a stage keeps by key: [`Table::slots`] turns columns of keys into slots, each of which has a value.
///
/// Keys equal each other as in `GROUP BY`: null equals null, numbers as their bits are. A stage that keeps one says
/// `Distribution::Keyed` with the same columns in the same order. Only what has changed is saved: a snapshot copies
/// it, or shares it where that is much, and what changes behind it goes into a layer above until it is written.
///
/// In a job that keeps checkpoints it holds no more in memory than its share of `limits.memory`; the rest goes to the disk.
#[derive(Debug)]
pub struct Table<V> {
    types: Vec<DataType>,
    converter: RowConverter,
    parts: Vec<Part<V>>,
    /// The part of each beginning of a hash, `bits` long.
    directory: Vec<u32>,
    bits: u32,
    /// Keys in a part, about.
    part: usize,
    /// Parts with more.
    full: VecDeque<u32>,
    /// Parts of two layers.
    layered: VecDeque<u32>,
    /// The part that is swept next.
    swept: usize,
    /// How many keys it holds.
    len: usize,
    log: Log,
    disk: Option<Disk>,
    /// The part that went to the disk last.
    spilled: usize,
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
        let (full, layered, directory) = (VecDeque::new(), VecDeque::new(), vec![0]);
        Ok(Self {
            types,
            converter,
            parts,
            directory,
            bits: 0,
            part: PART,
            full,
            layered,
            swept: 0,
            len: 0,
            log: Log::default(),
            disk: None,
            spilled: 0,
        })
    }

    /// The slot of each row's key, and whether the key is new: such a one begins with the default value. A key that is there
    /// more than once is new where it stands first.
    ///
    /// # Errors
    /// When the columns are not of the types that the table was made for, or are of more than 32,768 rows, and what the disk
    /// says: some keys may be there then, and others not.
    pub fn slots(&mut self, keys: &[ArrayRef]) -> Result<Vec<(Slot, bool)>> {
        let rows = self.converter.convert_columns(keys)?;
        self.prepare(rows.num_rows())?;
        rows.iter().map(|key| self.slot(key.as_ref())).collect()
    }

    /// The value of each row's key, where there is one.
    ///
    /// # Errors
    /// When the columns are not of the types that the table was made for, and what the disk says.
    pub fn find(&self, keys: &[ArrayRef]) -> Result<Vec<Option<V>>> {
        let rows = self.converter.convert_columns(keys)?;
        let value = |key: &[u8]| {
            let hash = xxh3_64(key);
            self.parts[self.part_of(hash)].peek(hash, key)
        };
        rows.iter().map(|key| value(key.as_ref())).collect()
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
        if before == self.part && part.taken() > self.part {
            self.full.push_back(u32::try_from(number)?);
        }
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
    /// What the disk says.
    pub fn sweep(&mut self, is_wanted: impl Fn(&V) -> bool) -> Result<usize> {
        self.swept = (self.swept + 1) % self.parts.len();
        let part = &mut self.parts[self.swept];
        if !part.reclaim(false)? {
            return Ok(part.taken());
        }
        let held = part.data.len();
        for at in 0..held {
            if !part.data.is(at, REMOVED) && !is_wanted(&part.data.values[at]) {
                part.data.mark(at, REMOVED | UNSAVED | UNSPILLED);
                self.len -= 1;
            }
        }
        let mut gone = Vec::new();
        part.each_cold(|hash, key, value| {
            let value = V::take(value);
            if !is_wanted(&value) && held + gone.len() < self.part + self.part / 2 {
                gone.push((hash, key.to_vec(), value));
            }
            Ok(())
        })?;
        let looked = held + part.cold.as_ref().map_or(0, |run| run.count);
        for (hash, key, value) in &gone {
            part.data.add(*hash, key, value.clone(), REMOVED | UNSAVED | UNSPILLED)?;
        }
        self.len -= gone.len();
        part.clean(4)?;
        if !gone.is_empty() {
            self.spill(self.swept)?;
        }
        Ok(looked)
    }

    /// Calls `each` with every value, in no order.
    ///
    /// # Errors
    /// What the disk says.
    pub fn each(&mut self, mut each: impl FnMut(&V)) -> Result<()> {
        for part in &mut self.parts {
            part.reclaim(true)?;
            (0..part.data.len()).filter(|at| !part.data.is(*at, REMOVED)).for_each(|at| each(&part.data.values[at]));
            part.each_cold(|_, _, value| {
                each(&V::take(value));
                Ok(())
            })?;
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
        self.make_room()?;
        for _ in 0..RECLAIMS.min(self.layered.len()) {
            let Some(number) = self.layered.pop_front() else { break };
            if !self.parts[number as usize].reclaim(false)? {
                self.layered.push_front(number);
                break;
            }
        }
        let taken = self.full.iter().map(|number| self.parts[*number as usize].taken());
        for _ in 0..splits(self.part, taken, rows).min(self.full.len()) {
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
        if part.cold.is_some() && part.taken() > self.part {
            return self.spill(number);
        }
        while self.parts[number].taken() > self.part && self.parts[number].depth < DEPTH {
            let other = self.parts[number].split()?;
            self.adopt(other)?;
        }
        Ok(())
    }

    /// Takes in the other half of a part.
    fn adopt(&mut self, other: Part<V>) -> Result<()> {
        if other.depth > self.bits {
            self.directory = self.directory.iter().flat_map(|part| [*part, *part]).collect();
            self.bits += 1;
        }
        let start = usize::try_from(other.prefix >> (64 - self.bits))?;
        let new = u32::try_from(self.parts.len())?;
        self.directory[start..start + (1 << (self.bits - other.depth))].fill(new);
        if other.taken() > self.part {
            self.full.push_back(new);
        }
        self.parts.push(other);
        Ok(())
    }

    /// Puts what a part has in memory to the disk.
    fn spill(&mut self, number: usize) -> Result<()> {
        let (Some(disk), part) = (&mut self.disk, &mut self.parts[number]) else { return Ok(()) };
        part.reclaim(true)?;
        self.log.spills(&part.data, part.shape, disk, self.len)?;
        let most = if part.depth < DEPTH { self.part + self.part / 2 } else { usize::MAX };
        match part.spill(disk, most)? {
            Some(other) => self.adopt(other),
            None => Ok(()),
        }
    }

    /// Puts parts to the disk, one after the other, while more is held than may be.
    fn make_room(&mut self) -> Result<()> {
        let Some(memory) = self.disk.as_ref().map(|d| d.room.memory) else { return Ok(()) };
        let mut held = self.bytes_held();
        if held <= memory {
            return Ok(());
        }
        let most = if held > memory + memory / 4 { usize::MAX } else { SPILLS };
        let on_disk: usize = self.parts.iter().filter_map(|p| p.cold.as_ref()).map(|run| run.bytes()).sum();
        let oldest = self.disk.as_mut().map_or(0, |disk| disk.renew(on_disk as u64));
        let few = self.parts.iter().map(Part::taken).sum::<usize>() / self.parts.len() / 4;
        let mut spills = 0;
        for _ in 0..self.parts.len() {
            self.spilled = (self.spilled + 1) % self.parts.len();
            let part = &mut self.parts[self.spilled];
            let is_old = part.cold.as_ref().is_some_and(|run| run.file() < oldest);
            if (part.taken() <= few && !is_old) || !(part.reclaim(false)? || most == usize::MAX) {
                continue;
            }
            let before = part.bytes();
            self.spill(self.spilled)?;
            held -= before.saturating_sub(self.parts[self.spilled].bytes()).min(held);
            spills += 1;
            if held <= memory || spills >= most {
                break;
            }
        }
        Ok(())
    }

    fn put(&mut self, rows: &RecordBatch, owned: &Owned) -> Result<()> {
        let saved = SavedRows::<V>::read(&self.types, rows)?;
        let keys = self.converter.convert_columns(&saved.keys)?;
        for row in 0..rows.num_rows() {
            if row % ROWS == 0 {
                self.prepare(ROWS)?;
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
        let Self { types, parts, layered, len, log, .. } = self;
        log.snapshot((types.as_slice(), *len, whole), parts, layered)
    }

    fn restore(&mut self, content: &mut dyn Iterator<Item = Result<RecordBatch>>, owned: &Owned) -> Result<()> {
        let disk = self.disk.take();
        *self = Self { disk, part: self.part, ..Self::new(self.types.clone())? };
        for rows in content {
            self.put(&rows?, owned)?;
        }
        Ok(())
    }

    fn confine(&mut self, room: &Room) {
        self.disk = Some(Disk::new(room.clone()));
    }

    fn scope(&self) -> Scope {
        Scope::Key
    }

    fn bytes_held(&self) -> usize {
        self.parts.iter().map(Part::bytes).sum()
    }
}

/// How many of the full parts are split before a batch of so many rows: all of them when the batch is large, or one has come
/// near to what its index can tell apart. `taken`: how many keys each has.
fn splits(part: usize, mut taken: impl Iterator<Item = usize>, rows: usize) -> usize {
    let most = part + part / 2;
    if rows > part / 2 || taken.any(|taken| taken > most) { usize::MAX } else { SPLITS }
}

#[cfg(test)]
mod tests;
