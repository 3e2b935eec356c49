//! What does not fit into memory goes to the disk, a part at a time.

use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use xxhash_rust::xxh3::xxh3_64;

use super::data::{Data, REMOVED, UNSPILLED};
use super::disk::{Disk, Region, checksum};
use super::part::Part;
use super::rest;
use super::run::{Shape, Writer};
use crate::error::Result;
use crate::state::Cells;

/// Keys in a run, before its part is two.
const RUN: usize = 42_000;

/// Changes that were put to the disk before a snapshot had them.
#[derive(Clone, Debug)]
pub(super) struct Told {
    region: Region,
    checksum: u32,
    shape: Shape,
    pub(super) count: usize,
}

impl Told {
    /// The changes of a part that the next snapshot must have: whether each is a removal, and then their records.
    pub(super) fn write<V: Cells>(data: &Data<V>, shape: Shape, disk: &mut Disk) -> Result<Option<Self>> {
        let told: Vec<usize> = (0..data.len()).filter(|at| data.is_told(*at)).collect();
        if told.is_empty() {
            return Ok(None);
        }
        let mut bytes: Vec<u8> = told.iter().map(|at| u8::from(data.is(*at, REMOVED))).collect();
        for at in &told {
            shape.put_key(data.key(*at), &mut bytes)?;
            data.values[*at].put(&mut bytes);
        }
        let checksum = checksum(&bytes);
        Ok(Some(Self { region: disk.put(&bytes)?, checksum, shape, count: told.len() }))
    }

    /// The changes at rest.
    pub(super) fn at_rest<V: Cells>(&self, types: &[DataType]) -> Result<RecordBatch> {
        let bytes = self.region.read(0, self.region.bytes)?;
        self.region.check(&bytes, self.checksum)?;
        let (removed, records) = bytes.split_at(self.count);
        let records: Vec<(&[u8], V)> = self.shape.records(records).map(|(key, value)| (key, V::take(value))).collect();
        let removed: BooleanArray = removed.iter().map(|removed| Some(*removed != 0)).collect();
        rest::columns(types, records.iter().map(|(key, value)| (*key, value)), removed)
    }
}

impl<V: Cells> Part<V> {
    /// Puts what it has in memory to the disk, with what is there already. Returns the other half of a part that has grown
    /// too large.
    pub(super) fn spill(&mut self, disk: &mut Disk, may_split: bool) -> Result<Option<Self>> {
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
        let bit = (may_split && count > RUN).then_some(63 - self.depth);
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
