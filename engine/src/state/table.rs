//! Numbers by key, a batch of keys at a time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::{RecordBatch, RecordBatchOptions};
use arrow::row::{RowConverter, SortField};
use hashbrown::HashTable;
use xxhash_rust::xxh3::xxh3_64;

use super::Cells;
use super::key_group::key_group;
use super::visitor::{Chunk, Frozen, Owned, Piece, Scope, Snapshot};
use crate::error::{Error, Result};

/// Slots in a chunk: what a change after a snapshot copies, and what a snapshot saves anew, at most.
const CHUNK: usize = 4_096;

/// Where a [`Table`] keeps what belongs to a key, until that key is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot(u32);

impl Slot {
    fn place(self) -> (usize, usize) {
        (self.0 as usize / CHUNK, self.0 as usize % CHUNK)
    }
}

/// What a stage keeps by key: [`Table::slots`] turns columns of keys into slots, each of which has a value.
///
/// Keys equal each other as in `GROUP BY`: null equals null, numbers as their bits are. A stage that keeps one says
/// `Distribution::Keyed` with the same columns in the same order. A snapshot shares what the table holds, and a change
/// behind it copies one chunk.
#[derive(Debug)]
pub struct Table<V> {
    types: Vec<DataType>,
    converter: RowConverter,
    /// Slots by the hash of their keys.
    index: HashTable<Slot>,
    chunks: Vec<Kept<V>>,
    /// Slots whose keys were removed.
    free: Vec<Slot>,
    /// Bytes of all keys.
    key_bytes: usize,
}

#[derive(Debug)]
struct Kept<V> {
    keys: Arc<Keys>,
    values: Arc<Vec<V>>,
    changed: bool,
}

/// The keys of a chunk in arrow's row format.
#[derive(Clone, Debug, Default)]
struct Keys {
    bytes: Vec<u8>,
    /// Where each key stands; empty for one that was removed, since no key is.
    spans: Vec<(u32, u32)>,
    /// Bytes of removed keys.
    waste: usize,
}

impl Keys {
    fn get(&self, at: usize) -> &[u8] {
        let (start, end) = self.spans[at];
        &self.bytes[start as usize..end as usize]
    }

    fn put(&mut self, at: usize, key: &[u8]) -> Result<()> {
        let start = u32::try_from(self.bytes.len())?;
        self.bytes.extend_from_slice(key);
        let span = (start, u32::try_from(self.bytes.len())?);
        match self.spans.get_mut(at) {
            Some(old) => *old = span,
            None => self.spans.push(span),
        }
        Ok(())
    }

    fn clear(&mut self, at: usize) {
        let (start, end) = std::mem::take(&mut self.spans[at]);
        self.waste += (end - start) as usize;
        if self.waste > self.bytes.len() / 2 + 1_024 {
            let old = std::mem::take(&mut self.bytes);
            self.waste = 0;
            for span in &mut self.spans {
                let key = &old[span.0 as usize..span.1 as usize];
                // The sum of what is left is less than what fitted before.
                #[expect(clippy::cast_possible_truncation, reason = "see above")]
                let start = self.bytes.len() as u32;
                self.bytes.extend_from_slice(key);
                *span = (start, start + (span.1 - span.0));
            }
        }
    }

    fn used(&self) -> impl Iterator<Item = usize> + '_ {
        self.spans.iter().enumerate().filter(|(_, s)| s.0 < s.1).map(|(at, _)| at)
    }
}

