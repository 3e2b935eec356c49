//! Rows held back by a key, such as the half of a run that waits for the other.

use arrow::record_batch::RecordBatch;
use hashbrown::HashMap;

use super::Piece;
use crate::data::records::bytes_held;
use crate::error::{Error, Result};

/// A batch of rows per text key. The order of iteration is never seen outside: a snapshot is sorted by key.
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
    fn snapshot(&self) -> Result<Vec<RecordBatch>> {
        let mut sorted: Vec<_> = self.rows.iter().collect();
        sorted.sort_by_key(|(key, _)| *key);
        let tagged = |(key, rows): (&String, &RecordBatch)| {
            let mut schema = rows.schema().as_ref().clone();
            schema.metadata.insert(KEY.into(), key.clone());
            Ok(rows.clone().with_schema(schema.into())?)
        };
        sorted.into_iter().map(tagged).collect()
    }

    fn restore(&mut self, content: Vec<RecordBatch>) -> Result<()> {
        *self = Self::default();
        for rows in content {
            let mut schema = rows.schema().as_ref().clone();
            let key = schema.metadata.remove(KEY).ok_or_else(|| Error::validation("saved rows carry their key"))?;
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
    use std::sync::Arc;

    #[test]
    fn a_snapshot_restores_the_rows_of_each_key() {
        let row = |n| RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![n])) as ArrayRef)]).unwrap();
        let mut keyed = Keyed::default();
        assert!(keyed.insert("b", row(2)).is_none());
        assert!(keyed.insert("a", row(1)).is_none());
        let mut other = Keyed::default();
        other.restore(keyed.snapshot().unwrap()).unwrap();
        assert_eq!((other.rows_held(), other.remove("a"), other.remove("a")), (2, Some(row(1)), None));
        assert_eq!((other.rows_held(), other.len()), (1, 1));
    }
}
