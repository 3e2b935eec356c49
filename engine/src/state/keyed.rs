//! Rows held back by a key, such as the half of a run that waits for the other.

use std::sync::Arc;

use arrow::array::StringArray;
use arrow::datatypes::DataType;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use hashbrown::HashMap;

use super::key_group::key_group;
use super::visitor::{Owned, Piece, Scope, Snapshot};
use crate::data::records::bytes_held;
use crate::error::{Error, Result};

/// A batch of rows per text key, the value of the one column that the stage is keyed by. The order of iteration is never seen outside: a snapshot is sorted by key.
#[derive(Clone, Debug, Default)]
pub struct Keyed {
    rows: HashMap<String, RecordBatch>,
    held: usize,
    bytes: usize,
}

impl Keyed {
    /// Puts rows under a key; returns those that were there.
    pub fn insert(&mut self, key: &str, rows: RecordBatch) -> Option<RecordBatch> {
        self.held += rows.num_rows();
        self.bytes += bytes_held(&rows);
        let old = self.rows.insert(key.to_owned(), rows);
        old.inspect(|o| self.forget(o))
    }

    /// Takes the rows of a key.
    pub fn remove(&mut self, key: &str) -> Option<RecordBatch> {
        self.rows.remove(key).inspect(|o| self.forget(o))
    }

    /// Keys held.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether nothing is held.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    fn forget(&mut self, rows: &RecordBatch) {
        self.held -= rows.num_rows();
        self.bytes -= bytes_held(rows);
    }
}

/// At rest each key is one batch whose schema carries the key as metadata `key`.
const KEY: &str = "key";

impl Piece for Keyed {
    fn snapshot(&mut self, _: bool) -> Result<Snapshot> {
        let mut sorted: Vec<_> = self.rows.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        let tagged = |(key, rows): (&String, &RecordBatch)| {
            let mut schema = rows.schema().as_ref().clone();
            schema.metadata.insert(KEY.into(), key.clone());
            Ok(rows.clone().with_schema(schema.into())?)
        };
        Ok(Snapshot::of(sorted.into_iter().map(tagged).collect::<Result<Vec<_>>>()?))
    }

    fn scope(&self) -> Scope {
        Scope::Key
    }

    fn restore(&mut self, content: &mut dyn Iterator<Item = Result<RecordBatch>>, owned: &Owned) -> Result<()> {
        *self = Self::default();
        let converter = RowConverter::new(vec![SortField::new(DataType::Utf8)])?;
        for rows in content {
            let rows = rows?;
            let mut schema = rows.schema().as_ref().clone();
            let key = schema.metadata.remove(KEY).ok_or_else(|| Error::validation("saved rows carry their key"))?;
            let bytes = converter.convert_columns(&[Arc::new(StringArray::from(vec![key.as_str()]))])?;
            if !owned.owns(key_group(bytes.row(0).as_ref())) {
                continue;
            }
            let (_, columns, _) = rows.into_parts();
            self.insert(&key, RecordBatch::try_new(schema.into(), columns)?);
        }
        Ok(())
    }

    fn rows_held(&self) -> usize {
        self.held
    }

    fn bytes_held(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array};

    #[test]
    fn a_snapshot_restores_the_rows_of_each_key() {
        let row = |n| RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![n])) as ArrayRef)]).unwrap();
        let mut keyed = Keyed::default();
        assert!(keyed.insert("b", row(2)).is_none());
        assert!(keyed.insert("a", row(1)).is_none());
        let mut other = Keyed::default();
        other.restore(&mut keyed.snapshot(true).unwrap().batches(), &Owned::ALL).unwrap();
        assert_eq!((other.rows_held(), other.remove("a"), other.remove("a")), (2, Some(row(1)), None));
        assert_eq!((other.rows_held(), other.len()), (1, 1));
    }

    #[test]
    fn each_lane_restores_the_keys_that_it_owns() {
        let row = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1])) as ArrayRef)]).unwrap();
        let mut keyed = Keyed::default();
        (0..100).for_each(|n| drop(keyed.insert(&format!("run-{n}"), row.clone())));
        let lanes: Vec<usize> = (0..3)
            .map(|lane| {
                let mut part = Keyed::default();
                let saved = keyed.snapshot(true).unwrap();
                part.restore(&mut saved.batches(), &Owned { lane, lanes: 3 }).unwrap();
                part.len()
            })
            .collect();
        assert_eq!(lanes.iter().sum::<usize>(), 100);
        assert!(lanes.iter().all(|n| *n > 10), "{lanes:?}");
    }
}
