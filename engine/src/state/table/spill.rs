//! What does not fit into memory goes to the disk, a part at a time.

use std::sync::Arc;

use arrow::datatypes::DataType;
use xxhash_rust::xxh3::xxh3_64;

use super::data::{Data, REMOVED, UNSPILLED};
use super::disk::{Disk, Region, checksum};
use super::part::Part;
use super::rest::{Take, ToRest};
use super::run::{Shape, Writer};
use crate::error::Result;
use crate::state::Cells;
use crate::state::visitor::Each;

/// Keys that were copied out of parts: whether each is a removal, and their records.
#[derive(Clone, Debug)]
pub(super) struct Copied {
    removed: Vec<u8>,
    pub(super) records: Vec<u8>,
    shape: Shape,
}

impl Copied {
    /// With room for so many keys: to grow would be to copy, and to ask the system for memory, while a task waits.
    pub(super) fn new(shape: Shape, keys: usize) -> Self {
        let records = Vec::with_capacity(keys * (shape.width.unwrap_or_default() + shape.value));
        Self { removed: Vec::with_capacity(keys), records, shape }
    }

    /// How many keys.
    pub(super) fn count(&self) -> usize {
        self.removed.len()
    }

    /// Adds what is taken of a part.
    pub(super) fn add<V: Cells>(&mut self, data: &Data<V>, take: Take) -> Result<()> {
        for at in (0..data.len()).filter(|at| data.is_taken(*at, take)) {
            self.removed.push(u8::from(data.is(at, REMOVED)));
            self.shape.put_key(data.key(at), &mut self.records)?;
            data.values[at].put(&mut self.records);
        }
        Ok(())
    }

    /// The keys at rest.
    pub(super) fn at_rest<V: Cells>(&self, types: &[DataType], take: Take, each: &mut Each<'_>) -> Result<()> {
        let mut to_rest = ToRest::new(types, take, each)?;
        let records = self.shape.records(&self.records).zip(&self.removed);
        to_rest.rows(records.map(|((key, value), removed)| (key, V::take(value), *removed != 0)))?;
        to_rest.end::<V>()
    }
}

/// Changes that were put to the disk before a snapshot had them.
#[derive(Clone, Debug)]
pub(super) struct Told {
    region: Region,
    checksum: u32,
    shape: Shape,
    pub(super) count: usize,
}

impl Told {
    /// The changes of a part that the next snapshot must have.
    pub(super) fn write<V: Cells>(data: &Data<V>, shape: Shape, disk: &mut Disk) -> Result<Option<Self>> {
        let mut told = Copied::new(shape, data.count_taken(Take::Changes));
        told.add(data, Take::Changes)?;
        let count = told.count();
        if count == 0 {
            return Ok(None);
        }
        let mut bytes = told.removed;
        bytes.append(&mut told.records);
        let checksum = checksum(&bytes);
        Ok(Some(Self { region: disk.put(&bytes)?, checksum, shape, count }))
    }

    /// The changes at rest.
    pub(super) fn at_rest<V: Cells>(&self, types: &[DataType], each: &mut Each<'_>) -> Result<()> {
        let mut removed = self.region.read(0, self.region.bytes)?;
        self.region.check(&removed, self.checksum)?;
        let records = removed.split_off(self.count);
        Copied { removed, records, shape: self.shape }.at_rest::<V>(types, Take::Changes, each)
    }
}

impl<V: Cells> Part<V> {
    /// Puts what it has in memory to the disk, with what is there already. Returns the other half of a part that has more than
    /// `most` keys then.
    pub(super) fn spill(&mut self, disk: &mut Disk, most: usize) -> Result<Option<Self>> {
        let shape = self.shape;
        let is_changed = |at: &usize| self.data.is(*at, UNSPILLED);
        let mut mine: Vec<(u64, usize)> =
            (0..self.data.len()).filter(is_changed).map(|at| (xxh3_64(self.data.key(at)), at)).collect();
        mine.sort_unstable();
        if mine.is_empty() && self.cold.as_ref().is_none_or(|run| run.file() >= disk.oldest) {
            self.data = Data::new(shape.width);
            return Ok(None);
        }
        let old = match &self.cold {
            Some(run) => run.load()?,
            None => Vec::new(),
        };
        let count = mine.len() + self.cold.as_ref().map_or(0, |run| run.count);
        let bit = (count > most).then_some(63 - self.depth);
        let mut halves = [Writer::default(), Writer::default()];
        let mut push = |hash: u64, key: &[u8], value: &[u8]| {
            let half = bit.map_or(0, |bit| hash >> bit & 1);
            halves[usize::from(half == 1)].push(shape, (hash, key), value)
        };
        let (mut mine, mut value) = (mine.into_iter().peekable(), Vec::new());
        // Keys in memory of one hash.
        let (mut of, mut same) = (0, Vec::new());
        for below in shape.records(&old).map(Some).chain([None]) {
            let below = below.map(|(key, value)| (xxh3_64(key), key, value));
            while let Some((hash, at)) = mine.next_if(|(hash, _)| below.is_none_or(|(below, ..)| *hash <= below)) {
                if hash != of {
                    same.clear();
                }
                of = hash;
                same.push(at);
                if !self.data.is(at, REMOVED) {
                    value.clear();
                    self.data.values[at].put(&mut value);
                    push(hash, self.data.key(at), &value)?;
                }
            }
            if let Some((hash, key, value)) = below
                && !(hash == of && same.iter().any(|at| self.data.key(*at) == key))
            {
                push(hash, key, value)?;
            }
        }
        let [low, high] = halves;
        let low = low.finish(shape, disk)?.map(Arc::new);
        let high = high.finish(shape, disk)?.map(Arc::new);
        (self.data, self.cold) = (Data::new(shape.width), low);
        Ok(bit.map(|_| self.half(Data::new(shape.width), high)))
    }
}