fn converter(types: &[DataType]) -> Result<RowConverter> {
    Ok(RowConverter::new(types.iter().cloned().map(SortField::new).collect())?)
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
        let converter = converter(&types)?;
        let (index, chunks, free) = (HashTable::new(), Vec::new(), Vec::new());
        Ok(Self { types, converter, index, chunks, free, key_bytes: 0 })
    }

    /// The slot of each row's key, and whether the key is new: such a one begins with the default value.
    ///
    /// # Errors
    /// When the columns are not of the types that the table was made for.
    pub fn slots(&mut self, keys: &[ArrayRef]) -> Result<Vec<(Slot, bool)>> {
        let rows = self.converter.convert_columns(keys)?;
        rows.iter().map(|key| self.slot(key.as_ref())).collect()
    }

    fn slot(&mut self, key: &[u8]) -> Result<(Slot, bool)> {
        let hash = xxh3_64(key);
        let Self { index, chunks, .. } = self;
        let equal = |slot: &Slot| {
            let (chunk, at) = slot.place();
            chunks[chunk].keys.get(at) == key
        };
        if let Some(slot) = index.find(hash, equal) {
            return Ok((*slot, false));
        }
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => self.grow()?,
        };
        let (chunk, at) = slot.place();
        let kept = &mut self.chunks[chunk];
        Arc::make_mut(&mut kept.keys).put(at, key)?;
        Arc::make_mut(&mut kept.values)[at] = V::default();
        kept.changed = true;
        self.key_bytes += key.len();
        let Self { index, chunks, .. } = self;
        index.insert_unique(hash, slot, |slot| {
            let (chunk, at) = slot.place();
            xxh3_64(chunks[chunk].keys.get(at))
        });
        Ok((slot, true))
    }

    /// A slot that was never used.
    fn grow(&mut self) -> Result<Slot> {
        if self.chunks.last().is_none_or(|c| c.values.len() == CHUNK) {
            let keys = Keys { spans: Vec::with_capacity(CHUNK), ..Keys::default() };
            let values = Vec::with_capacity(CHUNK);
            self.chunks.push(Kept { keys: Arc::new(keys), values: Arc::new(values), changed: true });
        }
        let chunk = self.chunks.len() - 1;
        let kept = &mut self.chunks[chunk];
        let at = kept.values.len();
        Arc::make_mut(&mut kept.values).push(V::default());
        Arc::make_mut(&mut kept.keys).spans.push((0, 0));
        Ok(Slot(u32::try_from(chunk * CHUNK + at).map_err(|_| Error::engine("a lane holds 4 billion keys at most"))?))
    }

    /// The value of a slot.
    pub fn get(&self, slot: Slot) -> &V {
        let (chunk, at) = slot.place();
        &self.chunks[chunk].values[at]
    }

    /// The value of a slot, to be changed.
    pub fn get_mut(&mut self, slot: Slot) -> &mut V {
        let (chunk, at) = slot.place();
        let kept = &mut self.chunks[chunk];
        kept.changed = true;
        &mut Arc::make_mut(&mut kept.values)[at]
    }

    /// Forgets a key. Its slot may belong to another one from now on.
    pub fn remove(&mut self, slot: Slot) {
        let (chunk, at) = slot.place();
        let kept = &mut self.chunks[chunk];
        let key = kept.keys.get(at);
        if key.is_empty() {
            return;
        }
        self.key_bytes -= key.len();
        if let Ok(entry) = self.index.find_entry(xxh3_64(key), |other| *other == slot) {
            entry.remove();
        }
        Arc::make_mut(&mut kept.keys).clear(at);
        kept.changed = true;
        self.free.push(slot);
    }

    /// How many keys it holds.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The slots of all keys: those that came early first, as long as none is removed.
    pub fn iter(&self) -> impl Iterator<Item = Slot> + '_ {
        let slot = |chunk: usize, at: usize| u32::try_from(chunk * CHUNK + at).ok().map(Slot);
        self.chunks.iter().enumerate().flat_map(move |(n, c)| c.keys.used().filter_map(move |at| slot(n, at)))
    }

    /// The keys of these slots as columns.
    ///
    /// # Errors
    /// When a key can't be read back, which would be a fault of the table.
    pub fn keys(&self, slots: &[Slot]) -> Result<Vec<ArrayRef>> {
        let bytes = slots.iter().map(|slot| {
            let (chunk, at) = slot.place();
            self.chunks[chunk].keys.get(at)
        });
        columns_of(&self.converter, bytes)
    }

    fn insert(&mut self, keys: &[ArrayRef], values: Vec<V>, rows: usize, owned: &Owned) -> Result<()> {
        let bytes = self.converter.convert_columns(keys)?;
        let mut values = values.into_iter();
        for row in 0..rows {
            let value = values.next().unwrap_or_default();
            let key = bytes.row(row);
            if owned.owns(key_group(key.as_ref())) {
                let (slot, _) = self.slot(key.as_ref())?;
                *self.get_mut(slot) = value;
            }
        }
        Ok(())
    }
}

fn columns_of<'a>(converter: &RowConverter, keys: impl Iterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
    let parser = converter.parser();
    Ok(converter.convert_rows(keys.map(|key| parser.parse(key)))?)
}

/// A chunk at rest: the columns `key_0`, … and `value_0`, ….
fn at_rest<V: Cells>(types: &[DataType], keys: &Keys, values: &[V]) -> Result<RecordBatch> {
    let used: Vec<usize> = keys.used().collect();
    let mut columns = columns_of(&converter(types)?, used.iter().map(|at| keys.get(*at)))?;
    columns.extend(V::columns(&used.iter().map(|at| &values[*at]).collect::<Vec<_>>()));
    let named = |(i, column): (usize, &ArrayRef)| {
        let (name, nullable) =
            if i < types.len() { (format!("key_{i}"), true) } else { (format!("value_{}", i - types.len()), false) };
        Field::new(name, column.data_type().clone(), nullable)
    };
    let schema = Schema::new(columns.iter().enumerate().map(named).collect::<Vec<_>>());
    let options = RecordBatchOptions::new().with_row_count(Some(used.len()));
    Ok(RecordBatch::try_new_with_options(schema.into(), columns, &options)?)
}

impl<V: Cells> Piece for Table<V> {
    fn snapshot(&mut self, whole: bool) -> Result<Snapshot> {
        let freeze = |kept: &mut Kept<V>| {
            if !std::mem::take(&mut kept.changed) && !whole {
                return Chunk::Unchanged;
            }
            let (types, keys, values) = (self.types.clone(), kept.keys.clone(), kept.values.clone());
            Chunk::Changed(Frozen::new(move || at_rest(&types, &keys, &values)))
        };
        Ok(Snapshot(self.chunks.iter_mut().map(freeze).collect()))
    }

    fn restore(&mut self, content: Vec<RecordBatch>, owned: &Owned) -> Result<()> {
        *self = Self::new(self.types.clone())?;
        for batch in content {
            let keys = self.types.len();
            if batch.num_columns() != keys + V::COLUMNS {
                return Err(Error::validation("the saved table has other columns"));
            }
            let fits = |(column, wanted): (&ArrayRef, &DataType)| column.data_type() == wanted;
            if !batch.columns().iter().zip(&self.types).all(fits) {
                return Err(Error::validation("the saved table has keys of other types"));
            }
            let values = V::read(&batch.columns()[keys..])?;
            self.insert(&batch.columns()[..keys], values, batch.num_rows(), owned)?;
        }
        Ok(())
    }

    fn scope(&self) -> Scope {
        Scope::Key
    }

    fn bytes_held(&self) -> usize {
        let slots = self.chunks.len() * CHUNK;
        let in_index = self.index.capacity() * (size_of::<Slot>() + 1);
        self.key_bytes + slots * (size_of::<V>() + size_of::<(u32, u32)>()) + in_index
    }
}

#[cfg(test)]
mod tests;
